# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the Document that answers an account's query: the only module of the API that computes figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Final, TypeAlias

from veilleuse.collector.account.observations import ObservedGroups, gather_periods
from veilleuse.collector.account.statement import (
    METHOD_VERSION,
    withheld_row,
)
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.disclosure.rule import EXEMPT
from veilleuse.collector.documents.document import SHOWN, Document, Row, Value, add_under_way
from veilleuse.collector.factors.book import FactorBook
from veilleuse.collector.model.accounts import Account, Role
from veilleuse.collector.model.factors import Factor
from veilleuse.collector.model.hosts import Host
from veilleuse.collector.model.months import HostPeriod
from veilleuse.collector.model.query import Basis, Query, is_within
from veilleuse.collector.model.sums import Group
from veilleuse.collector.months.reader import Periods
from veilleuse.collector.ports.directory import OpenReadStore
from veilleuse.collector.ports.months import PublicationReader
from veilleuse.collector.ports.store import BoundedReader, PeriodReader
from veilleuse.collector.release.answer import (
    READERS_DIMENSIONS,
    MonthStatus,
    month_status,
    sum_uses,
    withheld_rows,
)
from veilleuse.collector.release.publications import Publish, Releases
from veilleuse.collector.release.stretches import find_stretches
from veilleuse.collector.release.tables import Month, hosts_under_rule
from veilleuse.collector.reports import indicators_document as indicators_report
from veilleuse.collector.reports.emissions import (
    RELEASED_UNTIL,
    emissions_report_of,
    released_report,
    today,
)
from veilleuse.collector.reports.emissions_document import BASIS
from veilleuse.collector.reports.fleet_publication import compute_month
from veilleuse.collector.reports.indicators import indicator_rows
from veilleuse.collector.reports.readers import sources_of, targets_of
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.web.api.query import ApiQuery
from veilleuse.collector.web.api.resources import BY_KIND, FACTOR_COLUMNS, Extent, ResourceKind
from veilleuse.collector.web.problems import Problem
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

READERS_HEAD: Final = ("kind", "ledger", BASIS, RELEASED_UNTIL)
"""Fields of a report's head that a reader may see, beside those that the query gives."""


def fleet_document(
    reader: BoundedReader,
    open_store: OpenReadStore,
    settings: CollectorSettings,
    query: Query,
    *,
    only_released: bool = False,
) -> Document:
    """Build the figures of `veilleuse report emissions`; `only_released`: of the released months alone.

    Call it inside `reader.within`. Raises QueryTooSlow, UsageError, UnknownZone.
    """
    reporting = settings.reporting
    with open_store() as store:
        sources = sources_of(store, reporting, reader)
        timed = replace(sources, periods=_TimedPeriods(sources.periods, reader.check_time))
        if only_released:
            stretches = find_stretches(sources.released, query, cut=True)
            report = released_report(timed, query, stretches, random_roll_out=reporting.random_roll_out)
        else:
            report = emissions_report_of(timed, query, random_roll_out=reporting.random_roll_out)
    reader.check_time()
    tables = {name: [_without_texts(row) for row in rows] for name, rows in report.document.tables.items()}
    return replace(report.document, tables=tables)


def _without_texts(row: Row) -> Row:
    """Remove a row's texts for people, which neither JSON nor CSV has."""
    return {name: value for name, value in row.items() if name != SHOWN}


@dataclass(frozen=True, slots=True)
class _TimedPeriods:
    """Months of machines, with a time check between two rows: Python takes most of a report's time, not
    SQLite.
    """

    periods: PeriodReader
    check_time: Callable[[], None]

    def host_periods(self, first: date, end: date) -> Iterator[HostPeriod]:
        """See ports.PeriodReader. Raises QueryTooSlow."""
        yield from self._in_time(self.periods.host_periods(first, end))

    def host_months(self, first: date, end: date) -> Iterator[HostPeriod]:
        """See ports.PeriodReader. Raises QueryTooSlow."""
        yield from self._in_time(self.periods.host_months(first, end))

    def _in_time(self, rows: Iterator[HostPeriod]) -> Iterator[HostPeriod]:
        self.check_time()
        for row in rows:
            self.check_time()
            yield row


Head: TypeAlias = "dict[str, Value | list[str] | None]"

READERS_NOTES: Final = (
    "Workstations and classroom PCs are released by whole calendar months, some days after their end.",
    "A group is shown in the months in which at least k machines stand behind it, else it is in autres.",
    "Where few machines stand behind a part of its time, a group is in autres; a part of which few are left is not told.",
    "Coverage is of a population and grid zone whole, and not told where few of them were silent.",
    "Where few of a group's machines were silent, its known time is rounded to whole days of each; time and energy at rest make up the difference.",
    "Energy of a part is absent where its time and a model's watts would leave that of few.",
    "autres is of the whole fleet: a reader of some entities does not see it.",
    "incomplete: some machines of the row's entity or device class, or of a reader's entities, are not in it but in autres, in one of its months: it is less than the whole.",
    "n of several months is the most of one month.",
)


@dataclass(frozen=True, slots=True)
class _Answer:
    """Groups of an answer about indicators."""

    rows: tuple[Group, ...]
    withheld: list[dict[str, str]]
    notes: tuple[str, ...] = ()


class Figures:
    """Builds answers. Thread-safe."""

    def __init__(
        self,
        reader: BoundedReader,
        open_store: OpenReadStore,
        settings: CollectorSettings,
        book: Callable[[], FactorBook],
        published: PublicationReader,
        publish: Publish,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take the sources of the figures.

        `open_store` opens the store for one answer; `book` returns the current factors; `publish` sends a
        month to the running collector; `clock`: Unix seconds.
        """
        self._reader = reader
        self._open_store = open_store
        self._settings = settings
        self._book = book
        self._clock = clock
        self._releases = Releases(reader, settings, published, publish, clock, self._make_month)

    def document(self, query: ApiQuery, account: Account) -> Document:
        """Build the whole answer, before it is cut into pages.

        Raises QueryTooSlow, UnknownZone, the store's errors, and AdminError when a month cannot be published.
        """
        if query.asked is None:
            return self._factors(query)
        asked = replace(
            query.asked,
            k_anonymity=self._settings.reporting.k_anonymity,
            today=today(),
            now_unix_milliseconds=round(self._clock() * MILLISECONDS_PER_SECOND),
            entities=account.entities,
        )
        with self._open_store() as store:
            asked = sources_of(store, self._settings.reporting).add_places(asked)
        day = datetime.fromtimestamp(self._clock(), UTC).date()
        return add_under_way(self._answer_period(query.kind, asked, account), day)

    def _answer_period(self, kind: ResourceKind, query: Query, account: Account) -> Document:
        with self._reader.within(self._settings.http.api_answer_seconds):
            if kind is not ResourceKind.INDICATORS:
                return self._fleet(kind, query, account)
            answer = self._gather_groups(query) if account.role is Role.ADMIN else self._sum_released(query)
            self._reader.check_time()
            return self._indicators(answer, self._head(query, account))

    def _fleet(self, kind: ResourceKind, query: Query, account: Account) -> Document:
        """Build the fleet's figure of `veilleuse report emissions`.

        An administrator may read all of it; other readers the released months, inside their entities.
        """
        is_admin = account.role is Role.ADMIN
        if query.basis is Basis.UNRELEASED and not is_admin:
            raise Problem(
                403,
                "not_allowed",
                "figures of machines' present data are for administrators: they could be subtracted from released months",
                where="query parameter basis",
                remedy=f"ask with basis={Basis.RELEASED}, which all accounts may read",
            )
        document = fleet_document(
            self._reader, self._open_store, self._settings, query, only_released=not is_admin
        )
        head = document.head
        if not is_admin:  # others count all machines, live
            head = {name: head[name] for name in (*READERS_HEAD, *self._head(query, account)) if name in head}
            head["entities"] = list(account.entities) or None
        extent = Extent.OBSERVED if query.basis is Basis.OBSERVED else Extent.FLEET
        head = {**head, "figures": extent.value, "role": account.role.value}
        return _cut(replace(document, head=head), kind)

    # --- groups

    def _gather_groups(self, query: Query) -> _Answer:
        """Sum any period and grouping, under the disclosure rule."""
        observed = gather_periods(self._reader, Periods(self._reader), query)
        return _Answer(observed.groups, [withheld_row(key) for key in observed.withheld])

    def _sum_released(self, query: Query) -> _Answer:
        """Sum servers as asked; other machines come from the release."""
        hosts = self._reader.hosts()
        live = self._gather_exempt(query, hosts)
        ruled = hosts_under_rule(hosts)
        whole = self._releases.months(query.first, query.end, self._closed_years())
        older = [part for part in whole if self._releases.is_of_older_rule(part)]
        may_group = set(query.dimensions) <= READERS_DIMENSIONS
        months: list[MonthStatus] = []
        parts = self._months(whole if may_group else (), bool(ruled), query.entities, months)
        released = sum_uses(parts, query)
        if not ruled and not months:
            return _Answer(live.groups, [withheld_row(key) for key in live.withheld])
        return _Answer(
            tuple(sorted((*live.groups, *released), key=lambda group: group.key.order)),
            withheld_rows(months, older, self._releases.today(), query, ruled),
            READERS_NOTES,
        )

    def _months(
        self, parts: Iterable[Slice], may_compute: bool, entities: Collection[str], seen: list[MonthStatus]
    ) -> Iterator[Month]:
        """Yield the months one by one and append each status to `seen`: a year of thousands of groups is 500
        MiB.
        """
        for part in parts:
            month = self._releases.month(part, may_compute=may_compute)
            if month is not None:
                seen.append(month_status(month, entities))
                yield month

    def _make_month(self, part: Slice) -> Month:
        reporting = self._settings.reporting
        with self._open_store() as store:
            sources = sources_of(store, reporting, self._reader)
            return compute_month(sources, part, reporting.k_anonymity)

    def _closed_years(self) -> frozenset[int]:
        """Return definitively closed years: their statistics cover whole years, for administrators only."""
        with self._open_store() as store:
            return store.closings.definitive_years()

    def _gather_exempt(self, query: Query, hosts: Iterable[Host]) -> ObservedGroups:
        mine = [
            host for host in hosts if host.population in EXEMPT and is_within(host.org_entity, query.entities)
        ]
        if not mine:
            return ObservedGroups(())
        return gather_periods(self._reader, Periods(self._reader, mine), query, mine)

    # --- documents

    def _indicators(self, answer: _Answer, head: Head) -> Document:
        rows = indicator_rows(answer.rows, targets_of(self._settings.indicators), str(head["data"]))
        return self._add_notes(indicators_report.document(rows, answer.withheld, head), answer)

    @staticmethod
    def _add_notes(document: Document, answer: _Answer) -> Document:
        return replace(document, assumptions=(*document.assumptions, *answer.notes))

    def _factors(self, query: ApiQuery) -> Document:
        book = self._book()
        zone = None if query.zone is None else book.normalise(query.zone)
        rows = [
            _factor(book, factor)
            for factor in book.factors()
            if zone in (None, factor.zone)
            and (query.year is None or factor.valid_from.year <= query.year <= factor.valid_to.year)
        ]
        if zone is not None and not any(factor.zone == zone for factor in book.factors()):
            book.zone_of(zone)  # raises UnknownZone, which names the nearest zone
        return Document(
            head={"kind": "factors", "zone": zone, "year": query.year},
            columns=tuple(FACTOR_COLUMNS),
            tables={"rows": rows},
            tabular=("rows",),
        )

    def _head(self, query: Query, account: Account) -> Head:
        head: Head = {
            "from": query.first.isoformat(),
            "to": query.end.isoformat(),
            "group_by": list(query.dimensions),
            **({"level": query.level} if query.level else {}),
            "k_anonymity": query.k_anonymity,
            "data": "simulated" if self._reader.data_kind().simulated else "real",
            "method_version": METHOD_VERSION,
            "figures": Extent.OBSERVED.value,
        }
        if account.role is Role.ADMIN:
            # These count all machines, live: they would reveal to a reader when one machine connected.
            head["periods_not_derived"] = self._reader.dirty_count()
            last = query.end - timedelta(days=1)
            balance = self._reader.balance(query.first, last, by_hour=False)
            head["unexplained_milliseconds"] = sum(row.unexplained_milliseconds for row in balance)
        head["role"] = account.role.value
        head["entities"] = list(account.entities) or None
        head["generated_unix_milliseconds"] = query.now_unix_milliseconds
        return head


def _cut(document: Document, kind: ResourceKind) -> Document:
    """Keep the columns and tables of a kind."""
    if kind is ResourceKind.EMISSIONS:
        return document
    resource, asked = BY_KIND[kind], document.head["group_by"]
    assert isinstance(asked, list)
    # Rows have always been divided by it; only who asks reads it here.
    shown = resource.columns.keys() - ({"power_context"} - set(asked))
    tables = {
        name: [{column: row[column] for column in row if column in shown} for row in rows]
        if name != "withheld"
        else rows
        for name, rows in document.tables.items()
        if name in resource.tables
    }
    head = {name: value for name, value in document.head.items() if name != "ledger"}
    columns = tuple(name for name in document.columns if name in shown)
    tabular = tuple(name for name in document.tabular if name in tables)
    return replace(
        document, head={**head, "kind": kind.value}, columns=columns, tables=tables, tabular=tabular
    )


def _factor(book: FactorBook, factor: Factor) -> Row:
    one: dict[str, Value | None] = {
        "factor_id": factor.factor_id,
        "zone": factor.zone,
        "valid_from": factor.valid_from.isoformat(),
        "valid_to": factor.valid_to.isoformat(),
        "factor_series": factor.series,
        "factor_kgco2e_per_kwh": float(factor.total_kgco2e_per_kwh),
        **{f"{name}_kgco2e_per_kwh": float(value) for name, value in factor.components},
        "uncertainty_percent": float(factor.uncertainty_percent),
        "uncertainty_inherited": factor.uncertainty_inherited,
        "u_factor": factor.u,
        "official": book.is_official(factor),
        "basis": factor.basis.value,
        "status": factor.status.value,
        "factor_source": factor.source,
        "factor_published": factor.published or None,
        "factor_sourced": factor.sourced,
        "licence": factor.licence,
    }
    residual = factor.split_residual_kgco2e_per_kwh
    one["split_residual_kgco2e_per_kwh"] = None if residual is None else float(residual)
    return {name: value for name, value in one.items() if value is not None}
