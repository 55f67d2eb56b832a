# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse factors …`: emission factors, their sources and their history.

Commands that only read need no data directory.
"""

from __future__ import annotations

import getpass
import hashlib
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from veilleuse.collector.cli import factor_contracts, factor_mapping
from veilleuse.collector.cli.factor_contracts import OnOption, book, versions_of
from veilleuse.collector.cli.shared import (
    APP,
    ConfigOption,
    JsonOption,
    load_settings,
    moment,
    print_json,
    print_table,
    read_content,
    run_operation,
)
from veilleuse.collector.errors import AdminError
from veilleuse.collector.factors.base_carbone import MAXIMUM_BYTES, FactorFile, read_base_carbone
from veilleuse.collector.factors.book import FactorBook, factor_book
from veilleuse.collector.factors.versions import InForce, factor_document, history
from veilleuse.collector.ports import Factor

app = typer.Typer(**APP)
app.add_typer(factor_contracts.app, name="contract", help="Electricity contracts, for the market-based line.")
app.add_typer(
    factor_mapping.app, name="mapping", help="Items of the bilan carbone for energy, by power context."
)

FactorFacts = dict[str, Any]

ADEME_LICENCE: Final = "Licence Ouverte (ADEME open data)"
IMPORT_SECONDS: Final = 60.0


@app.callback()
def factors() -> None:
    """List, show and import emission factors of electricity."""


@app.command("list")
def list_factors(
    zone: Annotated[str | None, typer.Option(help="only this zone, e.g. FR")] = None,
    on: OnOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List all factors, by zone and year. Reports apply the official ones."""
    known = book(config, on)
    wanted = None if zone is None else known.zone_of(zone)
    found = [describe(known, factor) for factor in known.factors() if wanted in (None, factor.zone)]
    if as_json:
        print_json(found)
        return
    for one in found:
        mark = "official" if one["official"] else "not applied"
        mark += "" if one["factor_sourced"] else ", not sourced"
        value = f"{one['factor_kgco2e_per_kwh']:<9g}"
        version = f"  imported, version {one['version']}" if one["version"] else ""
        print(
            f"{one['zone']}  {one['valid_from']}  {value} kgCO2e/kWh  {one['factor_id']:<20} {mark}{version}"
        )


@app.command("show")
def show_factor(
    factor_id: Annotated[str, typer.Argument(help="name of the factor, e.g. ADEME-FR-2022-MOY")],
    on: OnOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one factor, with its components, source and licence."""
    known = book(config, on)
    one = describe(known, known.named(factor_id))
    if as_json:
        print_json(one)
        return
    width = max(len(name) for name in one)
    for name, value in one.items():
        print(f"{name:<{width}}  {value}")


@app.command("history")
def show_history(
    factor_id: Annotated[str | None, typer.Argument(help="only this factor")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the restatement log.

    It has every value of a factor: when it was in force, who imported it, from which file, and why.
    """
    logged = history(factor_book().factors(), versions_of(config))
    if factor_id is not None and factor_id not in logged:
        book(config).named(factor_id)  # its error names similar factors
    # Without a name: only factors that were imported. `list` has the shipped ones.
    names = [
        name
        for name, rows in logged.items()
        if factor_id in (None, name) and (factor_id or any(row.version for row in rows))
    ]
    found = [_history_facts(row) for name in names for row in logged[name]]
    if as_json:
        print_json(found)
        return
    rows = [
        {
            "factor": one["factor_id"],
            "kgCO2e/kWh": f"{one['factor_kgco2e_per_kwh']:g}",
            "from": moment(one["from_unix_milliseconds"]) if one["from_unix_milliseconds"] else "shipped",
            "until": moment(one["until_unix_milliseconds"]) if one["until_unix_milliseconds"] else "now",
            "status": one["status"],
            "who": one.get("who", ""),
            "file": one.get("file_name", ""),
            "why": one.get("why", ""),
        }
        for one in found
    ]
    print_table(rows, empty="no factor was ever imported: see 'veilleuse factors import --help'")


@app.command("import")
def import_file(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="ADEME's Base Carbone, as its portal exports it")
    ],
    config: ConfigOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what would change, and change nothing")
    ] = False,
    leave_out: Annotated[
        list[str] | None,
        typer.Option("--leave-out", metavar="NUMBER", help="number of an element to leave out; repeatable"),
    ] = None,
    licence: Annotated[
        str, typer.Option(help="licence of the file, as its publisher states it")
    ] = ADEME_LICENCE,
    why: Annotated[str, typer.Option(help="reason, for the restatement log")] = "",
    as_json: JsonOption = False,
) -> None:
    """Import electricity factors of France. A refused row refuses the whole file."""
    raw = read_content(file, MAXIMUM_BYTES, "leave out what is not electricity")
    parsed = read_base_carbone(raw, licence, leave_out or ())
    found: dict[str, Any] = {
        "factors": len(parsed.factors),
        "changed": [],
        "imported": False,
        "dry_run": dry_run,
    }
    if not parsed.refused:
        found = run_operation(
            load_settings(config),
            "factors_import",
            timeout_seconds=IMPORT_SECONDS,
            factors=[factor_document(factor) for factor in parsed.factors],
            file_name=file.name,
            file_sha256=hashlib.sha256(raw).hexdigest(),
            who=getpass.getuser(),
            why=why or f"veilleuse factors import {file.name}",
            dry_run=dry_run,
        )
    found["refused"] = [{"where": one.where, "why": one.why} for one in parsed.refused]
    found["left"] = {reason: number for reason, number in sorted(parsed.left.items()) if number}
    found["notes"] = parsed.notes
    if as_json:
        print_json(found)
    else:
        _print_import(file, parsed, found)
    if parsed.refused:
        number = len(parsed.refused)
        raise AdminError(f"{number} row{'s' * (number > 1)} of {file.name} refused: nothing was imported")


@app.command("withdraw")
def withdraw(
    factor_id: Annotated[str, typer.Argument(help="name of an imported factor")],
    why: Annotated[str, typer.Option(help="reason, for the restatement log")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """End an imported factor. The value before is in force again; both stay in the log."""
    found = run_operation(
        load_settings(config), "factors_withdraw", factor_id=factor_id, who=getpass.getuser(), why=why
    )
    if as_json:
        print_json(found)
    elif found["in_force"] is None:
        print(f"{factor_id} withdrawn: no value is in force for its year")
    else:
        print(
            f"{factor_id} withdrawn: {found['in_force']['total_kgco2e_per_kwh']} kgCO2e/kWh is in force again"
        )


def describe(known: FactorBook, factor: Factor) -> FactorFacts:
    """Return a factor as plain values; components and publication only when they exist."""
    one: FactorFacts = {
        "factor_id": factor.factor_id,
        "zone": factor.zone,
        "valid_from": factor.valid_from.isoformat(),
        "valid_to": factor.valid_to.isoformat(),
        "factor_series": factor.series,
        "factor_kgco2e_per_kwh": float(factor.total_kgco2e_per_kwh),
        "uncertainty_percent": float(factor.uncertainty_percent),
        "uncertainty_inherited": factor.uncertainty_inherited,
        "u_factor": factor.u,
        "official": known.is_official(factor),
        "basis": factor.basis.value,
        "status": factor.status.value,
        "version": factor.version,
        "factor_source": factor.source,
        "factor_sourced": factor.sourced,
        "licence": factor.licence,
    }
    if factor.published:
        one["factor_published"] = factor.published
    if factor.accessed:
        one["factor_accessed"] = factor.accessed
    if factor.components:
        one["components_kgco2e_per_kwh"] = {name: float(value) for name, value in factor.components}
        one["split_residual_kgco2e_per_kwh"] = float(factor.split_residual_kgco2e_per_kwh or 0)
    return one


def _history_facts(row: InForce) -> FactorFacts:
    one: FactorFacts = {
        "factor_id": row.factor.factor_id,
        "zone": row.factor.zone,
        "factor_kgco2e_per_kwh": float(row.factor.total_kgco2e_per_kwh),
        "uncertainty_percent": float(row.factor.uncertainty_percent),
        "status": row.factor.status.value,
        "version": row.factor.version,
        "from_unix_milliseconds": row.from_unix_milliseconds,
        "until_unix_milliseconds": row.until_unix_milliseconds,
    }
    if row.version is not None:
        imported = row.version.imported
        one |= {
            "who": imported.who,
            "why": imported.why,
            "file_name": imported.file_name,
            "file_sha256": imported.file_sha256,
            "supersedes": row.version.supersedes,
            "restores": row.version.restores,
        }
    return one


def _print_import(file: Path, parsed: FactorFile, found: FactorFacts) -> None:
    for refused in parsed.refused:
        print(f"{file.name}, {refused.where}: {refused.why}")
    for note in parsed.notes:
        print(f"note: {note}")
    for one in found["changed"]:
        print(
            f"{one['kind']:<10} {one['factor_id']:<24} {one['total_kgco2e_per_kwh']} "
            f"kgCO2e/kWh{_previous_text(one)}"
        )
    left = ", ".join(f"{number} {reason}" for reason, number in found["left"].items())
    if left:
        print(f"left out: {left}")
    if not parsed.refused:
        would = "would change" if found["dry_run"] else "changed"
        print(f"{found['factors']} factors in the file; {would}: {len(found['changed'])}")


def _previous_text(change: FactorFacts) -> str:
    """Return the value that a change replaces, in words; empty for a new factor."""
    before = change["before_total_kgco2e_per_kwh"]
    if before is None or change["kind"] != "restated":
        return ""
    same = Decimal(before) == Decimal(change["total_kgco2e_per_kwh"])
    return ", as before: its split, uncertainty or origin differs" if same else f", was {before}"
