# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Composition root of the measuring process: connects clocks, sources, fold and spool in a loop.

It imports no network, protobuf, hash function or TLS. The imported modules are listed in
tests/architecture/agent_modules.txt.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any, Final

from veilleuse.agent.errors import AgentError, SpoolDamaged, SpoolError
from veilleuse.agent.model import Gap, Instant, Tick
from veilleuse.agent.platforms import SystemClock, here
from veilleuse.agent.platforms.locks import RUN_LOCK, ProcessLock
from veilleuse.agent.ports import Clock, ControlKey, ServiceManager
from veilleuse.agent.remote_config import ConfigStatus, grain_of, read_status
from veilleuse.agent.resident.fold import Fold, SiteCalendar
from veilleuse.agent.resident.open_sources import (
    LateSources,
    default_supply,
    make_ticker,
    open_sources,
    source_context,
)
from veilleuse.agent.resident.poller_child import Poller, something_to_poll
from veilleuse.agent.resident.sender_child import Contacts
from veilleuse.agent.resident.state import (
    WHY_SHUTDOWN,
    WHY_STOP,
    WHY_TICK,
    ClockGuard,
    LastSign,
    SleepWatch,
    Timeline,
    reconstruct,
)
from veilleuse.agent.settings import AgentSettings, allowed_population, join_file_path
from veilleuse.agent.spool.database import FILE_NAME, Bounds, FileSpool, gap_over, gap_row
from veilleuse.agent.spool.recovery import open_spool
from veilleuse.wire.bands import Calendar, CalendarError
from veilleuse.wire.units import MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import GapReason, Population

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS: Final = {Population.SERVER: 60, Population.CLASSROOM: 300, Population.WORKSTATION: 300}
QUEUED_ROWS: Final = 1_000
"""Rows kept in memory while the spool cannot be written; beyond this the oldest become a gap."""

RESTART: Final = -1
"""Return value of `run` when measuring must start again, after a copied identity is set aside."""


def run(
    settings: AgentSettings, config_file: Path | None = None, manager: ServiceManager | None = None
) -> int:
    """Measure until asked to end (return 0), or until the sender finds that this is a copy (return RESTART).

    Raises AgentError or ConfigurationError, in one line, when measuring cannot start.
    """
    os.umask(0o077)
    state = settings.paths.state
    _make_directory(state)
    with ProcessLock(state, RUN_LOCK, what="veilleuse-agent run"):
        clock = SystemClock(str(settings.paths.procfs))
        contacts = Contacts(
            state, config_file, settings.collector.contact_seconds, join_file=join_file_path(settings)
        )
        devfs = source_context(settings).devfs
        poller = Poller(state, config_file, lambda: something_to_poll(settings, devfs))
        resident = Resident(settings, clock, contacts, manager or NoServiceManager(), poller)

        def stop() -> None:
            resident.stopped = True
            clock.wake()

        def sleep_ahead() -> None:
            resident.sleep_announced = True
            clock.wake()

        no_stop, watch = here.on_stop(stop), here.on_sleep_ahead(sleep_ahead)
        try:
            resident.begin()
            while not resident.stopped and not resident.must_restart:
                clock.sleep(resident.milliseconds_to_next_tick())
                if resident.step():
                    watch.confirm_written()
        finally:
            resident.end()
            watch.close()
            no_stop()
            clock.close()  # last, because a signal wakes it
    return RESTART if resident.must_restart and not resident.stopped else 0


class NoServiceManager:
    """`ports.ServiceManager` for a process without a service manager."""

    def ready(self) -> None:
        """Do nothing."""

    def alive(self, status: str = "") -> None:
        """Do nothing."""

    def stopping(self) -> None:
        """Do nothing."""

    def machine_is_going_down(self) -> bool:
        """Return False: not known, and then the time after the end counts as `unknown`."""
        return False


class Resident:
    """The loop, one step at a time, so that tests can run it with their own clock."""

    def __init__(
        self,
        settings: AgentSettings,
        clock: Clock,
        contacts: Contacts,
        manager: ServiceManager,
        poller: Poller | None = None,
    ) -> None:
        """Open the spool and the sources. Raises AgentError or ConfigurationError."""
        self.stopped = False
        self.sleep_announced = False
        """Since the last step the system announced that the machine is about to sleep."""
        self._settings = settings
        self._clock = clock
        self._contacts = contacts
        self._manager = manager
        self._poller = poller
        self._path = settings.paths.state / FILE_NAME
        self._queue: list[str] = []
        """Rows not yet in the spool."""
        self._spool = self._open_spool()
        self._machine, self._sources = open_sources(settings)
        self._late = LateSources(lambda: source_context(settings, self._machine))
        self._population = self._allowed_population()
        self._boot_id = clock.boot_id()
        now = clock.now()
        self._configured = self._read_config(now)
        self._changes = self._configured.changes
        """Control values of a changed configuration, not yet in the spool."""
        remote = self._configured.in_use.configuration
        grain = grain_of(settings, self._population, remote, now.unix_milliseconds)
        self._period_milliseconds, self._tick_milliseconds = (
            grain.period_milliseconds,
            grain.tick_milliseconds,
        )
        contacts.set_contact_seconds(grain.contact_seconds)
        self._former_records: list[str] = []
        """Records of the former run at another grain, queued once the time since that run is known."""
        self._fold = self._restore_fold()
        self._ticker = make_ticker(clock, self._machine, self._sources, self._tick_milliseconds)
        self._last_sign = self._read_last_sign()
        self._guard: ClockGuard | None = None
        self._timeline = Timeline()
        self._sleep_watch = SleepWatch()
        self._reconstructed = False
        self._checkpoint_due = 0  # boot-time, ms
        self._failing = False
        self._contact_ended = False
        self._refused_calendar = ""
        """SHA-256 of the last calendar that could not be used."""

    # ------------------------------------------------------------------------------------- steps

    def begin(self) -> None:
        """Poll the sources for the first time, and log what this machine cannot measure."""
        for missing in self._sources.unavailable:
            extra = {"source": missing.name, "reason": missing.reason, "remedy": missing.remedy}
            log.info("source not available here", extra=extra)
        now, _ = self._ticker.tick()
        if self._poller is not None:
            self._poller.step(now)
        self._guard = self._clock_guard(now)
        self._fold_ticks(now, ())
        self._save(now, WHY_TICK, checkpoint=True)
        log.info(
            "measuring",
            extra={
                "population": str(self._population),
                "tick_milliseconds": self._tick_milliseconds,
                "period_milliseconds": self._period_milliseconds,
                "sources": [opened.source.name for opened in self._sources.opened],
            },
        )
        self._manager.ready()

    def step(self) -> bool:
        """Run one tick: poll, fold, write the complete records, check the sender.

        Return True when a sleep was announced before this step.
        """
        announced, self.sleep_announced = self.sleep_announced, False
        now, ticks = self._ticker.tick(last=announced)
        self._fold_ticks(now, ticks)
        reason_changed = self._sleep_watch.update(now, announced=announced)
        due = reason_changed or now.boottime_milliseconds >= self._checkpoint_due
        trial = self._configured.trial
        if due:
            self._sources = self._late.retry_unavailable(
                self._sources, self._ticker, now.boottime_milliseconds
            )
        if due or self._contact_ended or (trial is not None and trial.is_over(now)):
            self._refresh(now)
        if due or self._queue or self._changes:
            self._save(now, self._sleep_watch.why, checkpoint=due)
        self._contact_ended = self._contacts.step(
            now, self._unix(now), self._spool, self._population, self._period_milliseconds
        )
        if self._poller is not None:
            self._poller.step(now)
        self._manager.alive()
        return announced

    @property
    def must_restart(self) -> bool:
        """True when the sender found that this is a copy."""
        return self._contacts.copy_found

    def end(self) -> None:
        """Poll and save a last time, end the child processes, close everything."""
        if not self.must_restart:  # after this message systemd expects the end of the process
            self._manager.stopping()
        guard = self._guard
        if guard is not None:
            now, ticks = self._ticker.tick(last=True)
            self._fold_ticks(now, ticks)
            if held := guard.held_milliseconds():
                self._queue.append(gap_row(Gap(GapReason.CLOCK_UNKNOWN, ((None, held),), 1)))
            why = WHY_SHUTDOWN if self._manager.machine_is_going_down() else WHY_STOP
            self._save(now, why, checkpoint=True)
            if self._queue:
                log.error("rows lost: the spool could not be written", extra={"rows": len(self._queue)})
        if self._poller is not None:
            self._poller.stop()
        self._contacts.stop()
        self._sources.close()
        self._spool.close()

    def milliseconds_to_next_tick(self) -> int:
        """Return the wait until the next whole tick of the UTC clock: 20 % to 120 % of a tick.

        So ticks end where periods end.
        """
        tick = self._tick_milliseconds
        left = tick - self._clock.now().unix_milliseconds % tick
        return left if left * 5 >= tick else left + tick

    # ------------------------------------------------------------------------------------ folding

    def _fold_ticks(self, now: Instant, ticks: tuple[Tick, ...]) -> None:
        guard = self._guard
        if guard is None:
            return
        dated, lost = guard.date(now, ticks)
        if lost:
            self._queue.append(gap_row(Gap(GapReason.CLOCK_UNKNOWN, ((None, lost),), 1)))
        if guard.trusted and not self._reconstructed:
            self._reconstructed = True
            self._queue += self._former_records
            self._former_records.clear()
            silence = reconstruct(
                self._last_sign, guard.start(now), self._boot_id, default_supply(self._machine)
            )
            if silence.undated_milliseconds:
                span = ((None, silence.undated_milliseconds),)
                self._queue.append(gap_row(Gap(GapReason.CLOCK_UNKNOWN, span, 1)))
            if self._last_sign is not None and not silence.undated_milliseconds:
                end = self._fold.end_unix_milliseconds
                self._timeline = Timeline(end or self._last_sign.instant.unix_milliseconds)
            dated = (*silence.ticks, *dated)
        for tick in dated:
            whole, undated = self._timeline.fill_hole(tick)
            if undated:
                self._queue.append(gap_row(Gap(GapReason.CLOCK_UNKNOWN, ((None, undated),), 1)))
            for each in whole:
                self._queue.extend(record.to_json() for record in self._fold.add(each))

    def _unix(self, now: Instant) -> int:
        return now.unix_milliseconds if self._guard is None else self._guard.unix_at(now)

    def _refresh(self, now: Instant) -> None:
        """Apply a population, calendar or configuration that the sender left in the control table."""
        if not self._reconstructed or self._changes:
            return  # open records, or changed values, are not in the spool yet
        try:
            population = self._allowed_population()
            calendar, sha256 = (
                self._spool.control(ControlKey.CALENDAR),
                self._spool.control(ControlKey.CALENDAR_SHA256),
            )
            configured = self._read_config(now)
        except SpoolDamaged:
            self._replace_spool()
            return
        except SpoolError:
            return  # retried at the next checkpoint
        self._configure(population, configured, self._unix(now))
        if calendar is not None and sha256 is not None and sha256 != self._fold.next_sha256:
            self._schedule(calendar, sha256, now)

    def _configure(self, population: Population, configured: ConfigStatus, unix_milliseconds: int) -> None:
        """Use a configuration from the end of the last tick on.

        Its changed values are written together with the records that it closes.
        """
        grain = grain_of(self._settings, population, configured.in_use.configuration, unix_milliseconds)
        if (population, grain.period_milliseconds) != (self._population, self._period_milliseconds):
            log.info(
                "grain changed",
                extra={"population": str(population), "period_milliseconds": grain.period_milliseconds},
            )
            closed = self._fold.change_grain(population, grain.period_milliseconds)
            self._queue.extend(record.to_json() for record in closed)
        if configured.in_use != self._configured.in_use:
            state = "on trial" if configured.trial is not None else "in use"
            log.info("configuration changed", extra={"sha256": configured.in_use.sha256, "state": state})
        if grain.tick_milliseconds != self._tick_milliseconds:
            self._ticker.set_tick_milliseconds(grain.tick_milliseconds)
        self._contacts.set_contact_seconds(grain.contact_seconds)
        self._population, self._configured, self._changes = population, configured, configured.changes
        self._period_milliseconds, self._tick_milliseconds = (
            grain.period_milliseconds,
            grain.tick_milliseconds,
        )

    def _read_config(self, now: Instant) -> ConfigStatus:
        accept = self._settings.collector.accept_configuration
        return read_status(self._spool.control, now, self._boot_id, accept=accept)

    def _schedule(self, calendar: str, sha256: str, now: Instant) -> None:
        try:
            site = SiteCalendar(Calendar.from_json(calendar), sha256)
            first_day = self._fold.schedule(site, self._unix(now))
        except CalendarError as error:
            if sha256 != self._refused_calendar:  # once, not at every checkpoint
                log.error("calendar not usable, the present one stays", extra={"reason": str(error)})
            self._refused_calendar = sha256
            return
        log.debug("calendar scheduled", extra={"from": first_day.isoformat(), "sha256": sha256})

    # ------------------------------------------------------------------------------------- saving

    def _save(self, now: Instant, why: str, *, checkpoint: bool) -> None:
        """Write rows, open records and sign of life in one transaction: a kill loses and doubles nothing."""
        control: dict[str, str | None] = {}
        if self._reconstructed:
            # Until the clock is trusted, keep the former sign and its open records: nothing else is known.
            sign = LastSign(
                Instant(self._unix(now), now.boottime_milliseconds, now.monotonic_milliseconds),
                self._boot_id,
                why,
            )
            control = {ControlKey.OPEN_FOLD: self._fold.to_json(), ControlKey.LAST_SIGN: sign.to_json()}
        if checkpoint:
            control[ControlKey.SOURCES] = self._health()
        control |= self._changes
        try:
            self._spool.append(self._queue, control)
        except SpoolDamaged as error:
            self._keep_rows(error)
            self._replace_spool()
            return
        except SpoolError as error:  # busy, full, read-only: measuring continues
            self._keep_rows(error)
            return
        self._queue.clear()
        self._changes = {}
        if self._failing:
            self._failing = False
            log.info("spool written again")
        if checkpoint:
            seconds = self._settings.measure.checkpoint_seconds or CHECKPOINT_SECONDS[self._population]
            self._checkpoint_due = now.boottime_milliseconds + seconds * MILLISECONDS_PER_SECOND

    def _keep_rows(self, error: AgentError) -> None:
        """Keep the rows in memory and continue measuring; above the limit the oldest half becomes a gap."""
        if not self._failing:
            self._failing = True
            log.warning("spool not written, rows kept in memory", extra={"reason": str(error)})
        if len(self._queue) > QUEUED_ROWS:
            half = len(self._queue) // 2
            self._queue[:half] = [gap_row(gap_over(GapReason.SPOOL_CAP, self._queue[:half]))]
            log.error("memory at its bound, oldest records dropped", extra={"records": half})

    def _replace_spool(self) -> None:
        """Set the damaged spool aside and open a new one; if this fails, try again at the next tick.

        A running sender is stopped first. Through its open file it could still deliver rows that the new
        spool takes over.
        """
        self._contacts.stop()
        # Windows cannot rename an open file; a closed spool counts as damaged (spool.translate)
        self._spool.close()
        try:
            self._spool = self._open_spool()
        except (SpoolError, OSError) as error:
            log.error("no new spool", extra={"reason": str(error)})

    def _open_spool(self) -> FileSpool:
        bounds = Bounds(self._settings.spool.max_bytes, self._settings.spool.disk_reserve_bytes)
        return open_spool(self._path, bounds, self._clock.now().unix_milliseconds)

    def _health(self) -> str:
        cpu_milliseconds, rss_bytes = here.usage()
        rows: list[dict[str, Any]] = self._ticker.health()
        rows += [] if self._poller is None else self._poller.health()
        for missing in self._sources.unavailable:
            outcome = {"successes": 0, "failures": 0, "unavailable": missing.word}
            rows.append({"name": missing.name, "reason": missing.reason, "remedy": missing.remedy, **outcome})
        return json.dumps(
            {"sources": rows, "cpu_milliseconds": cpu_milliseconds, "rss_bytes": rss_bytes},
            separators=(",", ":"),
        )

    # ----------------------------------------------------------------------------------- restoring

    def _allowed_population(self) -> Population:
        return allowed_population(self._settings, self._spool.control(ControlKey.POPULATION))

    def _restore_fold(self) -> Fold:
        text = self._spool.control(ControlKey.OPEN_FOLD)
        if text is not None:
            try:
                fold, finished = Fold.from_json(text, self._population, self._period_milliseconds)
            except ValueError as error:
                log.warning("checkpoint not readable, begun anew", extra={"reason": str(error)})
            else:
                self._former_records = [record.to_json() for record in finished]
                return fold
        return Fold(self._population, self._period_milliseconds)

    def _clock_guard(self, now: Instant) -> ClockGuard:
        last = self._last_sign
        if last is None:
            return ClockGuard(None, now)
        sign = last.instant
        same_boot = bool(self._boot_id) and last.boot_id == self._boot_id
        offset = sign.unix_milliseconds - sign.boottime_milliseconds if same_boot else None
        return ClockGuard(sign.unix_milliseconds, now, offset)

    def _read_last_sign(self) -> LastSign | None:
        text = self._spool.control(ControlKey.LAST_SIGN)
        try:
            return None if text is None else LastSign.from_json(text)
        except ValueError as error:
            log.warning("last sign of life not readable", extra={"reason": str(error)})
            return None


def _make_directory(state: Path) -> None:
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise AgentError(
            f"cannot make {state}: {error.strerror}; create it for the agent's user, or set paths.state"
        ) from error
