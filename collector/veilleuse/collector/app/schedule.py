# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Daily tasks of the running collector:

- notes what the collector itself used, each hour and at its end;
- notes the size of its databases, for `veilleuse doctor`, and the share of the PCs that were heard of;
- moves the days whose sums of servers are kept, for /metrics, the first page and `top`;
- gives sites the closures of a new year, and matches machines with assets;
- publishes the months that are due, and the fleet's energy of each; also within minutes after an import of
  the inventory, or after months were taken back;
- keeps the statistics of years that nobody has closed;
- removes data older than the retention allows.
"""

from __future__ import annotations

import json
import logging
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Final, TypeAlias

from veilleuse.collector import clock
from veilleuse.collector.admin.accounts import expire as expire_accesses
from veilleuse.collector.admin.calendars import renew
from veilleuse.collector.admin.inventory import rematch
from veilleuse.collector.admin.publications import expire as expire_published
from veilleuse.collector.app.child import ChildKilled, Supervisor, end, leashed_command, run_command
from veilleuse.collector.app.data_directory import Collector
from veilleuse.collector.errors import CollectorError
from veilleuse.collector.months.site_days import SiteCalendars
from veilleuse.collector.reports.kept_years import years_due
from veilleuse.collector.settings import CollectorSettings, child_environment
from veilleuse.collector.silence import PRESENCE, Judge, Past, count_pcs, heard_before, open_days
from veilleuse.collector.store import open_reader

log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 3600.0
"""Interval between two checks for a new day."""
CHANGED_SECONDS: Final = 10.0
"""Interval between two checks for changed months."""
STOP_SECONDS: Final = 1.0
KEEPING_SECONDS: Final = 30 * 60.0
"""Time limit for all due years together; a later try follows an hour later."""
Keep: TypeAlias = Callable[[Collector, date, threading.Event], dict[int, str]]
"""Keeps the years that are due on a day; returns year → reason why it could not be kept.

Raises OSError, ValueError, CollectorError.
"""
PublishMonths: TypeAlias = Callable[[Collector, date, threading.Event], list[str]]
"""Publishes the months that are due on a day; returns those that wait. Raises as Keep."""


def keep_apart(collector: Collector, day: date, stop: threading.Event) -> dict[int, str]:
    """Keep the years in a separate process, so that no acknowledgement waits for it."""
    command = leashed_command("veilleuse.collector.app.year_keeper", day.isoformat())
    environment = child_environment(collector.settings)
    told = json.loads(run_command(command, environment, stop, KEEPING_SECONDS))
    return {int(year): str(reason) for year, reason in told.items()}


def publish_apart(collector: Collector, day: date, stop: threading.Event) -> list[str]:
    """Publish the months in a separate process; return those whose records wait to be derived."""
    command = leashed_command("veilleuse.collector.app.month_publisher", day.isoformat())
    environment = child_environment(collector.settings)
    return [str(month) for month in json.loads(run_command(command, environment, stop, KEEPING_SECONDS))]


@contextmanager
def run_daily_tasks(
    collector: Collector,
    *,
    keep: Keep = keep_apart,
    publish: PublishMonths = publish_apart,
    today: Callable[[], date] = clock.today,
    check_seconds: float = CHECK_SECONDS,
) -> Iterator[None]:
    """Run the daily tasks at once and at each new UTC day, while the block runs."""
    stop, changed = threading.Event(), collector.operations.context.months_changed

    def watch() -> None:
        noted: date | None = None
        while not stop.is_set():
            day = today()
            _note_own_use(collector, day)
            if day != noted and _run_tasks(collector, day) and not stop.is_set():
                is_published = publish_due_months(collector, day, stop, publish)
                # After the stop the store is closed, and its files may be gone.
                if not stop.is_set() and run_day(collector, day, stop, keep) and is_published:
                    noted = day
            until = time.monotonic() + check_seconds
            while not stop.wait(min(CHANGED_SECONDS, check_seconds)) and time.monotonic() < until:
                if changed.is_set():
                    changed.clear()
                    publish_due_months(collector, day, stop, publish)

    thread = threading.Thread(target=watch, name="upkeep", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(STOP_SECONDS)
        _note_own_use(collector, today())


def _note_own_use(collector: Collector, day: date) -> None:
    """Store what the collector used since the last note; a kill loses at most an hour of it."""
    own = collector.operations.context.process.own
    used = own.take()
    try:
        collector.issuing.commit(lambda: collector.store.note_own_use(day, used))
    except (CollectorError, TimeoutError) as error:
        own.give_back(used)
        log.warning("own use not noted", extra={"error": str(error)})


def _run_tasks(collector: Collector, day: date) -> bool:
    """Run the tasks that take a moment each; False to try again."""
    for failure, run_task in _TASKS.items():
        try:
            run_task(collector, day)
        except (CollectorError, TimeoutError) as error:  # a backup may hold the writer for long
            log.warning(failure, extra={"error": str(error)})
            return False
    return True


def _note_size(collector: Collector, day: date) -> None:
    """Note the size, and keep the sums of servers from this day on."""
    collector.issuing.commit(lambda: collector.store.note_size(day))
    collector.issuing.commit(lambda: collector.store.keep_server_sums(day))


def note_presence(collector: Collector, day: date) -> None:
    """Note that the collector runs on this day, and the share of the PCs heard of. Raises CollectorError."""
    with open_reader(collector.settings.data_dir) as store:
        past = Past.from_json(store.data.data_kind().extra.get(PRESENCE))
        if past.since is None:  # of a version that did not note it
            past = Past(store.data.ran_since(day), day)
        listening = collector.operations.context.process.listening_since()
        judge = Judge(
            collector.issuing.now_unix_milliseconds(),
            listening,
            past,
            collector.settings.reporting.k_anonymity,
        )
        windows = open_days(
            store.data.sites(), SiteCalendars(store.data.calendars, store.data.school_periods), day
        )
        hosts = store.data.contacts()
        text = judge.add_day(count_pcs(hosts, windows), day, heard_before(hosts, listening)).to_json()
    collector.issuing.commit(lambda: collector.issuing.registry.put_meta(PRESENCE, text))


def _renew(collector: Collector, day: date) -> None:
    """Renew the calendars."""
    renew(collector.operations.context, day)


def _trim(collector: Collector, day: date) -> None:
    """Trim the access journal to a year, and old publications."""
    expire_accesses(collector.operations.context)
    expire_published(collector.operations.context, day)


def _rematch(collector: Collector, _: date) -> None:
    """Match machines that enrolled after the inventory was imported, and mark shared pseudonyms."""
    rematch(collector.operations.context)
    collector.issuing.commit(collector.issuing.registry.mark_shared_pseudonyms)


_TASKS: Final[Mapping[str, Callable[[Collector, date], None]]] = {
    "size of the databases not noted, or sums of servers not moved": _note_size,
    "presence of the machines not noted": note_presence,
    "calendars not renewed": _renew,
    "access journal or published periods not trimmed": _trim,
    "inventory not matched": _rematch,
}
"""What the log says of a failure → task, in their order."""


def publish_due_months(
    collector: Collector, day: date, stop: threading.Event, publish: PublishMonths
) -> bool:
    """Publish the months that are due; False to try again while records of one wait to be derived."""
    try:
        waiting = publish(collector, day, stop)
    except (CollectorError, OSError, ValueError) as error:
        if not stop.is_set():
            log.warning(
                "months not published", extra={"error": str(error), **_note_end(collector, error, "month")}
            )
            collector.health.months_not_published = str(error)
        return False
    collector.health.months_not_published = ""
    collector.health.children_killed.pop("month", None)
    return not waiting


def _note_end(collector: Collector, error: Exception, period: str) -> dict[str, object]:
    """Note a child that a signal ended, and return its facts; none of another error."""
    facts = dict(error.facts) if isinstance(error, ChildKilled) else {}
    if facts:
        collector.health.children_killed[period] = facts
    return facts


def run_day(collector: Collector, day: date, stop: threading.Event, keep: Keep) -> bool:
    """Keep the years that are due, then remove expired data; False to try again."""
    kept = _keep_years(collector, day, stop, keep)
    return _expire(collector, day, stop) and kept


def _keep_years(collector: Collector, day: date, stop: threading.Event, keep: Keep) -> bool:
    """Keep the due years; False when one could not be kept.

    Retention then removes nothing of that year, and the next check tries again.
    """
    found: dict[int, str] = {}
    try:
        if years := _due(collector, day):
            reasons = _run_keeper(collector, day, stop, keep, years)
            found = {year: reasons.get(year, "it was not kept") for year in _due(collector, day)}
    except CollectorError as error:
        log.warning("not known whether a year is to be kept", extra={"error": str(error)})
        return False
    if found != collector.health.years_not_kept and not stop.is_set():
        for year, reason in found.items():
            facts = {"year": year, "reason": reason}
            log.warning("statistics of a year not kept, its months stay until they are", extra=facts)
    collector.health.years_not_kept = found
    return not found


def _run_keeper(
    collector: Collector, day: date, stop: threading.Event, keep: Keep, years: Sequence[int]
) -> dict[int, str]:
    try:
        reasons = keep(collector, day, stop)
    except (CollectorError, OSError, ValueError) as error:
        if not stop.is_set():
            log.warning("years not kept", extra={"error": str(error), **_note_end(collector, error, "year")})
        return dict.fromkeys(years, str(error))
    collector.health.children_killed.pop("year", None)
    return reasons


def _due(collector: Collector, day: date) -> list[int]:
    with open_reader(collector.settings.data_dir) as store:
        return [one.year for one in years_due(store.closings, collector.settings.retention, day)]


def _expire(collector: Collector, day: date, stop: threading.Event) -> bool:
    """Remove expired rows; False also while days wait for their month to be kept."""
    try:
        done = collector.retention.run(day, stop)
    except CollectorError as error:
        log.warning("old rows not removed", extra={"error": str(error)})
        return False
    return done.whole and not done.blocked


FIRST_SECONDS: Final = (10.0, 90.0)
"""Range of the wait before the first poll: a collector that restarts in a loop would else poll each time."""
LONGEST_SECONDS: Final = 15 * 60.0
"""Longest duration of one poll; then it is ended."""
_SPREAD: Final = 0.1


class PollSchedule(Supervisor):
    """Starts the command at each interval in a thread, and waits for its end. Its output goes to the log."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        interval_seconds: float,
        first_seconds: float,
        longest_seconds: float = LONGEST_SECONDS,
    ) -> None:
        """Take the command; nothing is started yet."""
        super().__init__("intensity", command, environment)
        self._interval = interval_seconds
        self._first = first_seconds
        self._longest = longest_seconds

    def _supervise(self) -> None:
        wait = self._first
        while not self._stop.wait(wait):
            self._poll_once()
            # no secret: it spreads the polls of several collectors
            wait = self._interval * random.uniform(1 - _SPREAD, 1 + _SPREAD)

    def _poll_once(self) -> None:
        try:
            process = self._start_child()
        except OSError as error:
            log.error("intensity poll not started", extra={"error": str(error)})
            return
        if process is None:
            return
        try:
            code = process.wait(self._longest)
        except subprocess.TimeoutExpired:
            end(process)
            log.warning("intensity poll ended, it took too long", extra={"seconds": self._longest})
            return
        if code and not self._stop.is_set():
            log.warning("intensity poll failed", extra={"exit_code": code})


@contextmanager
def run_polls(settings: CollectorSettings) -> Iterator[None]:
    """Poll while the block runs; do nothing unless a connector is enabled."""
    if not settings.intensity.polled:
        yield
        return
    found = PollSchedule(
        leashed_command("veilleuse.collector.grid"),
        child_environment(settings),
        settings.intensity.poll_minutes * 60.0,
        random.uniform(*FIRST_SECONDS),
    )
    found.start()
    try:
        yield
    finally:
        found.stop()
