# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What the agent itself costs, as an ordinary reading."""

from __future__ import annotations

import os
import resource
from typing import Final, NamedTuple

_PAGE_BYTES: Final = resource.getpagesize()


class OwnUsage(NamedTuple):
    """Of this process and of its finished children (the senders)."""

    cpu_milliseconds: int
    """CPU time since this process started; only grows."""
    rss_bytes: int
    """Resident set now, of this process alone; 0 = not readable."""


def own_usage() -> OwnUsage:
    """What has been used up to now. Source: getrusage(2), proc_pid_statm(5)."""
    mine = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = mine.ru_utime + mine.ru_stime + children.ru_utime + children.ru_stime
    return OwnUsage(round(seconds * 1000), _rss_bytes())


def _rss_bytes() -> int:
    # Not ru_maxrss: it starts at the peak of the process that forked us.
    try:
        descriptor = os.open("/proc/self/statm", os.O_RDONLY)
    except OSError:
        return 0
    try:
        return int(os.read(descriptor, 128).split()[1]) * _PAGE_BYTES
    finally:
        os.close(descriptor)
