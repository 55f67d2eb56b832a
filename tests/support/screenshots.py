# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`make screenshots`: pictures of every page, of the reports and of `veilleuse top`, in both languages.

Each is taken at three widths. `--data` names a filled data directory; without it, `simulate --preset
metropole` fills one first, which takes minutes.
"""

from __future__ import annotations

import argparse
import fcntl
import io
import itertools
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from PIL import Image
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from tests.support import clock
from tests.support.browser import Browser
from tests.support.stack import Stack, get, program
from tests.support.waiting import comes
from veilleuse.collector.documents.document import LANGUAGES
from veilleuse.collector.web.pages.table import PAGES
from veilleuse.collector.web.sign_in import SIGN_IN

WIDTHS: Final = (360, 1100, 1440)
"""CSS pixels of a page."""
TERMINALS: Final = ((80, 24), (120, 40), (200, 50))
"""Columns and lines of a terminal."""
LOCALES: Final = {"fr": "fr_FR.UTF-8", "en": "en_GB.UTF-8"}
REPORTS: Final = ("emissions", "indicators", "reen")
COLOURS: Final = 64
"""Colours of a picture: flat surfaces and text need no more."""
LONGEST: Final = 4_000
"""Pixels of height that are kept of a long page."""
READY_SECONDS: Final = 180.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pictures; return 0."""
    parser = argparse.ArgumentParser(prog="make screenshots", description=__doc__)
    parser.add_argument("--data", type=Path, help="filled data directory; default: a new simulated one")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="folder of the pictures")
    parser.add_argument("--widths", type=int, nargs="*", default=list(WIDTHS), help="CSS pixels")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="veilleuse-screenshots-") as folder:
        stack = Stack(Path(folder))
        with stack, served(stack, options.data):
            take_pages(stack.url, options.out, options.widths)
            take_reports(stack, options.out, options.widths)
            take_top(stack, options.out)
    return 0


@contextmanager
def served(stack: Stack, data: Path | None) -> Iterator[None]:
    """Serve a copy of the data while the block runs, once its months are released."""
    if data is None:
        stack.must("veilleuse", "init", "--simulated")
        subprocess.run(
            [program("veilleuse"), "simulate", "--preset", "metropole"], env=stack.environment, check=True
        )
    else:
        shutil.copytree(data, stack.data, ignore=shutil.ignore_patterns("*.sock", "lock"))
    stack.start_collector()
    comes(lambda: "veilleuse_fleet_year_" in get(f"{stack.url}metrics"), READY_SECONDS, every=1)
    yield


def take_pages(url: str, out: Path, widths: Sequence[int]) -> None:
    """Write `NAME.LANGUAGE.WIDTH.png` of each page; of one server, that of the first in the list."""
    paths = {page.name: page.path for page in PAGES} | {"sign_in": SIGN_IN, "api": "/api"}
    with Browser() as browser:
        browser.open(f"{url}serveurs")
        found = browser.run(
            "document.querySelector('tbody a')?.getAttribute('href')?.match(/id=(\\w+)/)?.[1]"
        )
        for name, path in paths.items():
            query = f"id={found}&" if path == "/serveur" else ""
            if path == "/serveur" and not found:
                continue
            for language in LANGUAGES:
                for width in widths:
                    browser.resize(width, 900)
                    browser.open(f"{url.rstrip('/')}{path}?{query}lang={language}")
                    take(browser, out / f"{name}.{language}.{width}.png")


def take_reports(stack: Stack, out: Path, widths: Sequence[int]) -> None:
    """Write pictures of the HTML of each report, and of the first page of its PDF."""
    year = clock.today().year
    period = ("--from", f"{year}-01-01", "--to", f"{year + 1}-01-01")
    with Browser() as browser:
        for report in REPORTS:
            for language in LANGUAGES:
                file = stack.folder / f"{report}.{language}.html"
                stack.must(
                    "veilleuse",
                    "report",
                    report,
                    *period,
                    "--format",
                    "html",
                    "--language",
                    language,
                    "-o",
                    str(file),
                )
                for width in widths:
                    browser.resize(width, 900)
                    browser.open(file.as_uri())
                    take(browser, out / f"report-{report}.{language}.{width}.png")


def take_top(stack: Stack, out: Path) -> None:
    """Write `top.LANGUAGE.COLUMNS.png` of `veilleuse top` in terminals of three sizes."""
    with Browser() as browser:
        for language, (columns, lines) in itertools.product(LANGUAGES, TERMINALS):
            console = Console(
                width=columns, height=lines, record=True, file=io.StringIO(), force_terminal=True
            )
            console.print(Text.from_ansi(_on_terminal(stack, language, columns, lines)))
            file = stack.folder / f"top-{language}-{columns}.html"
            file.write_text(console.export_html(theme=MONOKAI), encoding="utf-8")
            browser.resize(columns * 10, lines * 20)
            browser.open(file.as_uri())
            take(browser, out / f"top.{language}.{columns}.png")


def _on_terminal(stack: Stack, language: str, columns: int, lines: int) -> str:
    """Return the screen that `top` draws on a terminal of this size and language."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    terminal = {"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": str(lines)}
    process = subprocess.Popen(
        [program("veilleuse"), "top", "--seconds", "0"],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=stack.environment | terminal | {"LC_ALL": "", "LANGUAGE": "", "LANG": LOCALES[language]},
    )
    os.close(follower)
    written = b""
    with suppress(OSError):  # the terminal ends with the program
        while more := os.read(leader, 65_536):
            written += more
    process.wait()
    os.close(leader)
    text = re.sub(r"\x1b\[\?\d+[hl]|\r", "", written.decode(errors="replace"))
    return text[text.rfind("\x1b[1mVeilleuse") :]


def take(browser: Browser, file: Path) -> None:
    """Write a picture with few colours, cut where it is very long."""
    browser.picture(file)
    with Image.open(file) as picture:
        cut = picture.convert("RGB").crop((0, 0, picture.width, min(picture.height, LONGEST)))
    cut.quantize(COLOURS).save(file, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
