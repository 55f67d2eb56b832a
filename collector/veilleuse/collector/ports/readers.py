# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The seams of closed years: kept for ever, never changed. docs/decisions/0039."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import NamedTuple, Protocol, runtime_checkable

from veilleuse.collector.model.accounts import Access, Account, Role
from veilleuse.collector.model.actions import Action, ActionLine, FollowTable, KeptAction, LineChange
from veilleuse.collector.model.calibration import CalibrationBook
from veilleuse.collector.model.closed_years import ClosedFile, ClosedYear, KeptYear, PackedFile
from veilleuse.collector.model.factors import (
    BilanMapping,
    Contract,
    Factor,
    FactorImport,
    FactorVersion,
    KeptContract,
)
from veilleuse.collector.model.figures import EnergySums, GaugeParts, IndicatorMeta
from veilleuse.collector.model.grid import (
    GridIntensity,
    IntensityImport,
    PollState,
    ReplacedValue,
    SeriesState,
)
from veilleuse.collector.model.hosts import Host, Site
from veilleuse.collector.model.indicators import Figure, IndicatorMachine, Load, Pair, SobrietyGroup, Targets
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
    """What of a year is not in its figure yet."""

    periods: int
    """Hours, days and weeks that wait to be derived."""
    months: int
    """(machine, month) not kept, or no longer true."""


class MayGo(NamedTuple):
    """What of too old a year may go, because the year is closed or its statistics are kept."""

    months: frozenset[int] | None = None
    """Years whose months of machines may; None: all."""
    readings_until: int | None = None
    """Readings of shared meters from this moment on (Unix ms) stay; None: none does."""


class ClosedYearReader(Protocol):
    """Read-only, any process."""

    def revisions(self, year: int | None = None) -> tuple[ClosedYear, ...]:
        """All, or a year's, by year and revision."""

    def file(self, one: ClosedYear) -> ClosedFile:
        """The content of a revision. Raises StoreDamaged."""

    def waiting(self, year: int) -> PendingMonths:
        """Of the year."""

    def kept_years(self) -> tuple[KeptYear, ...]:
        """Years that are kept and not closed, in order."""

    def kept_file(self, one: KeptYear) -> ClosedFile:
        """What was in force (`report`) and the statistics of a kept year, without a signature. Raises StoreDamaged."""

    def first_year(self) -> int | None:
        """The first year of which a month of a machine or a reading of a meter is kept; None = there is none."""

    def has_months(self, first: date, end: date, populations: Collection[Population]) -> bool:
        """Whether a month that begins in [first, end) is kept of any machine of these."""

    def has_readings(self, first: date, end: date) -> bool:
        """Whether a reading of any meter is kept of an hour that begins in these days of UTC."""


class ClosedYears(ClosedYearReader, Protocol):
    """The same with its writes. Used like the Registry."""

    def put(self, one: ClosedYear, file: PackedFile) -> None:
        """The next revision of its year; what was kept of the year while it was open goes. Raises AdminError when it is not the next."""

    def keep(self, one: KeptYear, file: PackedFile | None) -> None:
        """In place of what was kept of the year before; None: it cannot be kept. Raises AdminError when it is closed."""

    def may_go(self, today: date) -> MayGo:
        """What retention asks before it takes anything of a year that is over."""

    def definitive_years(self) -> frozenset[int]:
        """Years of which a revision is definitive: their months of PCs may go."""


class PeriodReader(Protocol):
    """What machines did, month by month; read-only, any process."""

    def host_periods(self, first: date, end: date) -> Iterator[HostPeriod]:
        """Of every host, each day type and band of the civil days [first, end), added up over it: `period_from` is `first`.

        Whole calendar years cost one row per host, day type and band. Months not kept yet, no longer true, or not whole are made
        of their days: UsageError where these are gone. In host order.
        """

    def host_months(self, first: date, end: date) -> Iterator[HostPeriod]:
        """The same, month by month: `period_from` is the month's first day. Both are firsts of a month (ValueError otherwise). In (month, host)
        order."""


class InventoryReader(Protocol):
    """The inventory as last imported; read-only, any process. All empty where none ever was."""

    def assets(self) -> tuple[Asset, ...]:
        """All that ever were, in the order they came."""

    def entities(self) -> tuple[Entity, ...]:
        """The tree as it is now, parents first."""

    def purchases(self, year: int) -> tuple[Purchase, ...]: ...
    def retirements(self, first: date, end: date) -> tuple[Retirement, ...]: ...
    def headcounts(self) -> tuple[Headcount, ...]:
        """By entity and day."""

    def inventory_imported_on(self) -> date | None:
        """UTC date of the last import that changed anything; None: there is no inventory, the fleet is what enrolled."""


class Accounts(Protocol):
    """Accounts and their access journal. In the writer's thread; what one job does is one transaction."""

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
        """All that ever were, in the order they were made."""

    def account(self, account_id: int) -> Account | None: ...
    def revoke_account(self, token_sha256: bytes, now_unix_milliseconds: int) -> bool:
        """False when there is none with this token."""

    def note_use(self, account_id: int, now_unix_milliseconds: int) -> None: ...
    def note_access(
        self, account_id: int, now_unix_milliseconds: int, *, route: str, query: str, status: int, rows: int
    ) -> None:
        """One line of the journal, or one more on the line of this hour."""

    def accesses(
        self,
        since_unix_milliseconds: int,
        until_unix_milliseconds: int,
        *,
        account_id: int | None,
        limit: int,
    ) -> tuple[Access, ...]:
        """The newest first."""

    def expire_accesses(self, before_unix_milliseconds: int, limit: int) -> int:
        """How many went, at most `limit`."""


class AccountReader(Protocol):
    """Read-only, in the web process."""

    def account_by_hash(self, token_sha256: bytes) -> Account | None:
        """As it is this moment."""

    def close(self) -> None: ...


class InventoryStore(Protocol):
    """In the writer's thread, outside any transaction: `writer.submit(job, alone=True)`. Each call is durable when it returns."""

    def snapshot(self) -> InventorySnapshot:
        """All that is kept, names included: the caller writes to the journal why it looked."""

    def apply(self, change: InventoryChange) -> None:
        """Write an import, whole or not at all, whenever the process dies. Raises OvertakenImport when another one came first."""

    def candidates(self) -> tuple[Candidate, ...]:
        """The machines that enrolled, with what they may be matched by; those revoked since with them."""

    def decisions(self) -> tuple[Decision, ...]:
        """What operators said and still stands."""

    def decide(self, decisions: Iterable[Decision]) -> None:
        """One more each; a match ends what stood of its asset and of its machine."""

    def put_matching(self, matching: AssetMatches) -> int:
        """Links and doubts, in place of what was there; how many links changed. Nothing is written where nothing did."""


class FactorSource(Protocol):
    """Where factors come from."""

    name: str

    def factors(self) -> Iterable[Factor]:
        """All it has. Raises ConfigurationError when its table lacks licence metadata or cannot be read."""


class FactorReader(Protocol):
    """What was imported and entered; read-only, any process. All empty where nothing ever was."""

    def versions(self) -> tuple[FactorVersion, ...]:
        """All that ever were, in the order they came. Raises StoreDamaged."""

    def contracts(self) -> tuple[KeptContract, ...]:
        """All that ever were, withdrawn ones too."""

    def mappings(self) -> tuple[BilanMapping, ...]:
        """All that were ever confirmed, oldest first; the last is in force."""


class Factors(FactorReader, Protocol):
    """The same with its writes. Used like the Registry. Nothing is ever overwritten: each write adds rows."""

    def put(
        self,
        factors: Sequence[Factor],
        imported: FactorImport,
        now_unix_milliseconds: int,
        restores: int | None = None,
    ) -> tuple[int, ...]:
        """A version of each, in force from now on in the place of the one before; their numbers.

        `restores`: an earlier version that they are, after a withdrawal.
        """

    def enter(self, contract: Contract, who: str, why: str, now_unix_milliseconds: int) -> int:
        """A new contract (its own number is not looked at); its number."""

    def withdraw_contract(self, contract_id: int, who: str, why: str, now_unix_milliseconds: int) -> None:
        """From now on it counts no more. Raises AdminError when there is none, or it was withdrawn already."""

    def confirm(self, mapping: BilanMapping) -> None:
        """In force from now on."""


class IntensityReader(Protocol):
    """What was published of grids; read-only, any process. All empty where nothing ever came."""

    def values(self, zone: str, series: str, start: int, end: int) -> Iterator[GridIntensity]:
        """Those that overlap [start, end), Unix ms, in order; what was not published is not there."""

    def replaced(self, zone: str, series: str, start: int, end: int) -> Iterator[ReplacedValue]:
        """What began in [start, end) and gave way to another value, in order."""

    def states(self) -> tuple[SeriesState, ...]:
        """Each series and status that has a value."""

    def polls(self) -> tuple[PollState, ...]:
        """Each connector that ever tried."""

    def calls(self, connector: str, month: int) -> int:
        """Calls counted of a UTC month (year × 12 + month − 1)."""


class Intensities(IntensityReader, Protocol):
    """The same with its writes. Used like the Registry."""

    def put(self, values: Sequence[GridIntensity], now_unix_milliseconds: int) -> IntensityImport:
        """Each in the place of those that it overlaps, which are kept in the log; left out where a more final one stands.

        Raises ValueError for what is no value, AdminError for a dataset that is not its series'.
        """

    def count_call(self, connector: str, month: int, at_most: int) -> bool:
        """Count one more, before it is made; False, and nothing counted, when the month has had `at_most`."""

    def note(self, connector: str, outcome: str, now_unix_milliseconds: int) -> None:
        """How its poll ended."""


class HourReader(Protocol):
    """Hours of machines beside the grid, for the indicative ledger; read-only, any process."""

    def hosts(self) -> tuple[Host, ...]: ...
    def sites(self) -> tuple[Site, ...]: ...
    def hour_sums(
        self, labels: Mapping[int, int], population: Population | None = None
    ) -> Iterator[tuple[HostId, int, EnergySums]]:
        """(host, label, derived energy) of the hours given: hour, Unix ms → label. Hours of one label are added up.

        Of one population alone, or of all machines; the same pair may come more than once.
        """

    def oldest_hours(self) -> dict[HostId, int]:
        """Start of the oldest hour with energy still kept of each host, Unix ms. Machines without hours are not there."""

    def intensities(self) -> IntensityReader:
        """The same store's; for the thread that asks."""


class SobrietyIndicator(Protocol):
    """As `Indicator`, of machines and assets. Formula, period, unit, threshold, direction and owner stand in its docstring."""

    meta: IndicatorMeta

    def figures(self, group: SobrietyGroup, targets: Targets, /) -> Iterable[Figure]:
        """Its figures of one group; none when it is not of this kind of group. Pure."""


class GaugedIndicator(SobrietyIndicator, Protocol):
    """One whose line of the table has gauges."""

    def parts(self, figure: Figure, /) -> GaugeParts:
        """What each of its gauges shows of a figure."""


@runtime_checkable
class MachineRatio(Protocol):
    """An indicator that is a ratio of sums over machines, so that what a sample of them says of the fleet has bounds."""

    def pair(self, machine: IndicatorMachine, targets: Targets, /) -> Pair:
        """(part, whole) of one machine; 0 of 0 where it is in neither."""


class LoadReader(Protocol):
    """What I4 and I6 to I8 ask beside months; read-only, any process."""

    def server_loads(self, end: date, days: Sequence[int]) -> Mapping[HostId, Mapping[int, Load]]:
        """Server → days → its load over the last so many civil days of its site before `end`."""

    def book(self) -> CalibrationBook:
        """The calibrations in force."""


class FollowReader(Protocol):
    """Actions, and imported lines of the REEN sheet."""

    def actions(self) -> tuple[KeptAction, ...]:
        """All that ever were, withdrawn and replaced ones too, in the order they came. Raises StoreDamaged."""

    def lines(self, table: FollowTable) -> tuple[ActionLine, ...]:
        """Those in force, in the order of their keys. Raises StoreDamaged."""


class Follows(FollowReader, Protocol):
    """The writer's side. Used like the Registry. Rows are added, never changed."""

    def enter(self, actions: Sequence[Action], who: str, why: str, now_unix_milliseconds: int) -> None:
        """New actions, or new versions of those that are known by their id."""

    def withdraw(self, action_id: str, who: str, why: str, now_unix_milliseconds: int) -> None:
        """From now on it counts no more. Raises AdminError when there is none in force."""

    def put(
        self,
        table: FollowTable,
        changes: Sequence[LineChange],
        file_name: str,
        who: str,
        why: str,
        now_unix_milliseconds: int,
    ) -> None:
        """Lines in force from now on, and keys that no longer are."""


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
    """Read-only, any process, any thread."""

    def told(self, kind: PublicationKind, first: date, end: date) -> PublicationSummary | None:
        """What is kept of a period, without its content; None: nothing. Cheap, however large the content."""

    def find(self, kind: PublicationKind, first: date, end: date) -> Publication | None:
        """As it was published; None: it was not."""

    def waits(self, first: date, end: date) -> bool:
        """Whether records of machines under the rule, of days in [first, end), wait to be derived."""


class Publications(Protocol):
    """In the writer's thread; each write is a transaction, or part of the caller's."""

    def put(self, one: Publication) -> bool:
        """Keep it where nothing is kept of its kind and period. False: something is, and stays. Raises AdminError when there is no room."""

    def told(self) -> tuple[PublicationSummary, ...]:
        """All, by period and kind."""

    def take_back(self, first: date, end: date) -> int:
        """Delete those that lie inside [first, end); how many."""

    def expire(self, until: date, years: Collection[int]) -> int:
        """Delete those that ended by `until`, or began in one of the years; how many."""
