# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests that `init`, killed at any moment, needs no repair: the same command completes the directory."""

from __future__ import annotations

import pytest

from tests.support.killing import run_program

PROGRAM = r"""
import signal, sys
from pathlib import Path
from tests.support.killing import dies_at, in_child, lines_of
from tests.support.machines import settings_in
from veilleuse.collector.app.data_directory import initialise, is_initialised, open_collector

OURS = ("/collector/assembly.py", "/enrolment/authority.py", "/enrolment/forms.py", "/store/sqlite/")


def cut(settings, line):
    dies_at(line, OURS)
    initialise(settings, site="Lyon")


def sound(settings):
    order = {"org_entity": "DSI", "site": "Lyon", "population": "server"}
    with open_collector(settings) as collector:
        collector.operations.perform("token_create", order)


folder, moments = Path(sys.argv[1]), int(sys.argv[2])
whole = settings_in(folder / "whole")
whole.data_dir.parent.mkdir()
lines = lines_of(lambda: initialise(whole, site="Lyon"), OURS, folder / "lines")
carried_on = 0
for moment in range(moments):
    settings = settings_in(folder / str(moment))
    settings.data_dir.parent.mkdir()
    at = 1 + moment * lines // moments
    assert in_child(lambda: cut(settings, at)) == -signal.SIGKILL, at
    for _ in range(2):  # cut once more while it is carried on
        if not is_initialised(settings.data_dir):
            carried_on += 1
            assert in_child(lambda: cut(settings, 1 + (lines - at) // 2)) == -signal.SIGKILL, at
    if not is_initialised(settings.data_dir):
        assert in_child(lambda: initialise(settings, site="Lyon")) == 0, at
    assert in_child(lambda: sound(settings)) == 0, at
print(lines, carried_on)
"""


@pytest.mark.any_date
@pytest.mark.parametrize("moments", [14, pytest.param(60, marks=pytest.mark.long)])
def test_init_killed_at_any_moment_is_carried_on(tmp_path, moments):
    """`init` killed at moments spread over our lines, most of them twice more, still leads to a collector
    that makes a token."""
    lines, carried_on = map(int, run_program(PROGRAM, str(tmp_path), str(moments)).split()[-2:])
    assert lines > 100
    assert carried_on > moments / 2
