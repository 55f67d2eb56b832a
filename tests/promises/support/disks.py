# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Small disks: a tmpfs that fills up, an ext4 in a file whose power is cut. Both need root."""

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
    """Return the bytes that unprivileged users may still take."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


@contextmanager
def tmpfs(folder: Path, mib: int) -> Iterator[Path]:
    """Mount a tmpfs of `mib` MiB on `folder` while the block runs."""
    folder.mkdir(mode=0o700, exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={mib}m,mode=0700", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        unmount(folder)


def fill(folder: Path, leave_bytes: int) -> Path:
    """Return a file that fills all but `leave_bytes` of the disk; deleting it frees the space."""
    filler = folder / "filler"
    with filler.open("ab") as file:
        while (left := free_bytes(folder) - leave_bytes) > 0:
            file.write(bytes(min(left, MIB)))
            file.flush()
    return filler


@contextmanager
def ext4(image: Path, folder: Path, mib: int = 0, options: str = "") -> Iterator[Path]:
    """Mount the ext4 in the file `image` on `folder`; with `mib`, make it first, of so many MiB."""
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
    """Run mount(8); skip the test without root."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it mounts a disk")
    _run("mount", *arguments)


def unmount(folder: Path) -> None:
    """Run umount(8), lazily: a process that was just killed may still use the disk."""
    _run("umount", "-l", str(folder))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
