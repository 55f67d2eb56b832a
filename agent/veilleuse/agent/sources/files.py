# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads small kernel files of one value each."""

from __future__ import annotations

import os

_LARGEST_BYTES = 4096


def read_text(path: str) -> str:
    """Return the file's text without the final newline. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _LARGEST_BYTES).decode("utf-8", "replace").strip()
    finally:
        os.close(descriptor)


def read_int(path: str) -> int:
    """Return the file's integer. Raises OSError, or ValueError when the file holds something else."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(descriptor, 64)
    finally:
        os.close(descriptor)
    if b"_" in text:  # Python accepts 1_000, a kernel never writes it
        raise ValueError(f"{path} holds no integer: {text!r}")
    return int(text)


def text_or_none(path: str) -> str | None:
    """Return the file's text; None when it cannot be read."""
    try:
        return read_text(path)
    except OSError:
        return None


def int_or_none(path: str) -> int | None:
    """Return the file's integer; None when it cannot be read or holds something else."""
    try:
        return read_int(path)
    except (OSError, ValueError):
        return None


def inode_or_none(path: str) -> int | None:
    """Return the inode number of a folder; None when the folder is gone.

    sysfs never uses a number twice. After a driver was loaded again its folders have other numbers, even
    under the same names.
    """
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def is_still(path: str, inode: int | None) -> bool:
    """Tell whether the folder exists and still has this inode number."""
    return inode is not None and inode_or_none(path) == inode


def entries(folder: str) -> list[str]:
    """Return the sorted names in a folder; none when it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
