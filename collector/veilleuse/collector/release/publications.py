# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads published figures, and publishes new ones through the running collector. docs/api.md.

A month is released when it has been over long enough to be complete. It is then stored as first computed. So
a machine that came late, moved or was forgotten makes no difference between two answers. A release is
computed from machines' stored months, since their days are deleted after 62. Once the months are deleted too,
it is no longer answered. The web process only reads the store; the collector writes.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import Final, Generic

from veilleuse.collector.account.statement import METHOD_VERSION
from veilleuse.collector.calendars.periods import add_months
from veilleuse.collector.errors import AdminError, StoreDamaged, StoreTooNew
from veilleuse.collector.gc_pause import without_garbage_collection
from veilleuse.collector.ipc import TIMEOUT_SECONDS, pieces_of, send
from veilleuse.collector.model.closed_years import canonical
from veilleuse.collector.model.hosts import Host
from veilleuse.collector.model.publications import (
    MAXIMUM_BYTES,
    FigureFormat,
    Publication,
    PublicationHold,
    PublicationKind,
    T,
)
from veilleuse.collector.ports.months import ClosedYearReader, PublicationReader, PublicationSummary
from veilleuse.wire.vocabulary import Population

Publish = Callable[[Publication], object]
"""Stores a publication, unless the period has one already. Raises AdminError."""


def publisher(data_dir: Path, timeout_seconds: float = TIMEOUT_SECONDS) -> Publish:
    """Return a function that sends a publication to the running collector: its content in pieces, then its
    key.

    The collector stores nothing before the key, and is the only writer.
    """

    def publish(one: Publication) -> None:
        content = one.content.encode()
        if len(content) > MAXIMUM_BYTES:
            raise AdminError(f"{one.name} has {len(content)} bytes, {MAXIMUM_BYTES} at most may be kept")
        upload = secrets.token_hex(16)
        for piece in pieces_of(upload, content):
            send(data_dir, "publish_part", timeout_seconds=timeout_seconds, **piece)
        send(
            data_dir,
            "publish",
            timeout_seconds=timeout_seconds,
            kind=one.kind.value,
            first=one.first.isoformat(),
            end=one.end.isoformat(),
            format=one.format,
            k_anonymity=one.k_anonymity,
            method_version=one.method_version,
            upload=upload,
        )

    return publish


def held_months(
    published: PublicationReader, closings: ClosedYearReader, hosts: Callable[[], Iterable[Host]], since: date
) -> tuple[date, ...]:
    """Return the first day of each month from `since` on that a restore holds, oldest first.

    No month before the first enrolment: a PC's first week may begin in it, and nothing of it was published.
    """
    found: list[date] = []
    hold, definitive = published.hold(), closings.definitive_years()
    begun = min((host.enrolled_on for host in hosts()), default=date.max) if hold else since
    end = hold.until.replace(day=1) if hold else since
    while hold is not None and (first := add_months(end, -1)) >= since:
        if first.year in definitive or end <= begun:
            break
        if is_held(published, hold, first, end) and closings.has_months(first, end, tuple(Population)):
            found.insert(0, first)
        end = first
    return tuple(found)


def is_held(published: PublicationReader, hold: PublicationHold | None, first: date, end: date) -> bool:
    """Return true for a month that is not published, and stays so.

    The fleet's energy is published last, of each month that has measurements.
    """
    covered = hold is not None and hold.covers(first, end)
    return covered and published.summary(PublicationKind.FLEET, first, end) is None


def publish_nothing(one: Publication) -> None:
    """Refuse to publish: of a cache that only reads."""
    raise AssertionError(f"{one.name} is only read here")


DECODED_BYTES: Final = 32 * 1024 * 1024
"""Most bytes of contents whose decoded figures are cached: 18 months of 600 groups.

Decoded figures take three times as much memory. Beyond this limit months are decoded at each request.
"""


class PublicationCache(Generic[T]):
    """Published figures of one kind. Not thread-safe: one caller at a time."""

    def __init__(self, form: FigureFormat[T], reader: PublicationReader, publish: Publish, k: int) -> None:
        """Take the current `k`, the fewest machines of a published group."""
        self._form = form
        self._reader = reader
        self._publish = publish
        self._k = k
        self._decoded: dict[PublicationSummary, T] = {}
        self._empty: dict[tuple[date, date], tuple[date, T]] = {}

    def figures(self, first: date, end: date, today: date, make: Callable[[], T] | None) -> T | None:
        """Return the published figures of [first, end); if there are none, make them with `make` and publish
        them.

        Empty figures are returned without publishing, and made again the next day. None while they cannot be
        made or a restore holds the period, after a publication of an older format, or
        without `make`. Raises StoreDamaged, StoreTooNew, AdminError, and the errors of `make`.
        """
        found = self.read(first, end)
        if found is not None or make is None:
            return found
        day, nothing = self._empty.get((first, end), (date.min, None))
        if day == today:
            return nothing
        hold = self._reader.hold()
        if hold is not None and hold.covers(first, end):
            return None
        if self._find_summary(first, end) or self._reader.waits(first, end):
            return None
        figures = make()
        if not self._form.is_empty(figures):
            return self._publish_figures(figures, first, end)
        self._empty = {key: cached for key, cached in self._empty.items() if cached[0] == today}
        self._empty[first, end] = (today, figures)
        return figures

    def _find_summary(self, first: date, end: date) -> PublicationSummary | None:
        return self._reader.summary(self._form.kind, first, end)

    def is_of_older_rule(self, first: date, end: date) -> bool:
        """Return true when the publication has an older format.

        Such a publication is not shown until it is taken back.
        """
        summary = self._find_summary(first, end)
        return summary is not None and summary.format < self._form.format

    def read(self, first: date, end: date) -> T | None:
        """Return the published figures, made under the `k` of their publication.

        None without a publication, or when its format is older, which disclosed too much. Raises
        StoreDamaged, StoreTooNew.
        """
        summary = self._find_summary(first, end)
        if summary is not None and summary.format < self._form.format:
            return None
        if summary in self._decoded:
            return self._decoded[summary]
        found = None if summary is None else self._reader.find(self._form.kind, first, end)
        if summary is None or found is None:
            return None
        figures = self._decode(found)
        # Different times: the publication was taken back between the two reads.
        if found.published_unix_milliseconds == summary.published_unix_milliseconds:
            self._decoded[summary] = figures
            while sum(one.content_bytes for one in self._decoded) > DECODED_BYTES:
                self._decoded.pop(next(iter(self._decoded)))
        return figures

    def _publish_figures(self, figures: T, first: date, end: date) -> T | None:
        """Publish the figures and return the stored ones; another process may have published first.

        Raises AdminError.
        """
        form = self._form
        content = canonical(form.encode(figures)).decode()
        one = Publication(form.kind, first, end, form.format, self._k, METHOD_VERSION, 0, content)
        self._publish(one)
        if not self._find_summary(first, end):
            raise AdminError(f"{one.name} was not kept")
        return self.read(first, end)

    def _decode(self, found: Publication) -> T:
        if found.format != self._form.format:
            raise StoreTooNew(
                f"published {found.name} has format {found.format}, this program knows {self._form.format}: "
                "install the version of veilleuse that wrote it, or a newer one"
            )
        try:
            with without_garbage_collection():
                return self._form.decode(json.loads(found.content), found.first, found.end)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreDamaged(
                f"published {found.name} cannot be read ({type(error).__name__}: {error}): restore a backup, or have it "
                f"computed anew with 'veilleuse published take-back {found.first} {found.end} --why TEXT'"
            ) from error
