# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse factors …`: emission factors, their sources and history, and their items (`mapping`).

Commands that only read need no data directory.
"""

from __future__ import annotations

import getpass
import hashlib
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from veilleuse.collector.account.ghg_items import DEFAULT_MAPPING, contexts_without_item
from veilleuse.collector.cli import factor_contracts
from veilleuse.collector.cli.factor_contracts import OnOption, book, factor_reader, versions_of
from veilleuse.collector.cli.language import translate_cell
from veilleuse.collector.cli.shared import (
    APP,
    ConfigOption,
    DryRunOption,
    JsonOption,
    load_settings,
    moment,
    print_json,
    print_result,
    print_table,
    print_text,
    read_content,
    run_operation,
    who_and_why,
)
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.factors.base_carbone import MAXIMUM_BYTES, FactorFile, read_base_carbone
from veilleuse.collector.factors.book import FactorBook, factor_book
from veilleuse.collector.factors.versions import InForce, factor_document, history
from veilleuse.collector.model.factors import BilanItem, BilanMapping, ContextMapping, Factor
from veilleuse.collector.model.inventory import PowerContext
from veilleuse.collector.store.directory import DATA_FILE

app = typer.Typer(**APP)
mapping_app = typer.Typer(**APP)
app.add_typer(factor_contracts.app, name="contract", help="Electricity contracts, for the market-based line.")
app.add_typer(mapping_app, name="mapping", help="Items of the bilan carbone for energy, by power context.")

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
        version = translate_cell(f"imported, version {one['version']}") if one["version"] else ""
        print(
            f"{one['zone']}  {one['valid_from']}  {value} kgCO2e/kWh  {one['factor_id']:<20} {translate_cell(mark)}{version and f'  {version}'}"
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
    print_result(
        found, rows, as_json, empty="no factor was ever imported: see 'veilleuse factors import --help'"
    )


@app.command("import")
def import_file(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="ADEME's Base Carbone, as its portal exports it")
    ],
    config: ConfigOption = None,
    dry_run: DryRunOption = False,
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
            **who_and_why(why, f"factors import {file.name}"),
            dry_run=dry_run,
        )
    found["refused"] = [{"where": one.where, "why": one.why} for one in parsed.refused]
    found["left"] = {reason: number for reason, number in sorted(parsed.left.items()) if number}
    found["notes"] = parsed.notes
    print_result(found, lambda: _print_import(file, parsed, found), as_json)
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
    now = "no value is in force for its year"
    if found["in_force"] is not None:
        now = f"{found['in_force']['total_kgco2e_per_kwh']} kgCO2e/kWh is in force again"
    print_result(found, f"{factor_id} withdrawn: {now}", as_json)


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
        print_text(f"{file.name}, {refused.where}: {refused.why}")
    for note in parsed.notes:
        print_text(f"note: {note}")
    for one in found["changed"]:
        print_text(
            f"{one['kind']:<10} {one['factor_id']:<24} {one['total_kgco2e_per_kwh']} "
            f"kgCO2e/kWh{_previous_text(one)}"
        )
    left = ", ".join(translate_cell(f"{number} {reason}") for reason, number in found["left"].items())
    if left:
        print_text(f"left out: {left}")
    if not parsed.refused:
        would = "would change" if found["dry_run"] else "changed"
        print_text(f"{found['factors']} factors in the file; {would}: {len(found['changed'])}")


def _previous_text(change: FactorFacts) -> str:
    """Return the value that a change replaces, in words; empty for a new factor."""
    before = change["before_total_kgco2e_per_kwh"]
    if before is None or change["kind"] != "restated":
        return ""
    same = Decimal(before) == Decimal(change["total_kgco2e_per_kwh"])
    return ", as before: its split, uncertainty or origin differs" if same else f", was {before}"


@mapping_app.callback()
def mapping() -> None:
    """Show or confirm the items of the bilan carbone for energy, by power context. Confirm them once."""


@mapping_app.command("show")
def show_mapping(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the mapping in force, and who confirmed it."""
    current = _current_mapping(config)
    missing = contexts_without_item(current)
    if as_json:
        print_json(
            {
                "confirmed": current.confirmed,
                "confirmed_unix_milliseconds": current.confirmed_unix_milliseconds,
                "confirmed_by": current.confirmed_by,
                "why": current.why,
                "to_be_entered": [context.value for context in missing],
                "contexts": [_mapping_facts(line) for line in current.lines],
            }
        )
        return
    print_table([_mapping_row(line) for line in current.lines], empty="")
    if current.confirmed:
        print_text(f"confirmed by {current.confirmed_by}, {moment(current.confirmed_unix_milliseconds)}")
    else:
        print_text(
            "not confirmed yet: this is the product's default; see 'veilleuse factors mapping confirm --help'"
        )


@mapping_app.command("confirm")
def confirm_mapping(
    eple: Annotated[
        str, typer.Option(help="holder of the electricity contracts of colleges: authority or college")
    ] = "",
    item: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONTEXT=ITEM/CATEGORY",
            help="item of a context, e.g. hosted=4.5/3.1 or eple=4.1/3.3; repeatable",
        ),
    ] = None,
    why: Annotated[str, typer.Option(help="reason, for the record")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Confirm the mapping, as shown or with items of your own. Earlier confirmations stay on record.

    Items from memory (hosted, home) are confirmed by naming them with --item.
    """
    found = run_operation(
        load_settings(config),
        "factors_mapping_confirm",
        eple=eple,
        items=dict(_parse_item(text) for text in item or ()),
        who=getpass.getuser(),
        why=why,
    )
    text = f"{found['contexts']} power contexts confirmed by {found['confirmed_by']}"
    if found["from_memory"]:
        text += (
            "\nnote: these items are from memory, a year that uses them is not closed definitively until you have looked "
            f"them up and named them: {' '.join(f'--item {item}' for item in found['from_memory'])}"
        )
    print_result(found, text, as_json)


def _current_mapping(config: Any) -> BilanMapping:
    settings = load_settings(config)
    if not (settings.data_dir / DATA_FILE).exists():
        return DEFAULT_MAPPING
    with factor_reader(settings) as reader:
        kept = reader.mappings()
    return kept[-1] if kept else DEFAULT_MAPPING


def _parse_item(text: str) -> tuple[str, tuple[str, str]]:
    context, _, pair = text.partition("=")
    item, _, category = pair.partition("/")
    if context not in {one.value for one in PowerContext} or not item or not category:
        raise UsageError(f"--item '{text}': write it like hosted=4.5/3.1, of {', '.join(PowerContext)}")
    return context, (item, category)


def _mapping_facts(line: ContextMapping) -> dict[str, Any]:
    return {
        "power_context": line.context.value,
        "beges_item": line.combustion.beges_item or None,
        "ghg_category": line.combustion.ghg_category or None,
        "upstream_and_losses": None
        if line.rest is None
        else {"beges_item": line.rest.beges_item, "ghg_category": line.rest.ghg_category},
        "in_beges_energie": line.in_beges_energie,
        "in_bilan_numerique": line.in_bilan_numerique,
        "origin": line.origin,
    }


def _mapping_row(line: ContextMapping) -> dict[str, str]:
    whole = line.rest is None
    return {
        "context": line.context.value,
        "combustion": "" if whole else _item_text(line.combustion),
        "upstream and losses": "" if line.rest is None else _item_text(line.rest),
        "all": _item_text(line.combustion) if whole else "",
        "in BEGES énergie": "yes" if line.in_beges_energie else "no",
        "in bilan numérique": "yes" if line.in_bilan_numerique else "no",
        "how it is known": line.origin,
    }


def _item_text(item: BilanItem) -> str:
    return f"{item.beges_item} / {item.ghg_category}" if item.beges_item else "to be entered"
