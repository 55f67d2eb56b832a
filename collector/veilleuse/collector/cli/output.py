# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Where a command writes a file it was asked for: whole or not at all, and nowhere else than where it was told."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from veilleuse.collector.errors import CollectorError, UsageError

STANDARD_OUTPUT = "-"


def write_output(content: bytes, output: str, *, binary: bool) -> None:
    """Write to the file `output`, or to standard output for `-`; `binary`: a terminal cannot show it.

    A file that is there is replaced at once, keeping its mode; a power cut leaves the old one or the new one. Raises UsageError
    for a directory or a terminal, CollectorError when it cannot be written.
    """
    if output == STANDARD_OUTPUT:
        _to_standard_output(content, binary=binary)
        return
    path = Path(output)
    try:
        mode = path.stat().st_mode if path.exists() else None
        if mode is not None and stat.S_ISDIR(mode):
            raise UsageError(f"'{output}' is a directory: give -o the path of a file")
        if mode is not None and not stat.S_ISREG(mode):
            path.write_bytes(content)  # a device or a pipe: /dev/null, /dev/stdout
        else:
            _replace(path.resolve(), content, mode)  # a link stays one: its file is replaced
    except OSError as error:
        raise CollectorError(f"cannot write '{output}': {error.strerror}; give another path to -o") from error


def refuse_terminal(output: str, *, binary: bool) -> None:
    """Before anything is computed. Raises UsageError when the content would go to a terminal that cannot show it."""
    if output == STANDARD_OUTPUT and binary and sys.stdout.isatty():
        raise UsageError("this format is not for a terminal: write it to a file with -o FILE, or into a pipe")


def _to_standard_output(content: bytes, *, binary: bool) -> None:
    refuse_terminal(STANDARD_OUTPUT, binary=binary)
    sys.stdout.flush()
    sys.stdout.buffer.write(content)  # UTF-8 and its own line ends, whatever the terminal is set to
    sys.stdout.buffer.flush()


def _replace(path: Path, content: bytes, mode: int | None) -> None:
    """Through a new file beside it, of an unguessable name, synced before it takes the place."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:32]}.", suffix=".new", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(stat.S_IMODE(mode) if mode is not None else 0o666 & ~_umask())
        draft.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            draft.unlink()
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
