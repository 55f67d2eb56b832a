# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines the context of an operation: an open data directory, and the uploads to it.

Contents that are too large for one line of the socket come in pieces. Few uploads at a time, in memory; an
unfinished upload is dropped.
"""

from __future__ import annotations

import base64
import binascii
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from veilleuse.collector import clock
from veilleuse.collector.backup.copies import Backups
from veilleuse.collector.backup.publication_register import PublicationRegister
from veilleuse.collector.derive.worker import DeriveWorker
from veilleuse.collector.enrolment.issuing import IssuingContext
from veilleuse.collector.enrolment.tokens import Addresses
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.factors.book import KnownFactors
from veilleuse.collector.ingest.counters import Health
from veilleuse.collector.ingest.hello import PopulationConfigs
from veilleuse.collector.ingest.own_use import OwnUse
from veilleuse.collector.months.worker import MonthWorker
from veilleuse.collector.ports.directory import WriteStore
from veilleuse.collector.settings import CollectorSettings

T = TypeVar("T")

ALONE_SECONDS: Final = 60.0
"""Longest wait for a job outside transactions."""
KEPT_SECONDS: Final = 300.0
"""An upload that stops for longer gives its place to another one."""
WAIT_SECONDS: Final = 30.0
"""Longest wait of an upload for a place: the collector keeps a year by itself, and the other upload ends."""
PUBLICATION_PLACES: Final = 4
"""Concurrent publications: two web processes, each with a month for the API and one of indicators."""
PUBLICATION_KEPT_SECONDS: Final = 10.0
"""The same for a publication: a web process that stops between two pieces is dead."""
WHO_CHARACTERS: Final = 128
WHY_CHARACTERS: Final = 256
"""Most characters of the login and of the reason of an operation, as they are kept."""
_NAME: Final = re.compile(r"[0-9a-f]{32}")


def one_line(text: Any, characters: int) -> str:
    """Return one printable line, cut to a number of characters. Raises UsageError."""
    if not isinstance(text, str) or not text.isprintable():
        raise UsageError("a text has control characters: write one line without them")
    return text.strip()[:characters]


def who_and_why(who: Any, why: Any) -> tuple[str, str]:
    """Return the login and the reason of an operation as one_line. Raises UsageError."""
    return one_line(who, WHO_CHARACTERS), one_line(why, WHY_CHARACTERS)


def require_reason(why: str) -> None:
    """Raise AdminError without a reason."""
    if not why.strip():
        raise AdminError("say why: it is kept in the access journal")


@dataclass(slots=True)
class _Upload:
    """An upload that is not complete."""

    what: str
    pieces: list[bytes] = field(default_factory=list)
    size: int = 0
    touched: float = 0.0


class Uploads:
    """Collects the pieces of uploads. Safe from any thread."""

    def __init__(
        self,
        monotonic_seconds: Callable[[], float] = time.monotonic,
        *,
        places: int = 1,
        kept_seconds: float = KEPT_SECONDS,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        """`places`: concurrent uploads; `kept_seconds`: one that stops for longer loses its place."""
        self._now = monotonic_seconds
        self._places = places
        self._kept_seconds = kept_seconds
        self._wait_seconds = wait_seconds
        self._lock = threading.Condition()
        self._uploads: dict[str, _Upload] = {}

    def add(self, name: str, number: int, data: str, maximum_bytes: int, what: str = "a file") -> int:
        """Add the next piece, in base64; returns the bytes so far. `what` it is: for people.

        Raises UsageError; AdminError while other uploads take all places, after a wait.
        """
        if not _NAME.fullmatch(name):
            raise UsageError("the name of an upload must be 32 hexadecimal digits")
        try:
            piece = base64.b64decode(data, validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise UsageError("a piece of an upload must be base64") from error
        with self._lock:
            if number == 0:
                self._begin(name, what)
            one = self._uploads.get(name)
            if one is None or number != len(one.pieces):
                raise UsageError("a piece of an upload is missing: send it again from the first")
            if one.size + len(piece) > maximum_bytes:
                self._drop(name)
                raise UsageError(f"more than {maximum_bytes} bytes: import it in parts")
            one.pieces.append(piece)
            one.size += len(piece)
            one.touched = self._now()
            return one.size

    def take(self, name: str) -> bytes:
        """Return the whole content, and drop the upload. Raises UsageError when there is none."""
        with self._lock:
            one = self._drop(name)
        if one is None:
            raise UsageError("there is no such upload: send it again")
        return b"".join(one.pieces)

    def _begin(self, name: str, what: str) -> None:
        """Take a place for an upload. An earlier try with the same name is dropped."""
        self._drop(name)
        if not self._lock.wait_for(self._has_place, self._wait_seconds):
            others = " and ".join(sorted({one.what for one in self._uploads.values()}))
            raise AdminError(f"another upload is under way ({others}): try again in a moment")
        self._uploads[name] = _Upload(what, touched=self._now())

    def _has_place(self) -> bool:
        stopped = self._now() - self._kept_seconds
        self._uploads = {key: one for key, one in self._uploads.items() if one.touched > stopped}
        return len(self._uploads) < self._places

    def _drop(self, name: str) -> _Upload | None:
        """Remove an upload, and wake those that wait for its place."""
        self._lock.notify_all()
        return self._uploads.pop(name, None)


def open_publication_uploads() -> Uploads:
    """Make the uploads of publications, apart from those of imports: neither waits for the other."""
    return Uploads(places=PUBLICATION_PLACES, kept_seconds=PUBLICATION_KEPT_SECONDS, wait_seconds=0)


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """Facts of the process that opened the data directory."""

    version: str
    addresses: Addresses
    health: Health
    own: OwnUse
    started_unix_milliseconds: int = field(default_factory=clock.unix_milliseconds)

    def listening_since(self) -> int:
        """Return Health.listening_since for the start of this process (Unix milliseconds)."""
        return self.health.listening_since(self.started_unix_milliseconds)


@dataclass(frozen=True, slots=True)
class AdminContext:
    """Parts of an open data directory that operations use. Safe to share between threads."""

    settings: CollectorSettings
    process: ProcessFacts
    issuing: IssuingContext
    """Jobs of the writer, the registry, the authority and the clock."""
    store: WriteStore
    """Use it only inside jobs of the writer.

    `inventory` and `forgetting.sweep` need a job outside transactions: `alone`.
    """
    known_factors: KnownFactors
    """Use it only inside jobs of the writer."""
    configuring: PopulationConfigs
    derive: DeriveWorker
    rolls: MonthWorker
    backups: Backups
    published: PublicationRegister
    """Use it only inside jobs of the writer."""
    fleet_key: str = field(repr=False)
    """64 hexadecimal digits: key of the asset pseudonyms of this fleet."""
    uploads: Uploads = field(default_factory=Uploads)
    publishing: Uploads = field(default_factory=open_publication_uploads)
    months_changed: threading.Event = field(default_factory=threading.Event)
    """Set when months were taken back, or the inventory changed: the published ones are looked at again."""

    def note(self, who: str, what: str, why: str) -> None:
        """Add a line to the access journal. Part of a job of the writer."""
        self.issuing.registry.write_journal(
            now_unix_milliseconds=self.issuing.now_unix_milliseconds(),
            who=who[:WHO_CHARACTERS],
            what=what,
            why=why[:WHY_CHARACTERS],
        )

    def alone(self, job: Callable[[], T]) -> T:
        """Run a job of the writer outside any transaction, and wait for its result.

        Raises errors of the job.
        """
        return self.issuing.writer.submit(job, alone=True).result(ALONE_SECONDS)
