# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`init` killed at any moment leaves nothing that needs a hand: the same command carries it on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = r"""
import os, signal, sys
from pathlib import Path
from tests.machines import settings_in
from veilleuse.collector.assembly import initialise, is_initialised, open_collector
from veilleuse.collector.errors import CollectorError

OURS = ("/collector/assembly.py", "/enrolment/authority.py", "/enrolment/forms.py", "/store/sqlite/")


def killed_after(lines):
    # Dies at that line of ours; counts them all with -1.
    seen = 0

    def trace(frame, event, argument):
        nonlocal seen
        if not any(part in frame.f_code.co_filename for part in OURS):
            return None
        seen += event == "line"
        if seen == lines:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    return lambda: seen


def in_child(work):
    if (pid := os.fork()) == 0:
        try:
            work()
        except CollectorError as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def cut(settings, lines):
    killed_after(lines)
    initialise(settings, site="Lyon")


def count(settings):
    seen = killed_after(-1)
    initialise(settings, site="Lyon")
    sys.settrace(None)
    (settings.data_dir.parent / "lines").write_text(str(seen()))


def sound(settings):
    order = {"org_entity": "DSI", "site": "Lyon", "population": "server"}
    with open_collector(settings) as collector:
        collector.operations.perform("token_create", order)


folder, moments = Path(sys.argv[1]), int(sys.argv[2])
whole = settings_in(folder / "whole")
whole.data_dir.parent.mkdir()
assert in_child(lambda: count(whole)) == 0
lines = int((folder / "whole/lines").read_text())
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


def test_init_killed_at_any_moment_is_carried_on(tmp_path):
    """40 moments spread over all lines of ours; each cut twice; afterwards a token can be made, and nothing is repaired."""
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path), "40"],
        cwd=root,
        env={"PYTHONPATH": f"{root}:{root}/proto:{root}/agent:{root}/collector", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines, carried_on = map(int, done.stdout.split()[-2:])
    assert lines > 100
    assert carried_on > 20
