# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the CPU time of the agent's own processes, on Linux and macOS."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from veilleuse.agent.platforms import posix

_BURN = "import sys,time\nwhile time.process_time() < 0.4: pass\nprint(flush=True)\nsys.stdin.read()"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_a_child_counts_while_it_runs_and_once_after_its_end():
    """getrusage counts a child only at its end: the poller, which runs for months, would count as 0."""
    before = posix.cpu_milliseconds()
    with subprocess.Popen(
        [sys.executable, "-c", _BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as one:
        posix.keep_child(one)
        assert one.stdout is not None
        one.stdout.readline()
        fields = Path(f"/proc/{one.pid}/stat").read_text().rpartition(") ")[2].split()
        running = posix.cpu_milliseconds() - before
        assert running >= 10 * (int(fields[11]) + int(fields[12])) >= 390
    ended = posix.cpu_milliseconds() - before
    assert running <= ended < 2 * running
