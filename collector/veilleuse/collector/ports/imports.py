# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Ports of imported data: the inventory, factors, grid intensities, actions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Protocol

from veilleuse.collector.model.actions import Action, ActionLine, ActionTable, LineChange, StoredAction
from veilleuse.collector.model.factors import (
    BilanMapping,
    Contract,
    Factor,
    FactorImport,
    FactorVersion,
    StoredContract,
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
    DeclaredPowers,
    DeviceGroup,
    Doubt,
    Entity,
    Headcount,
    InventoryChange,
    InventorySnapshot,
    Purchase,
    Retirement,
)
from veilleuse.collector.model.query import Perimeters
from veilleuse.collector.model.records import HostId


class InventoryReader(Protocol):
    """Inventory as last imported; read-only, in any process. All empty without an import."""

    def assets(self) -> tuple[Asset, ...]:
        """Return all assets ever imported, in order of import."""

    def devices(self, first: date, last: date) -> tuple[DeviceGroup, ...]:
        """Return the devices in service on a day of [first, last], at their place of the last one.

        Without virtual machines. Two groups may have the same facts.
        """

    def reinstalled(self) -> dict[HostId, HostId]:
        """Return machine of a reinstalled asset → the asset's last machine, which maps to itself."""

    def entities(self) -> tuple[Entity, ...]:
        """Return the current tree, parents first."""

    def purchases(self, year: int) -> tuple[Purchase, ...]: ...
    def retirements(self, first: date, end: date) -> tuple[Retirement, ...]:
        """Return retirements on days of [first, end).

        A missing age is computed from the asset's day of service.
        """

    def headcounts(self) -> tuple[Headcount, ...]:
        """Return the headcounts by entity and day."""

    def doubts(self) -> tuple[Doubt, ...]:
        """Return the doubts of the last matching."""

    def inventory_imported_on(self) -> date | None:
        """Return the UTC date of the last import with a change;
        None: no inventory, the fleet is the enrolled machines.
        """


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
    """Delivers factors of one publisher."""

    name: str

    def factors(self) -> Iterable[Factor]:
        """Return all its factors. Raises ConfigurationError when its table lacks licence metadata or cannot
        be read.
        """


class FactorReader(Protocol):
    """Imported and entered factors, contracts, mappings and perimeters; read-only, in any process.
    All empty at first.
    """

    def versions(self) -> tuple[FactorVersion, ...]:
        """Return all versions ever imported, in order. Raises StoreDamaged."""

    def contracts(self) -> tuple[StoredContract, ...]:
        """Return all contracts ever entered, withdrawn ones too."""

    def mappings(self) -> tuple[BilanMapping, ...]:
        """Return all mappings ever confirmed, oldest first; the last is in force."""

    def perimeters(self) -> tuple[Perimeters, ...]:
        """Return all perimeters ever declared, oldest first: see perimeters_in_force."""

    def declared_powers(self) -> DeclaredPowers:
        """Return the declared powers in force; none without a declaration."""


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

    def declare(self, perimeters: Perimeters) -> None:
        """Put the perimeters of a year into force from now on."""

    def declare_powers(self, powers: DeclaredPowers) -> None:
        """Put declared powers into force from now on, in place of all before."""


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
