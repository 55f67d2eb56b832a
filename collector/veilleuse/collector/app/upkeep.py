# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What the running collector does once a day for itself: notes how large its databases are, for `veilleuse doctor`; gives sites
the closures of a year that has turned; matches machines and assets; takes out what is older than may be kept.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Final

from veilleuse.collector.admin.accounts import expire as expire_accesses
from veilleuse.collector.admin.calendar import renew
from veilleuse.collector.admin.inventory import rematch
from veilleuse.collector.admin.published import expire as expire_published
from veilleuse.collector.assembly import Collector
from veilleuse.collector.errors import CollectorError
from veilleuse.collector.store.sqlite.upkeep import note_size

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 3600.0
"""How often it looks whether a new day has begun."""
STOP_SECONDS: Final = 1.0


@contextmanager
def upkeep(
    collector: Collector,
    *,
    today: Callable[[], date] = lambda: datetime.now(UTC).date(),
    look_seconds: float = LOOK_SECONDS,
) -> Iterator[None]:
    """At once and at each new UTC day, while the block runs."""
    stop = threading.Event()

    def watch() -> None:
        noted: date | None = None
        while not stop.is_set():
            day = today()
            if (
                day != noted
                and _note(collector, day)
                and _renew(collector, day)
                and _trim(collector, day)
                and _rematch(collector)
                and _expire(collector, day, stop)
            ):
                noted = day
            stop.wait(look_seconds)

    thread = threading.Thread(target=watch, name="upkeep", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(STOP_SECONDS)


def _note(collector: Collector, day: date) -> bool:
    """False when it could not be written: the next look tries again."""
    try:
        collector.office.commit(lambda: note_size(collector.store.data, day))
    except CollectorError as error:
        log.warning("size of the databases not noted", extra={"error": str(error)})
        return False
    return True


def _renew(collector: Collector, day: date) -> bool:
    """Likewise."""
    try:
        renew(collector.operations, day)
    except CollectorError as error:
        log.warning("calendars not renewed", extra={"error": str(error)})
        return False
    return True


def _trim(collector: Collector, day: date) -> bool:
    """Likewise: the access journal is kept for a year, what was published until it is too old to be asked for."""
    try:
        expire_accesses(collector.operations)
        expire_published(collector.operations, day)
    except CollectorError as error:
        log.warning("access journal or published periods not trimmed", extra={"error": str(error)})
        return False
    return True


def _rematch(collector: Collector) -> bool:
    """Likewise: machines that enrolled since the inventory came."""
    try:
        rematch(collector.operations)
    except (CollectorError, TimeoutError) as error:  # a backup may hold the writer for long
        log.warning("inventory not matched", extra={"error": str(error)})
        return False
    return True


def _expire(collector: Collector, day: date, stop: threading.Event) -> bool:
    """Likewise: also while days wait for their month to be kept."""
    try:
        done = collector.retention.run(day, stop)
    except CollectorError as error:
        log.warning("old rows not removed", extra={"error": str(error)})
        return False
    return done.whole and not done.blocked
