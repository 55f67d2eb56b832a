# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A restore killed at any line leaves the old directory, or one that the next restore completes."""

from __future__ import annotations

import pytest

from tests.support.killing import run_program

PROGRAM = r"""
import os, shutil, signal, sys
from pathlib import Path
from tests.support.backups import add_tokens, content_of, directory, make_backup, put_back, tokens_in
from tests.support.killing import dies_at, in_child, lines_of
from tests.support.machines import settings_in
from veilleuse.collector.app.data_directory import initialise, open_collector
from veilleuse.collector.errors import CollectorError, DataDirectoryError

OURS = ("/collector/backup/", "/enrolment/forms.py", "/store/directory.py", "/store/sqlite/connection.py")


def open_once(settings):
    with open_collector(settings):
        pass


def refused(settings):
    for opening in (open_once, lambda settings: initialise(settings)):
        try:
            opening(settings)
        except DataDirectoryError as error:
            assert "half restored" in str(error) and "veilleuse restore" in str(error), error
        else:
            raise AssertionError("a half restored directory was opened")


def cut(settings, backup, line):
    dies_at(line, OURS)
    put_back(settings, backup)


folder, moments = Path(sys.argv[1]), int(sys.argv[2])
origin = directory(folder / "origin", tokens=2)
backup = make_backup(origin, folder / "backup")
add_tokens(origin, 3)
untouched = content_of(origin.data_dir)


def copied(name):
    settings = settings_in(folder / name)
    shutil.copytree(origin.data_dir, settings.data_dir)
    return settings


lines = lines_of(lambda: put_back(copied("whole"), backup), OURS, folder / "lines")
half, old, new = 0, 0, 0
for moment in range(moments):
    settings = copied(str(moment))
    at = 1 + moment * lines // moments
    assert in_child(lambda: cut(settings, backup, at)) == -signal.SIGKILL, at
    data_dir = settings.data_dir
    if (data_dir / "restore.taking").exists() or (data_dir / "restore.placing").exists():
        half += 1
        assert in_child(lambda: refused(settings)) == 0, at
        for again in (3, 30, 60):  # cut again while it is carried on
            in_child(lambda: cut(settings, None, again))
        if (data_dir / "restore.taking").exists() or (data_dir / "restore.placing").exists():
            assert in_child(lambda: put_back(settings, None if moment % 2 else backup)) == 0, at
        new += 1
    elif tokens_in(data_dir) == 5:
        old += 1
        now = content_of(data_dir)
        assert {name: now.get(name) for name in untouched} == untouched, at
        assert in_child(lambda: open_once(settings)) == 0, at
        assert in_child(lambda: put_back(settings, backup)) == 0, at
    else:
        new += 1
    assert tokens_in(data_dir) == 2, at
    assert in_child(lambda: open_once(settings)) == 0, at
    (replaced,) = data_dir.glob("replaced-*")
    kept = content_of(replaced)
    assert {n: h for n, h in kept.items() if not n.endswith(".db")} == {
        n: h for n, h in untouched.items() if not n.endswith((".db", "register.jsonl", ".publications"))
    }, at
    assert tokens_in(replaced) == 5, at
    shutil.rmtree(settings.data_dir.parent)
print(lines, half, old, new)
"""


@pytest.mark.any_date
@pytest.mark.parametrize("moments", [24, pytest.param(60, marks=pytest.mark.long)])
def test_a_restore_killed_at_any_line_loses_nothing(tmp_path, moments):
    """A half-restored directory is never opened. Each case ends with the whole new directory and the whole
    old one beside it.
    """
    lines, half, old, new = map(int, run_program(PROGRAM, str(tmp_path), str(moments)).split()[-4:])
    assert lines > 300
    assert half >= moments / 12
    assert old >= moments / 4
    assert old + new == moments
