# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Derives dirty periods in the writer's thread, in slices of at most 20 ms."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from veilleuse.collector.calendars.periods import civil_day
from veilleuse.collector.derive.meters import ALONE, Context, distribute_over_cells, load_context
from veilleuse.collector.derive.screens import screen_energies
from veilleuse.collector.derive.wall import wall_energy
from veilleuse.collector.errors import CollectorError, UnknownZone
from veilleuse.collector.model.calibration import Calibration, CalibrationBook
from veilleuse.collector.model.factors import ChosenFactor
from veilleuse.collector.model.hosts import Host, Site
from veilleuse.collector.model.records import Cell, Grain, HostId
from veilleuse.collector.model.sums import (
    DerivedCell,
    DerivedRecord,
    DirtyPeriod,
    LedgerEntry,
    PeriodResult,
    RecordCells,
    WallEnergy,
)
from veilleuse.collector.ports.registry import Registry
from veilleuse.collector.ports.stages import Calibrations, Committer, DeriveStore, MeteringStore
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State, Supply

logger = logging.getLogger(__name__)

SLICE_SECONDS: Final = 0.020
"""Longest time of one job in the writer's thread: it delays acknowledgements by as much."""
PRESSED_SLICE_SECONDS: Final = 0.005
"""Slice while more calls wait than are served: storing goes first, and later derivation handles more records
at once.

It is never zero: docs/wire.md §3.
"""
GATHER_SECONDS: Final = 0.5
"""Wait between the first stored record and the derivation: records that arrive together are derived together.
"""
RETRY_SECONDS: Final = 5.0
"""Wait after a failure of the store."""
_PERIODS_PER_SLICE: Final = 128
_WRITE_SECONDS: Final = 0.000_05
"""Time that the end of a slice takes for each record to write what was derived, from above."""

ChooseFactor = Callable[[str, int], ChosenFactor]
"""(zone, year) → factor; raises UnknownZone. veilleuse.collector.factors.book.FactorBook.choose."""


class DerivedPeriod(NamedTuple):
    """Result of one derived period."""

    cells: tuple[DerivedCell, ...]
    records: tuple[DerivedRecord, ...]
    first_energies: tuple[tuple[Method, State, int], ...]
    """(method, state, mJ) of the records derived for the first time: the increments of the exposed counters.
    """
    screens: tuple[DerivedCell, ...] = ()
    """External screens, separate: in no sum of the machine."""


def derive_period(
    records: Sequence[RecordCells], host: Host, plugged_share_ppm: int, context: Context = ALONE
) -> DerivedPeriod:
    """Sum the wall energy of a period's records, in integers: Σ records = Σ cells, exactly (pure)."""
    energies: list[int | None] = [None] * len(records)
    sums: _Sums = {}
    firsts: dict[tuple[Method, State], int] = {}
    for place, cell, parts in _cells(records, host, plugged_share_ppm, context):
        for part in parts:
            energies[place] = (energies[place] or 0) + part.energy_millijoules
            _add(sums, cell, part)
            if records[place].first_time:
                first = (part.method, cell.state)
                firsts[first] = firsts.get(first, 0) + part.energy_millijoules
    return DerivedPeriod(
        _derived_cells(sums),
        tuple([DerivedRecord(one.record_id, energy) for one, energy in zip(records, energies, strict=True)]),
        tuple([(*key, energy) for key, energy in sorted(firsts.items())]),
        _screens(records, host, context),
    )


_Sums = dict[tuple[Band, State, Supply, Method], list[int]]
"""Key of a derived cell → milliseconds, mJ, uncertainty in mJ."""


def _cells(
    records: Sequence[RecordCells], host: Host, plugged_share_ppm: int, context: Context
) -> Iterable[tuple[int, Cell, tuple[WallEnergy, ...]]]:
    """Return (index of the record, cell, its parts)."""
    found = [
        (
            place,
            cell,
            wall_energy(
                cell,
                host.facts,
                plugged_share_ppm,
                context.calibration,
                trust_psys=context.trust_psys,
                base_microwatts=context.base_microwatts,
            ),
        )
        for place, record in enumerate(records)
        for cell in record.cells
    ]
    if context.shared.machine is None:
        return found
    laid = distribute_over_cells([(cell, parts) for _, cell, parts in found], context.shared.machine)
    return [(place, cell, parts) for (place, cell, _), parts in zip(found, laid, strict=True)]


def _screens(records: Sequence[RecordCells], host: Host, context: Context) -> tuple[DerivedCell, ...]:
    """Derive external screens; none for a virtual machine, whose screen is a window on another machine's."""
    if host.facts.device_class is DeviceClass.VIRTUAL_MACHINE:
        return ()
    cells = [cell for record in records for cell in record.cells]
    if not context.shared.monitor_declared and not any(cell.display_milliseconds for cell in cells):
        return ()
    sums: _Sums = {}
    for cell, energy in zip(cells, screen_energies(cells, context.shared), strict=True):
        if energy is not None:
            _add(sums, cell, energy)
    return _derived_cells(sums)


def _derived_cells(sums: _Sums) -> tuple[DerivedCell, ...]:
    return tuple([DerivedCell(*key, *values) for key, values in sorted(sums.items())])


def _add(sums: _Sums, cell: Cell, part: WallEnergy) -> None:
    key = (cell.band, cell.state, cell.supply, part.method)
    values = [part.milliseconds, part.energy_millijoules, part.uncertainty_millijoules]
    before = sums.get(key)
    sums[key] = values if before is None else [a + b for a, b in zip(before, values, strict=True)]


def civil_year(period: DirtyPeriod, time_zone: str) -> int:
    """Return the year of the site's civil day in which the period begins;
    a week belongs to its Thursday's (ISO 8601).
    """
    if period.grain is Grain.HOUR:
        return date.fromordinal(civil_day(ZoneInfo(time_zone), period.start)).year
    day = date.fromordinal(period.start)
    return (day + timedelta(days=3)).year if period.grain is Grain.WEEK else day.year


def ledger_entries(host: Host, derived: DerivedPeriod, factor: tuple[str, str]) -> tuple[LedgerEntry, ...]:
    """Return the counters' increments at a factor: its id, and kgCO2e/kWh as decimal text."""
    return tuple(
        [
            LedgerEntry(
                host.org_entity,
                host.site,
                host.population,
                host.facts.device_class,
                method,
                state,
                *factor,
                energy,
            )
            for method, state, energy in derived.first_energies
        ]
    )


class _Known:
    """What one slice has read and derived: the slice is one transaction."""

    def __init__(self, registry: Registry, calibrations: Calibrations | None, choose: ChooseFactor) -> None:
        self._registry, self._choose = registry, choose
        self._book = calibrations.book() if calibrations else CalibrationBook()
        self._hosts: dict[HostId, tuple[Host, Calibration | None] | None] = {}
        self._sites: dict[str, Site] = {}
        self._factors: dict[tuple[str, int], tuple[str, str]] = {}
        self.waiting: list[PeriodResult] = []
        """Results that are not written yet."""

    def host(self, host_id: HostId) -> tuple[Host, Calibration | None] | None:
        """Return a host and the calibration of its model; None: forgotten."""
        if host_id not in self._hosts:
            host = self._registry.host(host_id)
            self._hosts[host_id] = None if host is None else (host, self._book.of(host.facts))
        return self._hosts[host_id]

    def factor(self, zone: str, year: int) -> tuple[str, str]:
        """Return a factor's id and kgCO2e/kWh. Raises UnknownZone."""
        found = self._factors.get((zone, year))
        if found is None:
            factor = self._choose(zone, year).factor
            found = self._factors[zone, year] = factor.factor_id, str(factor.total_kgco2e_per_kwh)
        return found

    def site(self, name: str) -> Site:
        if name not in self._sites:
            self._sites[name] = self._registry.site(name)
        return self._sites[name]


def _never() -> bool:
    return False


class DeriveWorker:
    """Derives dirty periods: `run_slice` inside the writer, `drain` for a command,
    `start`/`stop` for the service.
    """

    def __init__(
        self,
        writer: Committer,
        store: DeriveStore,
        registry: Registry,
        choose: ChooseFactor,
        *,
        plugged_share_ppm: int,
        clock: Callable[[], float] = time.monotonic,
        dirty: threading.Event | None = None,
        metering: MeteringStore | None = None,
        calibrations: Calibrations | None = None,
    ) -> None:
        """Take the stores and the clock.

        `dirty`: set by the code that stores records; the background thread sleeps until then. `metering`,
        `calibrations`: None = no shared meters, no calibration.
        """
        self._writer = writer
        self._store = store
        self._registry = registry
        self._choose = choose
        self._metering = metering
        self._calibrations = calibrations
        self._plugged_share_ppm = plugged_share_ppm
        self._clock = clock
        self._stop = threading.Event()
        self._dirty = dirty or threading.Event()
        self._pressed = _never
        self._thread: threading.Thread | None = None
        self._zones_reported: set[str] = set()

    def start(self, pressed: Callable[[], bool] = _never) -> None:
        """Derive in the background until `stop`. `pressed` is asked before each slice:
        True makes the slice short.
        """
        self._pressed = pressed
        self._thread = threading.Thread(target=self._run, name="derive", daemon=True)
        self._thread.start()

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """Stop after the current slice; remaining periods stay dirty."""
        self._stop.set()
        self.wake()
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    def wake(self) -> None:
        """Wake the background thread after marks that no stored record made. From any thread."""
        self._dirty.set()

    def drain(self, tell: Callable[[int], object] = int) -> int:
        """Derive everything that is dirty now; return the number of periods. Raises the store's errors.

        `tell` is called with the number of periods so far.
        """
        done = 0
        while count := self._writer.submit(self.run_slice).result():
            done += count
            tell(done)
        return done

    def run_slice(self) -> int:
        """Derive dirty periods for at most 20 ms (5 ms under pressure), at least one; return their number.

        Runs in the writer's thread. The results are written together at the end.
        """
        end = self._clock() + (PRESSED_SLICE_SECONDS if self._pressed() else SLICE_SECONDS)
        done = records = 0
        periods = self._store.dirty(_PERIODS_PER_SLICE)
        known = _Known(self._registry, self._calibrations if periods else None, self._choose)
        for period in periods:
            try:
                result = self._derive(period, known)
                known.waiting.append(result)
                records += len(result.records)
            except CollectorError:
                raise
            except Exception as error:  # noqa: BLE001  # one period never stops the others: decisions/0011
                self._put_aside(period, error)
            done += 1
            if self._clock() + records * _WRITE_SECONDS >= end:
                break
        self._write(known.waiting)
        return done

    def _derive(self, period: DirtyPeriod, known: _Known) -> PeriodResult:
        records = self._store.record_cells(period)
        found = known.host(period.host_id)
        if found is None:  # forgotten meanwhile: no energy of it may be derived any more
            return PeriodResult(period, "UTC", (), [DerivedRecord(one.record_id, None) for one in records])
        host, calibration = found

        def before_marks(hour: int | None) -> None:
            if hour is None or any(one.period.start == hour for one in known.waiting):
                self._write(known.waiting)

        context = load_context(self._metering, period, records, host.facts, calibration, before_marks)
        derived = derive_period(records, host, self._plugged_share_ppm, context)
        site = known.site(host.site)
        ledger: tuple[LedgerEntry, ...] = ()
        if derived.first_energies:
            try:
                factor = known.factor(site.zone, civil_year(period, site.time_zone))
                ledger = ledger_entries(host, derived, factor)
            except UnknownZone as error:
                self._report_zone(host.site, error)
        has_hours = host.population is not Population.WORKSTATION
        return PeriodResult(
            period, site.time_zone, derived.cells, derived.records, ledger, derived.screens, has_hours
        )

    def _write(self, waiting: list[PeriodResult]) -> None:
        """Write the results and empty the list; when that fails, one by one."""
        results = waiting.copy()
        waiting.clear()
        if not results:
            return
        try:
            self._store.write_derived(results)
        except CollectorError:
            raise
        except Exception as error:  # noqa: BLE001  # one period never stops the others: decisions/0011
            if len(results) == 1:
                self._put_aside(results[0].period, error)
                return
            for one in results:
                self._write([one])

    def _put_aside(self, period: DirtyPeriod, error: Exception) -> None:
        """Put aside a period that our code cannot derive:
        its records stay, `veilleuse derive` tries again.
        """
        logger.error(
            "a period cannot be derived and is put aside", extra={"grain": period.grain.name}, exc_info=error
        )
        self._store.put_aside(period)

    def _report_zone(self, site: str, error: UnknownZone) -> None:
        """Report an unknown zone once per site: energy is derived and reported,
        only the exposed counters stop.
        """
        if site not in self._zones_reported:
            self._zones_reported.add(site)
            logger.error(
                "no factor for a site: its counters stand still", extra={"site": site, "reason": str(error)}
            )

    def _run(self) -> None:
        while not self._stop.is_set():
            self._dirty.clear()
            try:
                while self._writer.submit(self.run_slice).result() and not self._stop.is_set():
                    pass
            except CollectorError as error:
                logger.warning("derivation put off", extra={"reason": str(error)})
                self._stop.wait(RETRY_SECONDS)
                continue
            self._dirty.wait()
            self._stop.wait(GATHER_SECONDS)
