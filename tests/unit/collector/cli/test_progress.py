# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Bars are for a terminal on standard error: the time left where it is known, else the name of the step."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress

from tests.support.waiting import PATIENCE_SECONDS
from veilleuse.collector.cli.backup import _CountedFile
from veilleuse.collector.cli.progress import shown_progress, shown_step

PROGRAM = """
import itertools, sys
from functools import partial
import rich.progress
from veilleuse.collector.cli.progress import shown_progress
class Progress(rich.progress.Progress):  # each step takes a second and is drawn
    seconds = 0
    def __init__(self, *columns, **options):
        super().__init__(*columns, **options, get_time=lambda: self.seconds)
    def update(self, *step, **options):
        super().update(*step, **options)
        self.seconds += 1
        self.refresh()
rich.progress.Progress = Progress
with shown_progress(is_shown=sys.argv[1] == "shown") as show:
    show("copying the databases", 0, 0)
    for done in range(5):
        show("writing the backup", done, 4)
print("result")
"""


def on_a_terminal(*words: str, **variables: str) -> tuple[str, str]:
    """Run the program with standard error on a pseudo-terminal; return (standard output, what was shown)."""
    main, child = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100", "PYTHONUTF8": "1"} | variables
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words], stdout=subprocess.PIPE, stderr=child, env=environment
    )
    os.close(child)
    seen = b""
    with suppress(OSError):  # EIO: the other side is closed
        while more := os.read(main, 65536):
            seen += more
    out, _ = process.communicate(timeout=PATIENCE_SECONDS)
    os.close(main)
    assert process.returncode == 0
    return out.decode(), re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())


def test_steps_and_bars_are_shown_on_a_terminal():
    """A step without an end runs until the next one begins; a bar has percent and time left; both go away."""
    out, shown = on_a_terminal("shown")
    assert out == "result\n"
    assert "copying the databases" in shown
    assert "✓ copying the databases" in shown
    assert re.search(r"writing the backup .* 50% 0:00:02", shown)
    assert shown.index("copying") < shown.index("writing")


def test_steps_are_french_in_a_french_locale():
    """The names of steps are in the catalogue."""
    _, shown = on_a_terminal("shown", LC_ALL="fr_FR.UTF-8")
    assert "copie des bases" in shown
    assert "écriture de la sauvegarde" in shown
    assert "copying" not in shown


def test_nothing_is_shown_with_json():
    """`--json`: also on a terminal."""
    assert on_a_terminal("hidden") == ("result\n", "")


def test_nothing_is_shown_without_a_terminal(capfd):
    """A pipe, a file or a journal gets no bar."""
    with shown_progress() as show, shown_step("another"):
        show("step", 1, 2)
    assert capfd.readouterr() == ("", "")


def test_a_counted_file_passes_everything_on():
    """What is written arrives, and the bytes so far are told."""
    told: list[int] = []
    below = io.BytesIO()
    file = _CountedFile(below, told.append)
    assert [file.write(b"abc"), file.write(b""), file.write(b"defg")] == [3, 0, 4]
    assert below.getvalue() == b"abcdefg"
    assert told == [3, 3, 7]
