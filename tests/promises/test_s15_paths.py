# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""S15: no name in a report opens a file: nothing is read or written but the requested file."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.support.hostile import combined, everywhere
from tests.support.reported import everything, small
from veilleuse.collector.cli.output import write_output
from veilleuse.collector.documents.document import BINARY, FORMATS, renderer

_watching: list[list[tuple[str, str]]] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    """Note events. Installed once: an audit hook of the interpreter cannot be removed."""
    if not _watching:
        return
    if event == "open" and not isinstance(arguments[0], int):
        writes = bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        _watching[-1].append((os.fsdecode(arguments[0]), "write" if writes else "read"))
    elif event in ("os.rename", "os.remove", "os.mkdir", "os.link", "os.symlink"):
        _watching[-1].append((os.fsdecode(arguments[0]), event))
    elif event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "urllib.Request"):
        _watching[-1].append((repr(arguments)[:200], event))


sys.addaudithook(_hook)


@contextmanager
def watched() -> Iterator[list[tuple[str, str]]]:
    """Yield (path, event) of files opened, renamed or deleted, connections and programs in the block."""
    found: list[tuple[str, str]] = []
    _watching.append(found)
    try:
        yield found
    finally:
        _watching.remove(found)


@cache
def load() -> None:
    """Use every format once, to load its modules, templates, words and fonts."""
    for name in FORMATS:
        renderer(name)(everything())


@pytest.fixture
def exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of the exports and of temporary files, once every format is loaded."""
    load()
    folder = tmp_path / "exports"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.promise("S15")
@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.long)])
def test_500_hostile_names_open_nothing_elsewhere(exports, figure, every):
    """A report with a hostile name in every place, in four formats, writes the requested file alone."""
    assert len(combined()) > 500
    names = combined()[::every]
    for number, name in enumerate(names):
        document = small(everywhere(name))
        form = ("csv", "json", "xlsx", "html")[number % 4]
        with watched() as seen:
            write_output(renderer(form)(document), str(exports / f"out.{form}"), binary=form in BINARY)
        assert elsewhere(seen, exports) == [], name
        assert {one.name for one in exports.iterdir()} <= {f"out.{known}" for known in FORMATS}
    figure(f"0 of {len(names)} names opened a file elsewhere")


@pytest.mark.promise("S15")
def test_a_pdf_fetches_nothing(exports, figure):
    """WeasyPrint with hostile names reads fonts; it fetches, starts and writes nothing elsewhere."""
    names = combined()[::180]
    for name in names:
        with watched() as seen:
            write_output(renderer("pdf")(small(everywhere(name))), str(exports / "out.pdf"), binary=True)
        assert elsewhere(seen, exports) == [], name
    figure(f"0 of {len(names)} names in a PDF fetched anything")


@pytest.mark.promise("S15")
def test_the_watch_sees_a_file_elsewhere(exports, tmp_path):
    """The audit hook notes a file that is written beside the directory."""
    with watched() as seen:
        (tmp_path / "elsewhere").write_text("x")
    assert elsewhere(seen, exports) == [(str(tmp_path / "elsewhere"), "write")]


def elsewhere(seen: list[tuple[str, str]], exports: Path) -> list[tuple[str, str]]:
    """Return events elsewhere than in the directory (or on it, for fsync) and in Python's own files."""
    own = (str(exports), sys.prefix, sys.base_prefix, "/usr/share/zoneinfo")
    return [
        (path, event)
        for path, event in seen
        if event not in ("read", "write", "os.rename", "os.remove")
        or not os.path.realpath(path).startswith(own)
        or (event != "read" and not os.path.realpath(path).startswith(str(exports)))
    ]
