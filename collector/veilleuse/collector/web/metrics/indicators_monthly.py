# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes the released month of PCs, the fleet's emissions, I3 to I8, the balance and the grid's view in a
background thread.

A month of energy, 180 days of load or a week of hours are too much work for a look. Servers' indicators are
computed once a civil day. Populations under the k rule are shown from the month that the API answers from. I3
to I5 of the machines in that month are published once beside it (docs/api.md). So a changed power plan or a
late machine never shows as the difference of two snapshots.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from veilleuse.collector.account.observations import gather_periods
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.disclosure.rule import EXEMPT
from veilleuse.collector.errors import CollectorError
from veilleuse.collector.exposition.prometheus import Exposition
from veilleuse.collector.indicators import NIGHTS, TABLE, load_indicator
from veilleuse.collector.model.hosts import Host
from veilleuse.collector.model.indicators import Figure, IndicatorGroup, Targets
from veilleuse.collector.model.publications import FigureFormat, PublicationKind
from veilleuse.collector.model.query import GroupKey, Query, key_of_host
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import GroupSums
from veilleuse.collector.ports.directory import OpenReadStore
from veilleuse.collector.ports.months import PublicationReader
from veilleuse.collector.ports.store import Reader
from veilleuse.collector.release.answer import add_sums, sum_uses
from veilleuse.collector.release.format import FORM as RELEASE
from veilleuse.collector.release.publications import PublicationCache, Publish
from veilleuse.collector.release.tables import PARTITION, Month
from veilleuse.collector.reports.fleet_publication import compute_month
from veilleuse.collector.reports.indicators import GroupFigure, figures_of, figures_of_machines
from veilleuse.collector.reports.inputs import Sources
from veilleuse.collector.reports.machines import Stretch, machines_of
from veilleuse.collector.reports.readers import SobrietySources, sobriety_sources_of, sources_of, targets_of
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.web.metrics.fleet_emissions import FleetEmissions, FleetEmissionsReader
from veilleuse.collector.web.metrics.grid import GridView, read_grid
from veilleuse.collector.web.metrics.indicators_daily import add_parts
from veilleuse.collector.web.metrics.pc_figures import DisclosureContext, disclose_figures
from veilleuse.collector.web.metrics.released_month import (
    MonthView,
    build_month_view,
    families_of,
    last_month,
)
from veilleuse.wire.vocabulary import Population


@dataclass(frozen=True, slots=True)
class ServerBalance:
    """Time balance of servers (R18) over their last whole days: time that no record explains.

    For PCs, it is only in reports and in `veilleuse doctor`.
    """

    unexplained_milliseconds: int
    excess_milliseconds: int


def read_balance(reader: Reader, today: date) -> ServerBalance | None:
    """Read the balance of the BALANCE_DAYS before today; None without whole days."""
    first, last = today - timedelta(days=BALANCE_DAYS), today - timedelta(days=1)
    rows = list(reader.balance(first, last, population=Population.SERVER))
    if not rows:
        return None
    unexplained = sum(row.unexplained_milliseconds for row in rows)
    return ServerBalance(unexplained, sum(row.excess_milliseconds for row in rows))


class MachineFigure(NamedTuple):
    """One indicator of one population's machines, physical or virtual, with its dates."""

    group_figure: GroupFigure
    month: date
    """First day of the last closed month: period of I4 and I5."""
    until: date
    """Exclusive end of the days of server loads; power plans are those reported before it."""


def encode_figures(figures: Sequence[MachineFigure]) -> dict[str, Any]:
    """Encode the figures for JSON.

    Raises ValueError for a figure that is not of a population's whole month, or that holds its machines.
    """
    return {"figures": [_encode_figure(one) for one in figures]}


def decode_figures(content: Mapping[str, Any], first: date, end: date) -> tuple[MachineFigure, ...]:
    """Decode what `encode_figures` returned. Raises ValueError, KeyError, TypeError."""
    return tuple(MachineFigure(_decode_figure(one, first, end), first, end) for one in content["figures"])


def _is_empty(figures: Sequence[MachineFigure]) -> bool:
    return all(one.group_figure.figure.value is None for one in figures)


FORM: Final[FigureFormat[tuple[MachineFigure, ...]]] = FigureFormat(
    PublicationKind.INDICATORS, 2, encode_figures, decode_figures, _is_empty
)


def _encode_figure(one: MachineFigure) -> dict[str, Any]:
    meta, key, figure = one.group_figure
    whole = GroupKey(one.month, one.until, population=key.population, memo=key.memo, autres=key.autres)
    if key != whole or key.population is None or figure.behind or figure.behind_details:
        raise ValueError(f"{meta.indicator} is of more, or of less, than a population's month: {key}")
    return {
        "indicator": meta.indicator,
        "population": key.population.value,
        "memo": key.memo,
        "autres": key.autres,
        "value": _encode_number(figure.value),
        "n": figure.n,
        "numerator": _encode_number(figure.numerator),
        "denominator": _encode_number(figure.denominator),
        "counted_in": figure.counted_in,
        "details": {name: _encode_number(value) for name, value in figure.details.items()},
        "interval": None if figure.interval is None else [_encode_number(end) for end in figure.interval],
        "threshold": _encode_number(figure.threshold),
        "withheld": figure.withheld,
    }


def _decode_figure(one: Mapping[str, Any], first: date, end: date) -> GroupFigure:
    key = GroupKey(
        first, end, population=Population(one["population"]), memo=one["memo"], autres=one["autres"]
    )
    interval = one["interval"]
    figure = Figure(
        _number(one["value"]),
        one["n"],
        _number(one["numerator"]),
        _number(one["denominator"]),
        one["counted_in"],
        {name: _number(value) for name, value in one["details"].items()},
        None if interval is None else (_number(interval[0]), _number(interval[1])),
        _number(one["threshold"]),
        one["withheld"],
    )
    return GroupFigure(load_indicator(one["indicator"]).meta, key, figure)


def _encode_number(value: float | str | None) -> Any:
    return {"float": repr(value)} if isinstance(value, float) else value


def _number(value: Any) -> Any:
    return float(value["float"]) if isinstance(value, dict) else value


log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 60.0
"""Seconds between two checks of the thread for a new day or month, and two readings of the grid."""
BALANCE_SECONDS: Final = 600.0
"""Seconds between two balances: each reads the hours of a week."""
BALANCE_DAYS: Final = 7


@dataclass(frozen=True, slots=True)
class _Computation:
    """Populations and dates of one computation."""

    exempt: bool
    """True for servers, False for populations under the k rule."""
    month: date
    end: date
    """Exclusive end of the month."""
    until: date

    def has(self, host: Host) -> bool:
        """Return true when a host is of these populations."""
        return (host.population in EXEMPT) is self.exempt


class MachineIndicators:
    """Computes the monthly indicators and caches them. `machine_figures` never waits.

    The service calls `start` and `stop`; tests call `refresh`.
    """

    def __init__(
        self,
        settings: CollectorSettings,
        open_store: OpenReadStore,
        published: PublicationReader,
        publish: Publish,
        clock: Callable[[], float] = time.time,
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        """Read nothing yet. `open_store` opens the store for one computation; `clock`: Unix seconds."""
        self._settings = settings
        self._open_store = open_store
        self._clock = clock
        self._check_seconds = check_seconds
        self._published = PublicationCache(FORM, published, publish, settings.reporting.k_anonymity)
        self._by_computation: dict[_Computation, tuple[MachineFigure, ...]] = {}
        self._current: tuple[MachineFigure, ...] = ()
        self._month: MonthView | None = None
        self._is_of_older_rule = False
        self._balance: ServerBalance | None = None
        self._balance_due = 0.0
        self._grid = GridView()
        self._emissions_reader = FleetEmissionsReader()
        self._emissions = FleetEmissions()
        self._months = PublicationCache(RELEASE, published, publish, settings.reporting.k_anonymity)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="indicators", daemon=True)

    def machine_figures(self) -> tuple[MachineFigure, ...]:
        """Return the newest figures; empty before the first computation and while it fails."""
        return self._current

    def month(self) -> MonthView | None:
        """Return the newest released month; None until there is one. Never waits."""
        return self._month

    def is_of_older_rule(self) -> bool:
        """Return true when the newest month was published under a smaller k or in an older format.

        Such a month is not shown. Never waits.
        """
        return self._is_of_older_rule

    def balance(self) -> ServerBalance | None:
        """Return the newest balance. Never waits."""
        return self._balance

    def grid(self) -> GridView:
        """Return the newest view of the grid. Never waits."""
        return self._grid

    def fleet_emissions(self) -> FleetEmissions:
        """Return the newest released months and years of the whole fleet. Never waits."""
        return self._emissions

    def refresh(self) -> None:
        """Compute what is due. Raises DataDirectoryError, StoreTooNew, StoreDamaged."""
        today = datetime.fromtimestamp(self._clock(), ZoneInfo(self._settings.reporting.time_zone)).date()
        with self._open_store() as store:
            self._grid = read_grid(store.data, self._settings, self._clock())
            if self._clock() >= self._balance_due:
                self._balance_due = self._clock() + BALANCE_SECONDS
                self._balance = read_balance(store.data, today)
        servers, others = _due_computations(today)
        self._by_computation = {
            servers: self._by_computation[servers]
            if servers in self._by_computation
            else self._compute_figures(servers)
        }
        try:
            month = self._find_month(others, today)
            figures = self._find_figures(month, others, today) if month else ()
        except CollectorError as error:
            log.warning(
                "a month of workstations and classroom PCs is not shown", extra={"reason": str(error)}
            )
            month, figures = None, ()
        self._month = build_month_view(month) if month else None
        self._is_of_older_rule = month is None and self._months.is_of_older_rule(others.month, others.end)
        self._current = (*self._by_computation[servers], *figures)
        self._emissions = self._read_emissions(today)

    def _read_emissions(self, today: date) -> FleetEmissions:
        """Return the fleet's emissions; none while they cannot be computed."""
        try:
            with self._open_store() as store:
                return self._emissions_reader.read(sources_of(store, self._settings.reporting), today)
        except CollectorError as error:
            log.warning("emissions of the whole fleet are not shown", extra={"reason": str(error)})
            return FleetEmissions()

    def _find_month(self, computation: _Computation, today: date) -> Month | None:
        """Return the published month; None as long as it cannot be published."""
        return self._months.figures(
            computation.month, computation.end, today, partial(self._make_month, computation)
        )

    def _make_month(self, computation: _Computation) -> Month:
        reporting, part = self._settings.reporting, Slice(computation.month, computation.end)
        with self._open_store() as store:
            return compute_month(sources_of(store, reporting), part, reporting.k_anonymity)

    def _find_figures(
        self, month: Month, computation: _Computation, today: date
    ) -> tuple[MachineFigure, ...]:
        """Return the published I3 to I5 of the machines in the month."""
        make = partial(self._compute_figures, computation, month)
        return self._published.figures(computation.month, computation.end, today, make) or ()

    def _compute_figures(
        self, computation: _Computation, month: Month | None = None
    ) -> tuple[MachineFigure, ...]:
        began = time.monotonic()
        with self._open_store() as store:
            sources = sobriety_sources_of(store, self._settings.reporting)
            figures = tuple(_machine_figures_of(sources, computation, self._settings, month))
        facts = {"month": computation.month.isoformat(), "seconds": round(time.monotonic() - began, 3)}
        log.info("indicators of machines worked out", extra=facts)
        return figures

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Start no further computation; a running one ends with the process."""
        self._stop.set()

    def _run(self) -> None:
        logged: set[type[Exception]] = set()
        try:
            while not self._stop.is_set():
                try:
                    self.refresh()
                    logged.clear()
                except CollectorError as error:
                    self._forget()
                    log.warning("indicators of machines not worked out", extra={"reason": str(error)})
                except Exception as error:  # a bug must not end the thread: decisions/0011
                    self._forget()
                    if type(error) not in logged:
                        log.error("indicators of machines cannot be worked out", exc_info=error)
                    logged.add(type(error))
                self._stop.wait(self._check_seconds)
        finally:
            self._forget()  # without this thread the figures would grow old

    def _forget(self) -> None:
        self._current, self._month, self._is_of_older_rule = (), None, False
        self._balance, self._balance_due, self._grid = None, 0.0, GridView()
        self._emissions = FleetEmissions()


def _due_computations(today: date) -> tuple[_Computation, ...]:
    """Return what is due: servers up to today, other populations up to the end of the last month.

    The last month is the newest one whose late records have arrived.
    """
    month, end = last_month(today)
    return _Computation(True, month, end, today), _Computation(False, month, end, end)


def _machine_figures_of(
    sources: SobrietySources, computation: _Computation, settings: CollectorSettings, month: Month | None
) -> Iterable[MachineFigure]:
    """Compute the figures of the due hosts; with a released `month`, only of machines of its families."""
    hosts = [host for host in sources.base.reader.hosts() if computation.has(host)]
    places = _places(sources, hosts, month) if month else {}
    if month:
        hosts = [host for host in hosts if host.host_id in places]
    if not hosts:
        return
    stretch = Stretch(
        (computation.month, computation.end), computation.until, computation.until - timedelta(days=1)
    )
    machines = machines_of(sources, stretch, hosts, sources.base.inventory.assets())
    k, targets = settings.reporting.k_anonymity, targets_of(settings.indicators)
    query = Query(computation.month, computation.until, (), k, computation.until)
    found = figures_of_machines(machines, query, targets)
    if month:
        found = disclose_figures(found, machines, DisclosureContext(month, places, k, targets))
    of_month = replace(query, end=computation.end)
    for one in (*found, *_night_figures(sources.base, of_month, hosts, month, targets)):
        alone = replace(one.figure, behind=(), behind_details={})  # its machines must not leave the process
        yield MachineFigure(one._replace(figure=alone), computation.month, computation.until)


def _night_figures(
    sources: Sources, query: Query, hosts: Iterable[Host], month: Month | None, targets: Targets
) -> Iterator[GroupFigure]:
    """Yield I5 of each population, physical or virtual, from the same sums as reports."""
    groups = (
        sum_uses((month,), query)
        if month
        else gather_periods(sources.reader, sources.periods, query, hosts).groups
    )
    found: dict[GroupKey, GroupSums] = {}
    for group in groups:
        key = query.key._replace(population=group.key.population, memo=group.key.memo)
        found[key] = add_sums(found[key], group.sums, same_time=True) if key in found else group.sums
    for key, sums in found.items():
        yield from figures_of((NIGHTS,), IndicatorGroup(key, sums=sums), targets)


def _places(sources: SobrietySources, hosts: Iterable[Host], month: Month) -> dict[HostId, GroupKey]:
    """Return the key of each machine in the release; families without a row are left out."""
    sites = {site.site: site for site in sources.base.reader.sites()}
    families, period = families_of(month), (month.part.first, month.part.end)
    places = {host.host_id: key_of_host(host, sites[host.site], *period).coarsen(PARTITION) for host in hosts}
    return {host_id: place for host_id, place in places.items() if place.family in families}


# --- exposition


def add_machine_figures(out: Exposition, machine_figures: Iterable[MachineFigure]) -> None:
    """Add the samples. Values that are unknown or may not be disclosed have none."""
    for one in machine_figures:
        meta, key, figure = one.group_figure
        labels = {"population": key.population or "", "machines": "virtual" if key.memo else "physical"}
        shown = load_indicator(meta.indicator).parts(figure)
        for gauge, parts in zip(TABLE[meta.indicator].gauges, shown, strict=True):
            add_parts(out, gauge, labels, parts)
