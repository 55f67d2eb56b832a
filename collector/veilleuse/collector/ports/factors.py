# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The seams of emission factors: where they come from, and where imported ones are kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from veilleuse.collector.model.factors import (
    BilanMapping,
    Contract,
    Factor,
    FactorImport,
    FactorVersion,
    KeptContract,
)


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
