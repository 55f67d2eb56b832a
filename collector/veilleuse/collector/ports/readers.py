# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines the seams of reports: closed years, periods, inventory, accounts, factors, grid, actions,
publications. docs/decisions/0039.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import NamedTuple, Protocol

from veilleuse.collector.model.accounts import Access, Account, Role
from veilleuse.collector.model.actions import Action, ActionLine, ActionTable, LineChange, StoredAction
from veilleuse.collector.model.calibration import CalibrationBook
from veilleuse.collector.model.closed_years import ClosedFile, ClosedYear, KeptYear, PackedFile
from veilleuse.collector.model.factors import (
    BilanMapping,
    Contract,
    Factor,
    FactorImport,
    FactorVersion,
    StoredContract,
)
from veilleuse.collector.model.figures import EnergySums, IndicatorMeta
from veilleuse.collector.model.grid import (
    GridIntensity,
    IntensityImport,
    PollState,
    ReplacedValue,
    SeriesState,
)
from veilleuse.collector.model.hosts import Host, Site
from veilleuse.collector.model.indicators import Figure, Load, SobrietyGroup, Targets
from veilleuse.collector.model.inventory import (
    Asset,
    AssetMatches,
    Candidate,
    Decision,
    Entity,
    Headcount,
    InventoryChange,
    InventorySnapshot,
    Purchase,
    Retirement,
)
from veilleuse.collector.model.months import HostPeriod
from veilleuse.collector.model.publications import Publication, PublicationKind
from veilleuse.collector.model.records import HostId
from veilleuse.wire.vocabulary import Population


class PendingMonths(NamedTuple):
    """Data of a year that its figure does not contain yet."""

    periods: int
    """Hours, days and weeks that wait to be derived."""
    months: int
    """(machine, month) not stored, or out of date."""


class MayGo(NamedTuple):
    """Data of an expired year that may be deleted, because the year is closed or its statistics are
    stored.
    """

    months: frozenset[int] | None = None
    """Years whose months of machines may be deleted; None: all."""
    readings_until: int | None = None
    """Readings of shared meters from this moment on (Unix ms) stay; None: none does."""


class ClosedYearReader(Protocol):
    """Closed years, read-only, in any process."""

    def revisions(self, year: int | None = None) -> tuple[ClosedYear, ...]:
        """Return all revisions, or one year's, by year and revision."""

    def file(self, one: ClosedYear) -> ClosedFile:
        """Return the content of a revision. Raises StoreDamaged."""

    def waiting(self, year: int) -> PendingMonths:
        """Return the pending data of the year."""

    def kept_years(self) -> tuple[KeptYear, ...]:
        """Return the years with stored statistics that are not closed, in order."""

    def kept_file(self, one: KeptYear) -> ClosedFile:
        """Return the terms (`report`) and statistics of a kept year, without a signature.
        Raises StoreDamaged.
        """

    def first_year(self) -> int | None:
        """Return the first year with a stored month of a machine or reading of a meter;
        None = there is none.
        """

    def has_months(self, first: date, end: date, populations: Collection[Population]) -> bool:
        """Return whether a month that begins in [first, end) is stored of any machine of these
        populations.
        """

    def has_readings(self, first: date, end: date) -> bool:
        """Return whether a reading of any meter is stored of an hour that begins in these UTC days."""


class ClosedYears(ClosedYearReader, Protocol):
    """Closed years with writes. Used like the Registry."""

    def put(self, one: ClosedYear, file: PackedFile) -> None:
        """Store the next revision of its year; statistics kept while it was open are deleted.

        Raises AdminError when it is not the next.
        """

    def keep(self, one: KeptYear, file: PackedFile | None) -> None:
        """Replace the kept statistics of the year; None: it cannot be kept.
        Raises AdminError when it is closed.
        """

    def may_go(self, today: date) -> MayGo:
        """Return the data of ended years that retention may delete."""

    def definitive_years(self) -> frozenset[int]:
        """Return the years with a definitive revision: their months of PCs may be deleted."""


class PeriodReader(Protocol):
    """Machines' periods, read-only, in any process."""

    def host_periods(self, first: date, end: date) -> Iterator[HostPeriod]:
        """Yield the sums of every host by day type and band over the civil days [first, end): `period_from`
        is `first`.

        Whole calendar years cost one row per host, day type and band. Months not stored, out of date or
        partial are computed from their days. Raises UsageError where these days are deleted. In host order.
        """

    def host_months(self, first: date, end: date) -> Iterator[HostPeriod]:
        """Yield the same by month: `period_from` is the month's first day. In (month, host) order.

        Both are firsts of a month (ValueError otherwise).
        """


class InventoryReader(Protocol):
    """Inventory as last imported; read-only, in any process. All empty without an import."""

    def assets(self) -> tuple[Asset, ...]:
        """Return all assets ever imported, in order of import."""

    def entities(self) -> tuple[Entity, ...]:
        """Return the current tree, parents first."""

    def purchases(self, year: int) -> tuple[Purchase, ...]: ...
    def retirements(self, first: date, end: date) -> tuple[Retirement, ...]: ...
    def headcounts(self) -> tuple[Headcount, ...]:
        """Return the headcounts by entity and day."""

    def inventory_imported_on(self) -> date | None:
        """Return the UTC date of the last import with a change;
        None: no inventory, the fleet is the enrolled machines.
        """


class Accounts(Protocol):
    """Accounts and their access journal. In the writer's thread; one job is one transaction."""

    def insert_account(
        self,
        *,
        name: str,
        role: Role,
        entities: Sequence[str],
        token_sha256: bytes,
        created_unix_milliseconds: int,
        expires_unix_milliseconds: int,
    ) -> Account: ...
    def accounts(self) -> tuple[Account, ...]:
        """Return all accounts ever created, in order of creation."""

    def account(self, account_id: int) -> Account | None: ...
    def revoke_account(self, token_sha256: bytes, now_unix_milliseconds: int) -> bool:
        """Revoke an account; False when none has this token."""

    def note_use(self, account_id: int, now_unix_milliseconds: int) -> None: ...
    def note_access(
        self, account_id: int, now_unix_milliseconds: int, *, route: str, query: str, status: int, rows: int
    ) -> None:
        """Add a journal line, or one to the count of this hour's line."""

    def accesses(
        self,
        since_unix_milliseconds: int,
        until_unix_milliseconds: int,
        *,
        account_id: int | None,
        limit: int,
    ) -> tuple[Access, ...]:
        """Return the newest first."""

    def expire_accesses(self, before_unix_milliseconds: int, limit: int) -> int:
        """Delete old lines, at most `limit`; return their number."""


class AccountReader(Protocol):
    """Accounts, read-only, in the web process."""

    def account_by_hash(self, token_sha256: bytes) -> Account | None:
        """Return the account as it is now."""

    def close(self) -> None: ...


class InventoryStore(Protocol):
    """Inventory, in the writer's thread, outside any transaction: `writer.submit(job, alone=True)`.

    Each call is durable when it returns.
    """

    def snapshot(self) -> InventorySnapshot:
        """Return the whole inventory with names: the caller writes the reason of the access to the
        journal.
        """

    def apply(self, change: InventoryChange) -> None:
        """Write an import, completely or not at all, even if the process dies.
        Raises OvertakenImport after another import.
        """

    def candidates(self) -> tuple[Candidate, ...]:
        """Return the enrolled machines with their matching data, including those revoked since."""

    def decisions(self) -> tuple[Decision, ...]:
        """Return the operators' decisions in force."""

    def decide(self, decisions: Iterable[Decision]) -> None:
        """Add decisions; a match ends those in force of its asset and of its machine."""

    def put_matching(self, matching: AssetMatches) -> int:
        """Replace links and doubts; return the number of changed links.
        Without a change, nothing is written.
        """


class FactorSource(Protocol):
    """Source of factors."""

    name: str

    def factors(self) -> Iterable[Factor]:
        """Return all its factors. Raises ConfigurationError when its table lacks licence metadata or cannot
        be read.
        """


class FactorReader(Protocol):
    """Imported and entered factors, contracts and mappings; read-only, in any process. All empty at first."""

    def versions(self) -> tuple[FactorVersion, ...]:
        """Return all versions ever imported, in order. Raises StoreDamaged."""

    def contracts(self) -> tuple[StoredContract, ...]:
        """Return all contracts ever entered, withdrawn ones too."""

    def mappings(self) -> tuple[BilanMapping, ...]:
        """Return all mappings ever confirmed, oldest first; the last is in force."""


class Factors(FactorReader, Protocol):
    """Factors with writes. Used like the Registry. Nothing is ever overwritten: each write adds rows."""

    def put(
        self,
        factors: Sequence[Factor],
        imported: FactorImport,
        now_unix_milliseconds: int,
        restores: int | None = None,
    ) -> tuple[int, ...]:
        """Store a version of each, in force from now on in place of the previous one; return their numbers.

        `restores`: the earlier version that returns after a withdrawal.
        """

    def enter(self, contract: Contract, who: str, why: str, now_unix_milliseconds: int) -> int:
        """Enter a new contract, ignoring its own number; return its number."""

    def withdraw_contract(self, contract_id: int, who: str, why: str, now_unix_milliseconds: int) -> None:
        """Withdraw a contract from now on. Raises AdminError for an unknown or withdrawn one."""

    def confirm(self, mapping: BilanMapping) -> None:
        """Put a mapping into force from now on."""


class IntensityReader(Protocol):
    """Published grid intensities; read-only, in any process. All empty without an import."""

    def values(self, zone: str, series: str, start: int, end: int) -> Iterator[GridIntensity]:
        """Yield the values that overlap [start, end), Unix ms, in order; unpublished values are absent."""

    def replaced(self, zone: str, series: str, start: int, end: int) -> Iterator[ReplacedValue]:
        """Yield the replaced values that began in [start, end), in order."""

    def states(self) -> tuple[SeriesState, ...]:
        """Return the state of each series and status with a value."""

    def polls(self) -> tuple[PollState, ...]:
        """Return the state of each connector that ever tried."""

    def calls(self, connector: str, month: int) -> int:
        """Return the counted calls of a UTC month (year × 12 + month − 1)."""


class Intensities(IntensityReader, Protocol):
    """Grid intensities with writes. Used like the Registry."""

    def put(self, values: Sequence[GridIntensity], now_unix_milliseconds: int) -> IntensityImport:
        """Store values in place of those they overlap, which go to the log.

        A value is left out where a more final one exists. Raises ValueError for an invalid value, AdminError
        for a dataset that is not its series'.
        """

    def count_call(self, connector: str, month: int, at_most: int) -> bool:
        """Count one more call, before it is made; False, without a count,
        when the month has had `at_most`.
        """

    def note(self, connector: str, outcome: str, now_unix_milliseconds: int) -> None:
        """Store the outcome of a poll."""


class HourReader(Protocol):
    """Hours of machines with grid intensities, for the indicative ledger; read-only, in any process."""

    def hosts(self) -> tuple[Host, ...]: ...
    def sites(self) -> tuple[Site, ...]: ...
    def hour_sums(
        self, labels: Mapping[int, int], population: Population | None = None
    ) -> Iterator[tuple[HostId, int, EnergySums]]:
        """Yield (host, label, derived energy) of the given hours: hour, Unix ms → label.
        Hours of one label are summed.

        Of one population, or of all machines; the same pair may come more than once.
        """

    def oldest_hours(self) -> dict[HostId, int]:
        """Return the start of each host's oldest stored hour with energy, Unix ms.
        Machines without hours are absent.
        """

    def intensities(self) -> IntensityReader:
        """Return the grid intensities of the same store; for the calling thread."""


class SobrietyIndicator(Protocol):
    """An `Indicator` of machines and assets. Its docstring has the formula, period, unit, threshold,
    direction and owner.
    """

    meta: IndicatorMeta

    def figures(self, group: SobrietyGroup, targets: Targets, /) -> Iterable[Figure]:
        """Return its figures for one group; none when it does not apply to this kind of group. Pure."""


class LoadReader(Protocol):
    """Inputs of I4 and I6 to I8 in addition to months; read-only, in any process."""

    def server_loads(self, end: date, days: Sequence[int]) -> Mapping[HostId, Mapping[int, Load]]:
        """Return server → days → its load over the last `days` civil days of its site before `end`."""

    def book(self) -> CalibrationBook:
        """Return the calibrations in force."""


class ActionReader(Protocol):
    """Actions, and imported lines of the REEN sheet."""

    def actions(self) -> tuple[StoredAction, ...]:
        """Return all actions ever entered, withdrawn and replaced ones too, in order. Raises StoreDamaged."""

    def lines(self, table: ActionTable) -> tuple[ActionLine, ...]:
        """Return the lines in force, in order of their keys. Raises StoreDamaged."""


class ActionStore(ActionReader, Protocol):
    """Actions with writes. Used like the Registry. Rows are added, never changed."""

    def enter(self, actions: Sequence[Action], who: str, why: str, now_unix_milliseconds: int) -> None:
        """Enter new actions, or new versions of actions with a known id."""

    def withdraw(self, action_id: str, who: str, why: str, now_unix_milliseconds: int) -> None:
        """Withdraw an action from now on. Raises AdminError when none is in force."""

    def put(
        self,
        table: ActionTable,
        changes: Sequence[LineChange],
        file_name: str,
        who: str,
        why: str,
        now_unix_milliseconds: int,
    ) -> None:
        """Put lines into force from now on, and end the keys that no longer are."""


class PublicationSummary(NamedTuple):
    """A publication without its content."""

    kind: PublicationKind
    first: date
    end: date
    """Exclusive."""
    format: int
    k_anonymity: int
    method_version: str
    published_unix_milliseconds: int
    content_bytes: int


class PublicationReader(Protocol):
    """Publications, read-only, in any process and thread."""

    def summary(self, kind: PublicationKind, first: date, end: date) -> PublicationSummary | None:
        """Return the summary of a period's publication, None without one.
        Cheap, however large the content.
        """

    def find(self, kind: PublicationKind, first: date, end: date) -> Publication | None:
        """Return a publication as published; None without one."""

    def waits(self, first: date, end: date) -> bool:
        """Return whether records of machines under the disclosure rule,
        of days in [first, end), wait to be derived.
        """


class Publications(Protocol):
    """Publications with writes, in the writer's thread;
    each write is a transaction, or part of the caller's.
    """

    def put(self, one: Publication) -> bool:
        """Store a publication where its kind and period have none. False: one exists and stays.

        Raises AdminError when there is no room.
        """

    def summaries(self) -> tuple[PublicationSummary, ...]:
        """Return the summaries of all, by period and kind."""

    def take_back(self, first: date, end: date) -> int:
        """Delete the publications inside [first, end); return their number."""

    def expire(self, until: date, years: Collection[int]) -> int:
        """Delete the publications that ended by `until`, or began in one of the years;
        return their number.
        """
