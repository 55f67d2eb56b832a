# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Small disks: a tmpfs that fills up, an ext4 in a file whose power is cut. They need root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.peers import peer

MIB = 2**20


def free_bytes(folder: Path) -> int:
    """What others may still take."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


@contextmanager
def tmpfs(folder: Path, mib: int) -> Iterator[Path]:
    """A disk of so many MiB mounted on `folder` while the block runs; nothing may have a file open there at
    its end."""
    folder.mkdir(mode=0o700, exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={mib}m,mode=0700", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        unmount(folder)


def fill(folder: Path, leave_bytes: int) -> Path:
    """A file that takes all but so much of the disk; delete it to give the space back."""
    filler = folder / "filler"
    with filler.open("ab") as file:
        while (left := free_bytes(folder) - leave_bytes) > 0:
            file.write(bytes(min(left, MIB)))
            file.flush()
    return filler


@contextmanager
def ext4(image: Path, folder: Path, mib: int = 0, options: str = "") -> Iterator[Path]:
    """An ext4 in the file `image` mounted on `folder`; made first, with so many MiB, when `mib` is given."""
    if mib:
        with image.open("wb") as file:
            file.truncate(mib * MIB)
        _run(str(peer("mkfs.ext4")), "-q", "-F", str(image))
    folder.mkdir(mode=0o700, exist_ok=True)
    mount("-o", ",".join(filter(None, ("loop", options))), str(image), str(folder))
    try:
        yield folder
    finally:
        unmount(folder)


def mount(*arguments: str) -> None:
    """mount(8); skips the test when we may not."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it mounts a disk")
    _run("mount", *arguments)


def unmount(folder: Path) -> None:
    """umount(8), lazily: a process that was just killed may still be there."""
    _run("umount", "-l", str(folder))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
