# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Stores imported factors, contracts, mappings, perimeters and declared powers.

Rows are added, never changed. Implements ports.Factors; tables of data_0012, data_0027 and data_0030.
"""

from __future__ import annotations

import json
from collections.abc import Mapping as Keyed
from collections.abc import Sequence
from dataclasses import astuple
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from veilleuse.collector.errors import AdminError
from veilleuse.collector.model.factors import (
    BilanItem,
    BilanMapping,
    ContextMapping,
    Contract,
    Factor,
    FactorBasis,
    FactorImport,
    FactorStatus,
    FactorVersion,
    StoredContract,
)
from veilleuse.collector.model.inventory import DeclaredPowers, PowerContext, powers_of
from veilleuse.collector.model.query import Perimeters, rules_of
from veilleuse.collector.store.sqlite.connection import DataTables, damaged
from veilleuse.collector.store.sqlite.migrations import BesideReader

_FACTOR: Final = (
    "factor_id, zone, from_day, to_day, series, basis, status, total, components_json, shares_json, uncertainty_percent,"
    " uncertainty_inherited, source, published, licence, element_id"
)
_VERSIONS: Final = (
    f"SELECT version, supersedes, restores, unix_milliseconds, file_name, file_sha256, who, why, {_FACTOR} FROM factor_versions"
    " JOIN factor_imports USING (import_id) ORDER BY version"
)
_CONTRACT: Final = (
    "label, supplier, from_day, to_day, kwh, factor, uncertainty_percent, uncertainty_inherited, guarantees_of_origin,"
    " source, entity, site"
)
_CONTRACTS: Final = (
    f"SELECT contract_id, c.unix_milliseconds, c.who, c.why, w.unix_milliseconds, w.who, w.why, {_CONTRACT}"
    " FROM factor_contracts c LEFT JOIN factor_contracts_withdrawn w USING (contract_id) ORDER BY contract_id"
)


class SqliteFactors(DataTables):
    """Reads and writes factors. Each write is a transaction, or part of the caller's."""

    def versions(self) -> tuple[FactorVersion, ...]:
        """Return all versions in the order of their import. Raises StoreDamaged."""
        return tuple(self._made(_version, row) for row in self._data.rows(_VERSIONS))

    def contracts(self) -> tuple[StoredContract, ...]:
        """Return all contracts, also withdrawn ones. Raises StoreDamaged."""
        return tuple(self._made(_contract, row) for row in self._data.rows(_CONTRACTS))

    def mappings(self) -> tuple[BilanMapping, ...]:
        """Return all confirmed mappings, oldest first. Raises StoreDamaged."""
        rows = self._data.rows(
            "SELECT unix_milliseconds, who, why, lines_json FROM factor_mappings ORDER BY mapping_id"
        )
        return tuple(self._made(_mapping, row) for row in rows)

    def perimeters(self) -> tuple[Perimeters, ...]:
        """Return all declared perimeters, oldest first. Raises StoreDamaged."""
        rows = self._data.rows(
            "SELECT year, unix_milliseconds, who, why, rules_json FROM perimeters ORDER BY perimeters_id"
        )
        return tuple(self._made(_perimeters, row) for row in rows)

    def declared_powers(self) -> DeclaredPowers:
        """Return the declared powers in force. Raises StoreDamaged."""
        rows = self._data.rows(
            "SELECT unix_milliseconds, who, why, powers_json FROM declared_powers ORDER BY declared_id DESC LIMIT 1"
        )
        return next((self._made(_powers, row) for row in rows), DeclaredPowers())

    def put(
        self,
        factors: Sequence[Factor],
        imported: FactorImport,
        now_unix_milliseconds: int,
        restores: int | None = None,
    ) -> tuple[int, ...]:
        """Add a version of each, in force from now on; returns their numbers.

        `restores`: the earlier version.
        """
        with self._data.transaction() as connection:
            made = connection.execute(
                "INSERT INTO factor_imports (unix_milliseconds, file_name, file_sha256, who, why) VALUES (?, ?, ?, ?, ?)",
                (now_unix_milliseconds, *astuple(imported)),
            ).lastrowid
            numbers: list[int] = []
            for factor in factors:
                before = connection.execute(
                    "SELECT max(version) FROM factor_versions WHERE factor_id = ?", (factor.factor_id,)
                ).fetchone()[0]
                number = connection.execute(
                    f"INSERT INTO factor_versions (import_id, supersedes, restores, {_FACTOR})"
                    f" VALUES ({', '.join('?' * 19)})",
                    (made, before, restores, *_factor_values(factor)),
                ).lastrowid
                numbers.append(int(number or 0))
        return tuple(numbers)

    def enter(self, contract: Contract, who: str, why: str, now_unix_milliseconds: int) -> int:
        """Add a contract; returns its number."""
        with self._data.transaction() as connection:
            made = connection.execute(
                f"INSERT INTO factor_contracts (unix_milliseconds, who, why, {_CONTRACT}) VALUES ({', '.join('?' * 15)})",
                (
                    now_unix_milliseconds,
                    who,
                    why,
                    contract.label,
                    contract.supplier,
                    contract.valid_from.toordinal(),
                    contract.valid_to.toordinal(),
                    str(contract.kwh),
                    str(contract.factor_kgco2e_per_kwh),
                    str(contract.uncertainty_percent),
                    contract.uncertainty_inherited,
                    contract.guarantees_of_origin,
                    contract.source,
                    contract.entity,
                    contract.site,
                ),
            ).lastrowid
        return int(made or 0)

    def withdraw_contract(self, contract_id: int, who: str, why: str, now_unix_milliseconds: int) -> None:
        """End a contract now. Raises AdminError when there is none or it was withdrawn before."""
        known = {kept.contract.contract_id: kept for kept in self.contracts()}.get(contract_id)
        if known is None:
            raise AdminError(f"no contract {contract_id}: see 'veilleuse factors contract list'")
        if known.withdrawn_unix_milliseconds is not None:
            raise AdminError(f"contract {contract_id} was withdrawn already")
        with self._data.transaction() as connection:
            connection.execute(
                "INSERT INTO factor_contracts_withdrawn VALUES (?, ?, ?, ?)",
                (contract_id, now_unix_milliseconds, who, why),
            )

    def confirm(self, mapping: BilanMapping) -> None:
        """Put a mapping into force now."""
        with self._data.transaction() as connection:
            connection.execute(
                "INSERT INTO factor_mappings (unix_milliseconds, who, why, lines_json) VALUES (?, ?, ?, ?)",
                (
                    mapping.confirmed_unix_milliseconds,
                    mapping.confirmed_by,
                    mapping.why,
                    json.dumps([_line_document(line) for line in mapping.lines], ensure_ascii=False),
                ),
            )

    def declare_powers(self, powers: DeclaredPowers) -> None:
        """Put declared powers into force now."""
        with self._data.transaction() as connection:
            connection.execute(
                "INSERT INTO declared_powers (unix_milliseconds, who, why, powers_json) VALUES (?, ?, ?, ?)",
                (
                    powers.declared_unix_milliseconds,
                    powers.who,
                    powers.why,
                    json.dumps(powers.document(), ensure_ascii=False),
                ),
            )

    def declare(self, perimeters: Perimeters) -> None:
        """Put the perimeters of a year into force now."""
        with self._data.transaction() as connection:
            connection.execute(
                "INSERT INTO perimeters (year, unix_milliseconds, who, why, rules_json) VALUES (?, ?, ?, ?, ?)",
                (
                    perimeters.year,
                    perimeters.declared_unix_milliseconds,
                    perimeters.declared_by,
                    perimeters.why,
                    json.dumps(perimeters.document(), ensure_ascii=False),
                ),
            )

    def _made(self, make: Any, row: Any) -> Any:
        try:
            return make(row)
        except (ValueError, TypeError, KeyError, InvalidOperation) as error:
            raise damaged(self._data.path, f"a factor in it: {error}") from error


class SqliteFactorsReader(BesideReader, SqliteFactors):
    """Reads factors on a connection of its own, beside the writer; for one thread."""


def _factor_values(factor: Factor) -> tuple[str | int, ...]:
    return (
        factor.factor_id,
        factor.zone,
        factor.valid_from.toordinal(),
        factor.valid_to.toordinal(),
        factor.series,
        factor.basis.value,
        factor.status.value,
        str(factor.total_kgco2e_per_kwh),
        json.dumps({name: str(value) for name, value in factor.components}),
        json.dumps({name: str(value) for name, value in factor.estimated_shares}),
        str(factor.uncertainty_percent),
        int(factor.uncertainty_inherited),
        factor.source,
        factor.published,
        factor.licence,
        factor.element_id,
    )


def _version(row: Any) -> FactorVersion:
    version, supersedes, restores, at, file_name, sha256, who, why, *values = row
    (name, zone, first, last, series, basis, status, total, parts, shares, percent, inherited, *texts) = (
        values
    )
    source, published, licence, element_id = texts
    factor = Factor(
        factor_id=name,
        zone=zone,
        valid_from=date.fromordinal(first),
        valid_to=date.fromordinal(last),
        series=series,
        total_kgco2e_per_kwh=Decimal(total),
        components=_parts(json.loads(parts)),
        uncertainty_percent=Decimal(percent),
        uncertainty_inherited=bool(inherited),
        source=source,
        published=published,
        licence=licence,
        estimated_shares=_parts(json.loads(shares)),
        basis=FactorBasis(basis),
        status=FactorStatus(status),
        version=version,
        element_id=element_id,
    )
    return FactorVersion(version, factor, at, FactorImport(file_name, sha256, who, why), supersedes, restores)


def _parts(document: Keyed[str, str]) -> tuple[tuple[str, Decimal], ...]:
    return tuple((name, Decimal(value)) for name, value in document.items())


def _contract(row: Any) -> StoredContract:
    number, entered, who, why, withdrawn, withdrawn_by, withdrawn_why, *values = row
    label, supplier, first, end, kwh, factor, percent, inherited, guarantees, source, entity, site = values
    contract = Contract(
        contract_id=number,
        label=label,
        supplier=supplier,
        valid_from=date.fromordinal(first),
        valid_to=date.fromordinal(end),
        kwh=Decimal(kwh),
        factor_kgco2e_per_kwh=Decimal(factor),
        uncertainty_percent=Decimal(percent),
        uncertainty_inherited=bool(inherited),
        guarantees_of_origin=guarantees,
        source=source,
        entity=entity,
        site=site,
    )
    return StoredContract(contract, entered, who, why, withdrawn, withdrawn_by or "", withdrawn_why or "")


def _line_document(line: ContextMapping) -> dict[str, Any]:
    return {
        "context": line.context.value,
        "combustion": [line.combustion.beges_item, line.combustion.ghg_category],
        "rest": None if line.rest is None else [line.rest.beges_item, line.rest.ghg_category],
        "in_beges_energie": line.in_beges_energie,
        "in_bilan_numerique": line.in_bilan_numerique,
        "origin": line.origin,
    }


def _mapping(row: Any) -> BilanMapping:
    at, who, why, lines = row
    return BilanMapping(
        tuple(
            ContextMapping(
                PowerContext(line["context"]),
                BilanItem(*line["combustion"]),
                None if line["rest"] is None else BilanItem(*line["rest"]),
                bool(line["in_beges_energie"]),
                bool(line["in_bilan_numerique"]),
                line["origin"],
            )
            for line in json.loads(lines)
        ),
        at,
        who,
        why,
    )


def _powers(row: Any) -> DeclaredPowers:
    unix_milliseconds, who, why, document = row
    return DeclaredPowers(powers_of(json.loads(document)), unix_milliseconds, who, why)


def _perimeters(row: Any) -> Perimeters:
    year, at, who, why, rules = row
    return Perimeters(rules_of(json.loads(rules)), year, at, who, why)
