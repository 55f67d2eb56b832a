# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the CPU time of the agent's own processes, on Linux and macOS."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from veilleuse.agent.platforms import posix

_BURN = "import sys\nfor _ in range(10**7): pass\nprint(flush=True)\nsys.stdin.read()"


def counted_milliseconds() -> float:
    """Return the CPU time of this process and its ended children by getrusage, in ms."""
    parts = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in parts) * 1_000


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_a_child_counts_while_it_runs_and_once_after_its_end():
    """getrusage counts a child only at its end: the poller, which runs for months, would count as 0."""
    with subprocess.Popen(
        [sys.executable, "-c", _BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as one:
        posix.keep_child(one)
        assert one.stdout is not None
        one.stdout.readline()
        counted = counted_milliseconds()
        fields = Path(f"/proc/{one.pid}/stat").read_text().rpartition(") ")[2].split()
        burnt = (int(fields[11]) + int(fields[12])) * 1_000 / os.sysconf("SC_CLK_TCK")
        assert burnt > 0
        assert posix.cpu_milliseconds() >= counted + burnt - 1
    counted = counted_milliseconds()
    assert counted - 1 <= posix.cpu_milliseconds() <= counted_milliseconds() + 1
