# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the Document that answers an account's query: the only module of the API that computes figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Final, TypeAlias

from veilleuse.collector.account.statement import (
    METHOD_VERSION,
)
from veilleuse.collector.clock import unix_seconds
from veilleuse.collector.documents.document import (
    RELEASED_FROM,
    RELEASED_UNTIL,
    SHOWN,
    Document,
    Row,
    Value,
    add_under_way,
)
from veilleuse.collector.factors.book import FactorBook
from veilleuse.collector.model.accounts import Account, Role
from veilleuse.collector.model.factors import Factor
from veilleuse.collector.model.months import HostPeriod
from veilleuse.collector.model.query import Basis, Query, is_within
from veilleuse.collector.ports.directory import OpenReadStore, ReadStore
from veilleuse.collector.ports.store import BoundedReader, PeriodReader
from veilleuse.collector.release.figures import find_stretches
from veilleuse.collector.release.own_rows import add_own_rows
from veilleuse.collector.reports import indicators_document as indicators_report
from veilleuse.collector.reports.emissions import (
    emissions_report_of,
    prepare_for_publication,
    released_report,
)
from veilleuse.collector.reports.emissions_document import BASIS
from veilleuse.collector.reports.indicators import indicator_rows, sum_for_indicators
from veilleuse.collector.reports.inputs import Sources
from veilleuse.collector.reports.readers import sources_of, targets_of
from veilleuse.collector.reports.summaries.answers import answer_all
from veilleuse.collector.settings import CollectorSettings, ReportingSettings
from veilleuse.collector.web.api.query import ApiQuery
from veilleuse.collector.web.api.resources import BY_KIND, FACTOR_COLUMNS, Extent, ResourceKind
from veilleuse.collector.web.metrics.fleet_emissions import inputs_of_released
from veilleuse.collector.web.problems import Problem
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

READERS_HEAD: Final = (
    *("kind", "ledger", "state", "revision", "report_id", "closed_unix_milliseconds"),
    *(BASIS, RELEASED_FROM, RELEASED_UNTIL),
)
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
        timed = _timed_sources(store, reporting, reader)
        if only_released:
            stretches = find_stretches(timed.released, query, cut=True)
            report = prepare_for_publication(
                released_report(
                    timed, query, stretches, random_roll_out=reporting.random_roll_out, servers=False
                )
            )
        else:
            report = emissions_report_of(timed, query, random_roll_out=reporting.random_roll_out)
        document = add_own_rows(report.document, timed.published, query)
    reader.check_time()
    tables = {name: [_without_texts(row) for row in rows] for name, rows in document.tables.items()}
    return replace(document, tables=tables)


def _timed_sources(store: ReadStore, reporting: ReportingSettings, reader: BoundedReader) -> Sources:
    sources = sources_of(store, reporting, reader)
    return replace(sources, periods=_TimedPeriods(sources.periods, reader.check_time))


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


def _narrowed(account: Account, query: Query) -> Account:
    """Return the account as a reader of the entities that a query names, if it names any. Raises Problem."""
    return _narrow(account, query.entities) if query.entities else account


def _narrow(account: Account, entities: tuple[str, ...]) -> Account:
    """Return the account as a reader of some of its entities. Raises Problem for another entity.

    Whoever asks for them, the answer is the one of an account of these entities: released months.
    """
    for one in entities:
        if not is_within(one, account.entities):
            raise Problem(403, "not_allowed", f"this account does not see the entity '{one}'")
    return replace(account, role=Role.READER, entities=entities)


Head: TypeAlias = "dict[str, Value | list[str] | None]"


class Figures:
    """Builds answers. Thread-safe."""

    def __init__(
        self,
        reader: BoundedReader,
        open_store: OpenReadStore,
        settings: CollectorSettings,
        book: Callable[[], FactorBook],
        clock: Callable[[], float] = unix_seconds,
    ) -> None:
        """Take the sources of the figures.

        `open_store` opens the store for one answer; `book` returns the current factors; `clock`: Unix
        seconds.
        """
        self._reader = reader
        self._open_store = open_store
        self._settings = settings
        self._book = book
        self._clock = clock

    def inputs(self, query: ApiQuery, account: Account) -> tuple[object, ...] | None:
        """Return all that a reader's released answer depends on; None where live data are in the answer.

        Raises Problem, UnknownZone and the store's errors.
        """
        asked = query.asked
        if asked is not None and asked.entities:
            account = _narrow(account, asked.entities)
        if asked is None or account.role is Role.ADMIN:
            return None
        today = datetime.fromtimestamp(self._clock(), UTC).date()
        years = range(asked.first.year, asked.end.year + 1)
        with self._open_store() as store:
            sources = sources_of(store, self._settings.reporting, self._reader)
            return (
                today,
                store.inventory.inventory_imported_on(),
                sources.metering.declarations(),
                *inputs_of_released(sources, years),
            )

    def document(self, query: ApiQuery, account: Account) -> Document:
        """Build the whole answer, before it is cut into pages.

        Raises Problem, QueryTooSlow, UnknownZone and the store's errors.
        """
        if query.asked is None:
            return self._factors(query)
        account = _narrowed(account, query.asked)
        return self._answer_period(query.kind, self._asked_by(account, query.asked), account)

    def groups(self, asked: Mapping[str, Query], basis: object, account: Account) -> Mapping[str, Document]:
        """Build the answers behind the summary of a report of released months, inside the account's entities;
        of another basis there are none.

        Raises QueryTooSlow, UnknownZone and the store's errors.
        """
        if basis == Basis.UNRELEASED.value:
            return {}
        with self._reader.within(self._settings.http.api_answer_seconds), self._open_store() as store:
            timed = _timed_sources(store, self._settings.reporting, self._reader)
            return answer_all(
                timed,
                {name: self._asked_by(_narrowed(account, query), query) for name, query in asked.items()},
                basis,
                random_roll_out=self._settings.reporting.random_roll_out,
                cut=account.role is not Role.ADMIN,
            )

    def _asked_by(self, account: Account, query: Query) -> Query:
        return replace(
            query,
            k_anonymity=self._settings.reporting.k_anonymity,
            today=datetime.fromtimestamp(self._clock(), UTC).date(),
            now_unix_milliseconds=round(self._clock() * MILLISECONDS_PER_SECOND),
            entities=account.entities,
        )

    def _answer_period(self, kind: ResourceKind, query: Query, account: Account) -> Document:
        with self._reader.within(self._settings.http.api_answer_seconds):
            if query.basis is Basis.UNRELEASED and account.role is not Role.ADMIN:
                raise Problem(
                    403,
                    "not_allowed",
                    "figures of machines' present data are for administrators: they could be subtracted from released months",
                    where="query parameter basis",
                    remedy=f"ask with basis={Basis.RELEASED}, which all accounts may read",
                )
            if kind is ResourceKind.INDICATORS:
                return add_under_way(self._indicators(query, account), query.today)
            return self._fleet(kind, query, account)

    def _fleet(self, kind: ResourceKind, query: Query, account: Account) -> Document:
        """Build the fleet's figure of `veilleuse report emissions`.

        An administrator may read all of it; other readers the released months, inside their entities.
        """
        is_admin = account.role is Role.ADMIN
        document = fleet_document(
            self._reader, self._open_store, self._settings, query, only_released=not is_admin
        )
        head = document.head
        if not is_admin:  # others count all machines, live
            head = {name: head[name] for name in (*READERS_HEAD, *self._head(query, account)) if name in head}
            head["entities"] = list(account.entities) or None
        extent = Extent.OBSERVED if query.basis is Basis.OBSERVED else Extent.FLEET
        head = {**head, "figures": extent.value, "role": account.role.value}
        return _cut(add_under_way(replace(document, head=head), query.today), kind)

    # --- documents

    def _indicators(self, query: Query, account: Account) -> Document:
        with self._open_store() as store:
            sources = _timed_sources(store, self._settings.reporting, self._reader)
            sums = sum_for_indicators(sources, query, only_released=account.role is not Role.ADMIN)
        self._reader.check_time()
        head = {**self._head(query, account), **sums.head}
        rows = indicator_rows(sums, targets_of(self._settings.indicators), str(head["data"]))
        document = indicators_report.document(rows, sums.withheld, head)
        return replace(document, assumptions=(*document.assumptions, *sums.notes))

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
