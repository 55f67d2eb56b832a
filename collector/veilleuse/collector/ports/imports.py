# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Ports of imported data: the inventory, factors, grid intensities, actions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Protocol

from veilleuse.collector.model.actions import Action, ActionLine, FollowTable, KeptAction, LineChange
from veilleuse.collector.model.factors import (
    BilanMapping,
    Contract,
    Factor,
    FactorImport,
    FactorVersion,
    KeptContract,
)
from veilleuse.collector.model.grid import (
    GridIntensity,
    IntensityImport,
    PollState,
    ReplacedValue,
    SeriesState,
)
from veilleuse.collector.model.inventory import (
    Asset,
    AssetMatches,
    Candidate,
    Decision,
    Doubt,
    Entity,
    Headcount,
    InventoryChange,
    InventorySnapshot,
    Purchase,
    Retirement,
)


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

    def doubts(self) -> tuple[Doubt, ...]:
        """Those of the last matching."""

    def inventory_imported_on(self) -> date | None:
        """UTC date of the last import that changed anything; None: there is no inventory, the fleet is what enrolled."""


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
