# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The register: a file outside the backups that remembers who was let in and who was put out. docs/wire.md §6, decision 0013.

One JSON object a line, appended and fsynced before the commit of what it tells, so that a collector restored from a
backup learns what came after it. A line:
- `n`: its number, only ever higher. The registry keeps the number of the last line it holds the effect of, and its hash: a
  line above is news to it, one below is not looked at. When that very line is not there, this is not the file it wrote to
  last (it was put back, or lost its end): then numbers tell nothing, and all lines are looked at.
- `of`: the data directory it belongs to. Another one's lines are left alone.
- `kind`: one of those below, with its facts. No name, no hour: a day at most.

A job that is undone leaves its line behind. What lets somebody in (`PERMISSIVE`) is therefore believed only once a line
`done` says that it was committed; what puts somebody out is believed at once.
"""

from __future__ import annotations

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

from veilleuse.collector.errors import StoreFailing
from veilleuse.wire.files import open_owned, read_owned, remove_owned, rename_owned, sync_folder

log = logging.getLogger(__name__)

FILE: Final = "register.jsonl"
MOST_BYTES: Final = 512 << 20
"""Of it: some two million lines; it is written anew as it grows."""
NUMBER_NOTE: Final = "register_line"
"""Key in the table meta: `number:hash` of the last line whose effect the registry holds; see `known_line`."""
DONE: Final = "done"
SITE, TOKEN, TOKEN_REVOKED = "site", "token", "token_revoked"
HOST, ADMITTED, EXCLUDED, FORGOTTEN = "host", "admitted", "excluded", "forgotten"
ACCOUNT_REVOKED: Final = "account_revoked"
PERMISSIVE: Final = frozenset({SITE, TOKEN, HOST, ADMITTED})
KINDS: Final = PERMISSIVE | {TOKEN_REVOKED, EXCLUDED, FORGOTTEN, ACCOUNT_REVOKED}

Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a register file holds for one data directory."""

    lines: tuple[Line, ...] = ()
    """In order, `done` ones left out."""
    done: frozenset[int] = frozenset()
    """Numbers of those that are known to be committed."""
    others: tuple[str, ...] = ()
    """Of another data directory, as they are."""
    unreadable: int = 0
    """Lines that are none, a torn last one apart."""
    missing: bool = False

    @property
    def last(self) -> int:
        """Highest number; 0 when there is none."""
        return max((int(line["n"]) for line in self.lines), default=0)

    def is_continued(self, known: int, line_hash: str) -> bool:
        """Whether this is the file whose line `known` a registry holds the effect of, or one written anew since."""
        if not self.lines:
            return known == 0
        return int(self.lines[0]["n"]) > known or any(
            line["n"] == known and hash_of(line) == line_hash for line in self.lines
        )


def hash_of(line: Line) -> str:
    """Tells a line from every other of its number; 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(line, sort_keys=True).encode()).hexdigest()[:16]


def known_line(note: str) -> tuple[int, str]:
    """(number, hash) of the note NUMBER_NOTE; (0, "") when there is none. The hash is empty when something was not noted."""
    number, _, line_hash = note.partition(":")
    return (int(number), line_hash) if number.isdecimal() else (0, "")


def read(path: Path, of: int) -> Contents:
    """The lines of a data directory. Never raises for what is in the file; OSError when it cannot be read."""
    try:
        text = read_owned(path, MOST_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return Contents(missing=True)
    whole = text.split("\n")
    torn = whole.pop()  # empty when the last line was written whole
    lines: list[Line] = []
    done: list[tuple[int, int]] = []
    others: list[str] = []
    unreadable = 0
    for one in filter(None, whole):
        parsed = _parsed(one)
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
    return Contents(tuple(lines), _within(lines, done), tuple(others), unreadable)


class Register:
    """The file, appended to. Safe to share between threads."""

    def __init__(self, path: Path, of: int, last: int, *, complete: bool = True, trouble: str = "") -> None:
        """`of`: when the data directory was made, Unix ms. `last`: no number up to it is given again. `complete`: whether it holds
        all that the registry does. `trouble`: why it could not be read; nothing is then appended to lines that nobody saw."""
        self.path = path
        self._of = of
        self._last = last
        self._last_hash = ""
        self._complete = complete
        self._trouble = trouble
        self._lock = threading.Lock()

    @property
    def note(self) -> str:
        """For NUMBER_NOTE, after lines were appended. Without hash when the next start has to look at all of it, and complete it."""
        return f"{self._last}:{self._last_hash if self._complete else ''}"

    def missed(self) -> None:
        """Something holds that is not in the file."""
        self._complete = False

    def append(self, lines: Iterable[Line]) -> tuple[int, int]:
        """Durable when it returns: the numbers of the first and the last. Raises StoreFailing with nothing promised."""
        with self._lock:
            numbered = [
                {"n": number, "of": self._of, **line} for number, line in enumerate(lines, self._last + 1)
            ]
            if self._trouble:
                raise StoreFailing(
                    f"the register {self.path} could not be read at the start: {self._trouble}; look at its disk and rights, then start again"
                )
            self._write(numbered)
            first, self._last = self._last + 1, self._last + len(numbered)
            self._last_hash = hash_of(numbered[-1])
            return first, self._last

    def done(self, span: tuple[int, int]) -> None:
        """What those lines tell was committed. A failure is logged: the lines are then doubtful after a restore."""
        with self._lock, suppress(StoreFailing):
            self._write([{"n": span[0], "last": span[1], "of": self._of, "kind": DONE}])

    def rewrite(self, lines: Iterable[Line], others: Iterable[str]) -> None:
        """Replace the file, at once or not at all, by lines that are all committed. Raises StoreFailing."""
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
                self._put(draft, text, os.O_EXCL)
                rename_owned(draft, self.path)
                sync_folder(self.path.parent)
            except OSError as error:
                raise self._failing(error) from error
            self._last, self._last_hash, self._complete = last, last_hash, True

    def _write(self, lines: Sequence[Line]) -> None:
        try:
            self._put(self.path, _text(lines), os.O_APPEND)
        except OSError as error:
            raise self._failing(error) from error

    def _failing(self, error: OSError) -> StoreFailing:
        log.error("register cannot be written", extra={"path": str(self.path), "error": error.strerror})
        return StoreFailing(
            f"cannot write the register {self.path} ({error.strerror}): look at its disk and rights, or set pki.register_file"
        )

    @staticmethod
    def _put(path: Path, text: str, flag: int) -> None:
        descriptor = open_owned(path, os.O_RDWR | os.O_CREAT | flag)
        try:
            size = os.fstat(descriptor).st_size
            if (
                size and os.pread(descriptor, 1, size - 1) != b"\n"
            ):  # a line was torn: it stays one of its own
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
    """The lines of one job: written while it runs, confirmed once it is committed."""

    def __init__(self, register: Register, put_meta: Callable[[str, str], None]) -> None:
        """`put_meta`: ports.Registry.put_meta."""
        self._register = register
        self._put_meta = put_meta
        self._spans: list[tuple[int, int]] = []

    def __call__(self, kind: str, **facts: Any) -> None:
        """One line more. Raises StoreFailing for what lets somebody in; nobody stays in because a file cannot be written."""
        self.all(kind, [facts])

    def all(self, kind: str, lines: Sequence[Mapping[str, Any]]) -> None:
        """So many lines more, of one kind, on the disk at once; as above."""
        if not lines:
            return
        try:
            span = self._register.append([{"kind": kind, **facts} for facts in lines])
        except StoreFailing:
            if kind in PERMISSIVE:
                raise
            self._register.missed()
        else:
            self._spans.append(span)
        self._put_meta(NUMBER_NOTE, self._register.note)

    def confirm(self) -> None:
        """After the commit."""
        if self._spans:
            self._register.done((self._spans[0][0], self._spans[-1][1]))


def register_file(data_dir: Path, setting: str) -> Path:
    """Where the register is. `setting`: pki.register_file, where a link of the operator's is followed: the file is replaced,
    never the link."""
    return Path(os.path.realpath(setting)) if setting else data_dir / FILE


def _number(line: Line) -> int:
    return int(line["n"])


def _within(lines: list[Line], spans: list[tuple[int, int]]) -> frozenset[int]:
    """The numbers of `lines`, in order, that lie in one of the spans."""
    numbers = list(map(_number, lines))
    return frozenset(
        number
        for first, last in spans
        for number in numbers[bisect_left(numbers, first) : bisect_right(numbers, last)]
    )


def _parsed(text: str) -> dict[str, Any] | None:
    """A line of whatever data directory; None when it is none."""
    try:
        line = json.loads(text)
        numbers = (line["n"], line["of"], line.get("last", 0))
        known = line["kind"] == DONE or line["kind"] in KINDS
        return line if known and all(type(number) is int for number in numbers) else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _text(lines: Iterable[Line]) -> str:
    return "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)
