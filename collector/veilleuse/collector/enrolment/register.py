# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The register: a file outside the backups that records admissions and exclusions.

Sources: docs/wire.md §6, decision 0013. It has one JSON object per line, appended and fsynced before the
commit of the change. A collector restored from a backup thus learns of later changes. Fields of a line:

- `n`: its number, which only grows. The registry keeps the number and hash of the last line that it contains.
  A higher line is new to the registry, a lower one is skipped. If that line is absent, this is another file:
  it was restored, or lost its end. Its numbers then mean nothing, and all lines are read.
- `of`: the data directory to which it belongs. Lines of other directories are left alone.
- `kind`: one of those below, with its facts. No name but that of an account (of a use), no time of a machine
  finer than a day.

A job that is undone leaves its line behind. A line that admits (`PERMISSIVE`) therefore only counts after a
`done` line, which says that it was committed. A line that excludes counts at once.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from veilleuse.collector.errors import ConfigurationError, StoreFailing
from veilleuse.wire.files import open_owned, read_owned, remove_owned, rename_owned, sync_folder

log = logging.getLogger(__name__)

FILE: Final = "register.jsonl"
MOST_BYTES: Final = 512 << 20
"""Largest size: some two million lines; the file is rewritten as it grows."""
NUMBER_NOTE: Final = "register_line"
"""Key in the table meta: `number:hash` of the last line contained in the registry; see `known_line`."""
DONE: Final = "done"
SITE, TOKEN, TOKEN_REVOKED = "site", "token", "token_revoked"
HOST, ADMITTED, EXCLUDED, FORGOTTEN = "host", "admitted", "excluded", "forgotten"
ACCOUNT, ACCOUNT_REVOKED = "account", "account_revoked"
PERMISSIVE: Final = frozenset({SITE, TOKEN, HOST, ADMITTED, ACCOUNT})
KINDS: Final = PERMISSIVE | {TOKEN_REVOKED, EXCLUDED, FORGOTTEN, ACCOUNT_REVOKED}

Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Contents:
    """Content of a register file for one data directory."""

    lines: tuple[Line, ...] = ()
    """Lines in order, without `done` lines."""
    done: frozenset[int] = frozenset()
    """Numbers of lines that are known to be committed."""
    others: tuple[str, ...] = ()
    """Lines of other data directories, unchanged."""
    unreadable: int = 0
    """Number of invalid lines, without a torn last one."""
    missing: bool = False

    @property
    def last(self) -> int:
        """Highest number; 0 when there is none."""
        return max((int(line["n"]) for line in self.lines), default=0)

    def is_continued(self, known: int, line_hash: str) -> bool:
        """Return True when this file contains the registry's line `known`, or was rewritten since."""
        if not self.lines:
            return known == 0
        return int(self.lines[0]["n"]) > known or any(
            line["n"] == known and hash_of(line) == line_hash for line in self.lines
        )


def hash_of(line: Line) -> str:
    """Return a hash that distinguishes lines of the same number; 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(line, sort_keys=True).encode()).hexdigest()[:16]


def known_line(note: str) -> tuple[int, str]:
    """Parse NUMBER_NOTE into (number, hash); (0, "") when absent.

    The hash is empty when a change was not noted.
    """
    number, _, line_hash = note.partition(":")
    return (int(number), line_hash) if number.isdecimal() else (0, "")


def read(path: Path, of: int) -> Contents:
    """Read the lines of a data directory. Invalid content never raises; an unreadable file OSError."""
    try:
        text = read_owned(path, MOST_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return Contents(missing=True)
    whole = text.split("\n")
    torn = whole.pop()  # empty when the last line is complete
    lines: list[Line] = []
    done: list[tuple[int, int]] = []
    others: list[str] = []
    unreadable = 0
    for one in filter(None, whole):
        parsed = _parse_line(one)
        if parsed is None:
            unreadable += 1
        elif parsed["of"] != of:
            others.append(one)
        elif parsed["kind"] == DONE:
            done.append((parsed["n"], parsed["last"]))
        else:
            lines.append(parsed)
    if torn:
        log.warning("register ends in the middle of a line", extra={"path": str(path)})
    lines.sort(key=_number)
    return Contents(tuple(lines), _numbers_within(lines, done), tuple(others), unreadable)


class Register:
    """Appends to the register file. Thread-safe."""

    def __init__(self, path: Path, of: int, last: int, *, complete: bool = True, trouble: str = "") -> None:
        """`of`: creation time of the data directory, Unix ms. `last`: numbers up to it are not given again.

        `complete`: the file contains all changes of the registry. `trouble`: reason why the file was
        unreadable; then nothing is appended to lines that were not read.
        """
        self.path = path
        self._of = of
        self._last = last
        self._last_hash = ""
        self._complete = complete
        self._trouble = trouble
        self._lock = threading.Lock()

    @property
    def note(self) -> str:
        """Value for NUMBER_NOTE after an append.

        Without hash when the next start has to read and complete the file.
        """
        return f"{self._last}:{self._last_hash if self._complete else ''}"

    def mark_incomplete(self) -> None:
        """Record that a change is missing in the file."""
        self._complete = False

    def find_trouble(self) -> str:
        """Return why the next change could not be noted; empty when it could.

        The file must be there and take lines, and its folder a new file: `rewrite` replaces the file.
        """
        folder = self.path.parent
        try:
            os.close(open_owned(self.path, os.O_RDWR | os.O_APPEND))
            is_full = os.statvfs(folder).f_bavail == 0
        except OSError as error:
            return error.strerror or str(error)
        if not os.access(folder, os.W_OK | os.X_OK):
            return f"no file can be made in {folder}"
        return os.strerror(errno.ENOSPC) if is_full else self._trouble

    def append(self, lines: Iterable[Line]) -> tuple[int, int]:
        """Append lines durably and return the numbers of the first and the last. Raises StoreFailing."""
        with self._lock:
            numbered = [
                {"n": number, "of": self._of, **line} for number, line in enumerate(lines, self._last + 1)
            ]
            if self._trouble:
                raise StoreFailing(
                    f"the register {self.path} could not be read at the start: {self._trouble}; look at its "
                    "disk and rights, then start again"
                )
            self._write(numbered)
            first, self._last = self._last + 1, self._last + len(numbered)
            self._last_hash = hash_of(numbered[-1])
            return first, self._last

    def confirm(self, span: tuple[int, int]) -> None:
        """Record that these lines were committed.

        A failure is logged: the lines are doubtful after a restore.
        """
        with self._lock, suppress(StoreFailing):
            self._write([{"n": span[0], "last": span[1], "of": self._of, "kind": DONE}])

    def rewrite(self, lines: Iterable[Line], others: Iterable[str]) -> None:
        """Replace the file, all or nothing, by lines that are all committed. Raises StoreFailing."""
        with self._lock:
            first = self._last + 1
            numbered = [{"n": number, "of": self._of, **line} for number, line in enumerate(lines, first)]
            last = self._last + len(numbered)
            last_hash = hash_of(numbered[-1]) if numbered else ""
            numbered.append({"n": first, "last": last, "of": self._of, "kind": DONE})
            text = "".join(f"{one}\n" for one in others) + _text(numbered)
            draft = self.path.with_name(self.path.name + ".new")
            try:
                remove_owned(draft)
                self._put(draft, text, os.O_CREAT | os.O_EXCL)
                rename_owned(draft, self.path)
                sync_folder(self.path.parent)
            except OSError as error:
                raise self._write_error(error) from error
            self._last, self._last_hash, self._complete = last, last_hash, True

    def _write(self, lines: Sequence[Line]) -> None:
        try:  # a file that was taken away is not begun anew: it would lack all earlier lines
            self._put(self.path, _text(lines), os.O_APPEND)
        except OSError as error:
            raise self._write_error(error) from error

    def _write_error(self, error: OSError) -> StoreFailing:
        log.error("register cannot be written", extra={"path": str(self.path), "error": error.strerror})
        return StoreFailing(
            f"cannot write the register {self.path} ({error.strerror}): look at its disk and rights, or set "
            "pki.register_file"
        )

    @staticmethod
    def _put(path: Path, text: str, flag: int) -> None:
        descriptor = open_owned(path, os.O_RDWR | flag)
        try:
            size = os.fstat(descriptor).st_size
            # a line was torn: keep it on its own line
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                text = "\n" + text
            data = text.encode()
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if not size:
            sync_folder(path.parent)


class RegisterEntry:
    """Writes the lines of one job while it runs, and confirms them after the commit."""

    def __init__(self, register: Register, put_meta: Callable[[str, str], None]) -> None:
        """`put_meta`: ports.Registry.put_meta."""
        self._register = register
        self._put_meta = put_meta
        self._spans: list[tuple[int, int]] = []

    def __call__(self, kind: str, **facts: Any) -> None:
        """Append one line.

        Raises StoreFailing for one that admits; an exclusion never fails because of the file.
        """
        self.add_all(kind, [facts])

    def add_all(self, kind: str, lines: Sequence[Mapping[str, Any]]) -> None:
        """Append lines of one kind in one write. Raises like `__call__`."""
        if not lines:
            return
        try:
            span = self._register.append([{"kind": kind, **facts} for facts in lines])
        except StoreFailing:
            if kind in PERMISSIVE:
                raise
            self._register.mark_incomplete()
        else:
            self._spans.append(span)
        self._put_meta(NUMBER_NOTE, self._register.note)

    def confirm(self) -> None:
        """Confirm the lines after the commit."""
        if self._spans:
            self._register.confirm((self._spans[0][0], self._spans[-1][1]))


def register_file(data_dir: Path, setting: str) -> Path:
    """Return the path of the register. `setting` is pki.register_file.

    A link there is followed, so that the file is replaced, never the link. Raises ConfigurationError for a
    folder.
    """
    path = Path(os.path.realpath(setting)) if setting else data_dir / FILE
    if setting and os.path.isdir(path):  # noqa: PTH112  # of any name, however long
        raise ConfigurationError(
            f"pki.register_file {path} is a folder: name a file in it, such as {path / FILE}"
        )
    return path


def _number(line: Line) -> int:
    return int(line["n"])


def _numbers_within(lines: list[Line], spans: list[tuple[int, int]]) -> frozenset[int]:
    """Return the numbers of the sorted `lines` that lie in one of the spans."""
    numbers = list(map(_number, lines))
    return frozenset(
        number
        for first, last in spans
        for number in numbers[bisect_left(numbers, first) : bisect_right(numbers, last)]
    )


def _parse_line(text: str) -> dict[str, Any] | None:
    """Parse a line of any data directory; None when it is invalid."""
    try:
        line = json.loads(text)
        numbers = (line["n"], line["of"], line.get("last", 0))
        known = line["kind"] == DONE or line["kind"] in KINDS
        return line if known and all(type(number) is int for number in numbers) else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _text(lines: Iterable[Line]) -> str:
    return "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)
