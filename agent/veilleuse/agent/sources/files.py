# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Small kernel files: one value each, read whole."""

from __future__ import annotations

import os

_LARGEST_BYTES = 4096


def read_text(path: str) -> str:
    """The file's text without the final newline. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _LARGEST_BYTES).decode("utf-8", "replace").strip()
    finally:
        os.close(descriptor)


def read_int(path: str) -> int:
    """The file's integer. Raises OSError, or ValueError when it holds something else."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(descriptor, 64)
    finally:
        os.close(descriptor)
    if b"_" in text:  # Python's own notation, no kernel's: 1_000
        raise ValueError(f"{path} holds no integer: {text!r}")
    return int(text)


def text_or_none(path: str) -> str | None:
    """The file's text, None when it cannot be read."""
    try:
        return read_text(path)
    except OSError:
        return None


def int_or_none(path: str) -> int | None:
    """The file's integer, None when it cannot be read or holds something else."""
    try:
        return read_int(path)
    except (OSError, ValueError):
        return None


def inode_or_none(path: str) -> int | None:
    """What tells a folder from another one that took its name since: its number; None when it is gone.

    sysfs never gives a number twice: a driver that was loaded again has folders of other numbers.
    """
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def is_still(path: str, inode: int | None) -> bool:
    """Whether the folder is there, and is the one that had this number."""
    return inode is not None and inode_or_none(path) == inode


def entries(folder: str) -> list[str]:
    """Names in a folder, sorted; none when it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
