# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Where tests keep their files: in memory where there is room, for nearly all of them wait for nothing but
the disk.

A killed process leaves the same files there as on a disk, so nothing that a test can see is lost. What a disk
alone can show (how long a promise takes, a power cut, a full disk) is in tests/promises, which stay on it.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

MEMORY: Final = Path("/dev/shm")
NEEDED_BYTES: Final = 2 * 2**30
"""Folders of tests that passed go at once; the largest test keeps some 200 MB."""
_PREFIX: Final = "veilleuse-tests-"


def place() -> Path | None:
    """A folder of this process in memory, not made yet; None where memory is small (a container's 64 MB) or
    runs no program.

    What earlier processes left there goes.
    """
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
    """Whether it is there."""
    return folder is not None and Path(folder).is_relative_to(MEMORY)


def _sweep() -> None:
    """Remove what processes of ours left that are gone."""
    for folder in MEMORY.glob(f"{_PREFIX}*"):
        number = folder.name.removeprefix(_PREFIX)
        if number.isdecimal() and not psutil.pid_exists(int(number)):
            with suppress(OSError):  # another user's
                shutil.rmtree(folder)
