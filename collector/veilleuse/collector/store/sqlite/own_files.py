# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Checks, before a commit is acknowledged, that SQLite writes to the files at the paths of the database.

SQLite does not check: it writes on in a removed file, and commits. Three checks take some 80 µs for a commit
of 64 pushes (0.3 %). Each file at its path is the inode that was opened. No file has become shorter. No other
process has closed a file that was open for writing. The index is also checked before each commit: a writer
that follows another process's index overwrites committed frames in the WAL.
"""

from __future__ import annotations

import ctypes
import logging
import os
import struct
import sys
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

from veilleuse.collector.errors import StoreFailing, StoreLost

log = logging.getLogger(__name__)

_MODIFY: Final = 0x2
_CLOSE_WRITE: Final = 0x8
_MOST_EVENTS_BYTES: Final = 64 * 1024
_EVENT: Final = struct.Struct("=iIII")
"""Watch, mask, cookie, length of a name in bytes. Source: inotify(7)."""
_INDEX: Final = struct.Struct("=16xI12x8s")
"""Number of frames in the WAL, and its salts, in the first 40 bytes of the index.

Source: sqlite.org/walformat.html.
"""
_COUNT: Final = struct.Struct("=I")
_COUNT_AT: Final = 16
_PART_BYTES: Final = 32 * 1024
_PART_FRAMES: Final = 4096
_FIRST_PART_LACKS: Final = 34
"""An index consists of parts with room for so many frames; a header takes the room of some in the first."""
_WAL_HEADER_BYTES: Final = 32
_FRAME_HEADER_BYTES: Final = 24
_PIECE_BYTES: Final = 256 * 1024

_AGAIN: Final = "look who did it, then start 'veilleuse serve' again"


class OwnFiles:
    """Checks one database of this process, its WAL and the WAL's index."""

    def __init__(self, path: Path, page_bytes: int) -> None:
        """For a database that this process has opened for writing. Raises OSError."""
        self.path = path
        self._wal, self._index = (path.with_name(f"{path.name}{end}") for end in ("-wal", "-shm"))
        self._ids = {each: _id(each.stat()) for each in (path, self._wal, self._index)}
        self._descriptors = dict(_descriptors(self._ids.values()))
        self._size, self._changed_at = path.stat().st_size, path.stat().st_mtime_ns
        self._may_shrink_to = sys.maxsize
        self._signs: list[tuple[bool, bool]] = []
        self._frame_bytes = _FRAME_HEADER_BYTES + page_bytes
        self._salts, self._wal_bytes, self._wal_size, self._wal_crc = b"", 0, 0, 0
        self._index_size = self._index.stat().st_size
        self._closings = _Events((path, self._wal), _CLOSE_WRITE)
        self._writings = _Events((self._index,), _MODIFY)
        self._follow_wal(*self._frames())

    def close(self) -> None:
        """End the watches; SQLite keeps its own descriptors."""
        self._closings.close()
        self._writings.close()

    @property
    def is_gone(self) -> bool:
        """Tell whether the database's file was removed or replaced: only this process still sees it."""
        return os.fstat(self._descriptors[self._ids[self.path]]).st_nlink == 0

    def let_shrink(self, size: int) -> None:
        """Allow the database to shrink to `size` bytes: this process has rewritten it, and a later checkpoint
        cuts it.
        """
        self._may_shrink_to = size

    @property
    def wal_frames(self) -> int:
        """Return the number of committed frames in the WAL, at the last check."""
        return self._wal_bytes // self._frame_bytes

    def check_index(self) -> None:
        """Raise StoreLost when another program wrote to the index.

        SQLite writes to the index through memory, which raises no event; it writes to the file only to make
        it longer, 32 KiB at a time.
        """
        written = bool(self._writings.read())
        size = os.fstat(self._descriptors[self._ids[self._index]]).st_size
        if size < self._index_size or (written and size == self._index_size):
            raise StoreLost(
                self._index, "was written by another program", self._whole(" with its WAL"), index_only=True
            )
        self._index_size = size

    def bound_index(self) -> None:
        """Let the index count no more frames than it has room for. Call it before a rollback.

        A rollback does not verify this number, and makes the index as long as it says: up to 32 GiB, or
        all the mappings that a process may have. Source: `sqlite3WalUndo` in SQLite's wal.c.
        """
        index = self._descriptors[self._ids[self._index]]
        with suppress(OSError):  # the rollback is due in any case
            parts = os.fstat(index).st_size // _PART_BYTES
            room = parts * _PART_FRAMES - _FIRST_PART_LACKS
            if parts and self._frames()[0] > room:
                os.pwrite(index, _COUNT.pack(room), _COUNT_AT)

    def check(self) -> None:
        """Raise StoreLost when one of the three is another file, is shorter than before, or was written by
        others.
        """
        changed = False
        for each, known in self._ids.items():
            try:
                here = each.stat()
            except (FileNotFoundError, NotADirectoryError):
                self._gone(each, replaced=False)
            if _id(here) != known:
                self._gone(each, replaced=True)
            if each == self.path:
                if here.st_size < min(self._size, self._may_shrink_to):
                    raise StoreLost(each, "was truncated", _damaged(each))
                if here.st_size < self._size:
                    self._may_shrink_to = sys.maxsize
                changed = here.st_mtime_ns != self._changed_at
                self._size, self._changed_at = here.st_size, here.st_mtime_ns
        self.check_index()
        closed = self._closings.read()
        if self._is_written(closed=self.path in closed, changed=changed):
            raise StoreLost(self.path, "was written by another program", _damaged(self.path))
        self._check_wal(written=self._wal in closed)

    def _is_written(self, *, closed: bool, changed: bool) -> bool:
        """Tell whether a program that closed the database also changed it.

        A program may open it for writing and only read, as `sqlite3` does. The two events of one write may
        come in two checks. Our own checkpoints change the file too: a reader that closes then counts as a
        writer.
        """
        self._signs = [*self._signs[-1:], (closed, changed)]
        return any(one for one, _ in self._signs) and any(one for _, one in self._signs)

    def _gone(self, each: Path, *, replaced: bool) -> NoReturn:
        """Raise StoreLost: `each` is missing at its path, or another file is there."""
        what = "was replaced by another file" if replaced else "was removed"
        if each != self.path:
            raise StoreLost(each, what, self._whole())
        if self.is_gone:
            raise StoreLost(each, what, "", rescue=True)
        remedy = "put it back, nothing of it is lost; then start 'veilleuse serve' again"
        raise StoreLost(each, what if replaced else "was moved away", remedy)

    def _whole(self, more: str = "") -> str:
        return f"{self.path.name}{more} has all of it: {_AGAIN}"

    def _check_wal(self, *, written: bool) -> None:
        """Read the whole WAL again: readers close it after use, as a foreign program does."""
        wal, (frames, salts) = self._descriptors[self._ids[self._wal]], self._frames()
        same = salts == self._salts  # otherwise it has restarted: its earlier frames are in the database
        what = ""
        if os.fstat(wal).st_size < max(self._end(frames), self._wal_size if same else 0):
            what = "was truncated"
        elif written and same and _crc(wal, 0, self._wal_bytes, 0) != self._wal_crc:
            what = "was written by another program"
        if what:
            self.check_index()  # a wrong index also counts more frames than the WAL has
            raise StoreLost(self._wal, what, "", rescue=True)
        self._follow_wal(frames, salts)

    def _follow_wal(self, frames: int, salts: bytes) -> None:
        """Add the frames since the last check to the checksum; a WAL that has restarted has other salts."""
        wal, end = self._descriptors[self._ids[self._wal]], self._end(frames)
        if salts != self._salts or end < self._wal_bytes:
            self._salts, self._wal_bytes, self._wal_crc = salts, 0, 0
        self._wal_crc = _crc(wal, self._wal_bytes, end, self._wal_crc)
        self._wal_bytes, self._wal_size = end, os.fstat(wal).st_size

    def _frames(self) -> tuple[int, bytes]:
        """Return the number of committed frames and the salts, from the index, which only this process
        writes.
        """
        frames, salts = _INDEX.unpack(os.pread(self._descriptors[self._ids[self._index]], _INDEX.size, 0))
        return frames, salts

    def _end(self, frames: int) -> int:
        return _WAL_HEADER_BYTES + frames * self._frame_bytes if frames else 0


class StoreFiles:
    """Checks the files of both databases. A loss stays until the process restarts."""

    def __init__(self, *each: OwnFiles) -> None:
        self._each = each
        self.lost: StoreLost | None = None

    def require(self) -> None:
        """Raise StoreLost after a loss."""
        if self.lost is not None:
            raise self.lost

    def check(self) -> None:
        """Check all files. Raises StoreLost, or StoreFailing when the folder cannot be read."""
        self._look(OwnFiles.check)

    def check_index(self) -> None:
        """Check the indexes before a commit. Raises the errors of `check`."""
        self._look(OwnFiles.check_index)

    def gone(self) -> set[Path]:
        """Return the databases that only this process still sees. Raises OSError."""
        gone = {one.path for one in self._each if one.is_gone}
        return gone | {self.lost.database} if self.lost is not None and self.lost.rescue else gone

    def _look(self, at: Callable[[OwnFiles], None]) -> None:
        self.require()
        try:
            for one in self._each:
                at(one)
        except StoreLost as error:
            self.lost = error
            raise
        except OSError as error:
            raise StoreFailing(
                f"cannot look at the database's files ({error}): look at the disk and the rights"
            ) from error

    def close(self) -> None:
        """End the watches."""
        for one in self._each:
            one.close()


def _damaged(path: Path) -> str:
    return (
        "stop what wrote it and start 'veilleuse serve' again: it checks the file ('veilleuse doctor' does one of more than 64 MiB); "
        f"only if that says damaged, restore a backup or rescue what is readable with `sqlite3 {path.name} .recover`"
    )


def _id(facts: os.stat_result) -> tuple[int, int]:
    return facts.st_dev, facts.st_ino


def _descriptors(wanted: Iterable[tuple[int, int]]) -> Iterable[tuple[tuple[int, int], int]]:
    """Yield SQLite's own descriptor of each file. Raises OSError.

    Closing a descriptor of our own would release SQLite's locks on that file (fcntl(2)).
    """
    left = set(wanted)
    for number in sorted((int(path.name) for path in Path("/proc/self/fd").iterdir()), reverse=True):
        with suppress(OSError):  # the descriptor of the listing, closed by now
            if (found := _id(os.fstat(number))) in left:
                left.discard(found)
                yield found, number
    if left:
        raise FileNotFoundError("SQLite has not opened one of its files")


def _crc(descriptor: int, start: int, end: int, crc: int) -> int:
    for at in range(start, end, _PIECE_BYTES):
        crc = zlib.crc32(os.pread(descriptor, min(_PIECE_BYTES, end - at), at), crc)
    return crc


class _Events:
    """Reports the files that any process has changed: inotify(7), through the C library."""

    def __init__(self, paths: Iterable[Path], mask: int) -> None:
        """Logs it when the kernel gives no watch."""
        library = ctypes.CDLL(None, use_errno=True)
        self._descriptor = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._watches = {
            library.inotify_add_watch(self._descriptor, os.fsencode(path), mask): path for path in paths
        }
        self._mask = mask
        if -1 in self._watches:
            reason = os.strerror(ctypes.get_errno())
            log.warning("writing by other programs is not noticed", extra={"reason": reason})

    def read(self) -> set[Path]:
        """Return the files with events since the last call."""
        try:
            told = os.read(self._descriptor, _MOST_EVENTS_BYTES) if self._descriptor >= 0 else b""
        except BlockingIOError:
            return set()
        found, at = set(), 0
        while at < len(told):
            watch, mask, _, length = _EVENT.unpack_from(told, at)
            at += _EVENT.size + length
            if mask & self._mask:
                found.add(self._watches[watch])
        return found

    def close(self) -> None:
        """End the watches."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
