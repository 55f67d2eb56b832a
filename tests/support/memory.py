# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Choose where tests keep their files: in memory if there is room, because most tests wait only for the disk.

A killed process leaves the same files in memory as on a disk. Tests of what only a disk shows (latency, a
power cut, a full disk) are in tests/promises, which stay on disk."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

MEMORY: Final = Path("/dev/shm")
NEEDED_BYTES: Final = 2 * 2**30
"""The folder of a passed test is removed at once; the largest test keeps about 200 MB."""
_PREFIX: Final = "veilleuse-tests-"


def place() -> Path | None:
    """Return a folder in memory for this process, not created yet. None where memory is too small (64 MB in a
    container) or programs cannot run from it. Folders of ended processes are removed."""
    try:
        disk = os.statvfs(MEMORY)
        if os.access(MEMORY, os.W_OK | os.X_OK) and not disk.f_flag & os.ST_NOEXEC:
            _sweep()
            room = min(disk.f_bavail * disk.f_frsize, psutil.virtual_memory().available // 2)
            if room >= NEEDED_BYTES:
                return MEMORY / f"{_PREFIX}{os.getpid()}"
    except (OSError, AttributeError):  # not Linux
        pass
    return None


def is_in(folder: Path | str | None) -> bool:
    """Return whether a folder is in memory; false for None."""
    return folder is not None and Path(folder).is_relative_to(MEMORY)


def _sweep() -> None:
    """Remove the folders of test processes that have ended."""
    for folder in MEMORY.glob(f"{_PREFIX}*"):
        number = folder.name.removeprefix(_PREFIX)
        if number.isdecimal() and not psutil.pid_exists(int(number)):
            with suppress(OSError):  # another user's
                shutil.rmtree(folder)
