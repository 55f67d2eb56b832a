# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse factors contract …`: electricity contracts, for the market-based line."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from veilleuse.collector.cli.shared import (
    APP,
    ConfigOption,
    JsonOption,
    load_settings,
    parse_date,
    print_note,
    print_result,
    run_operation,
)
from veilleuse.collector.errors import CollectorError, ConfigurationError, UsageError
from veilleuse.collector.factors.base_carbone_rows import french_decimal
from veilleuse.collector.factors.book import FactorBook, book_of
from veilleuse.collector.inventory.cells import is_ambiguous
from veilleuse.collector.model.factors import FactorVersion, StoredContract
from veilleuse.collector.ports.imports import FactorReader
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader
from veilleuse.collector.store.directory import DATA_FILE

OnOption = Annotated[
    str | None,
    typer.Option("--on", metavar="DATE", help="factors as known at the end of this UTC day (default: now)"),
]


@contextmanager
def factor_reader(settings: CollectorSettings) -> Iterator[FactorReader]:
    """Open the factors of the data directory. Raises DataDirectoryError when there is none."""
    with open_reader(settings.data_dir) as store:
        yield store.factors


def versions_of(config: Path | None) -> tuple[FactorVersion, ...]:
    """Return the imported factors; none without a data directory.

    Prints a note when the directory cannot be read.
    """
    try:
        settings = load_settings(config)
        if not (settings.data_dir / DATA_FILE).exists():
            return ()
        with factor_reader(settings) as reader:
            return reader.versions()
    except (CollectorError, ConfigurationError, PermissionError) as error:
        if config is not None:
            raise
        print_note(f"note: imported factors cannot be read, only shipped ones are shown: {error}")
        return ()


def book(config: Path | None, on: str | None = None) -> FactorBook:
    """Return the factors in force; `on`: as known then. Raises UsageError, ConfigurationError."""
    return book_of(versions_of(config), None if on is None else parse_date("--on", on))


app = typer.Typer(**APP)


@app.callback()
def contract() -> None:
    """Enter electricity contracts, for the market-based line. The official figure stays location-based."""


@app.command("add")
def add(
    supplier: Annotated[str, typer.Option(help="seller of the electricity")],
    kwh: Annotated[str, typer.Option(help="kWh covered over the whole period")],
    factor: Annotated[str, typer.Option(help="kgCO2e/kWh of the supplier for this contract")],
    first: Annotated[str, typer.Option("--from", metavar="DATE", help="first day")],
    end: Annotated[str, typer.Option("--to", metavar="DATE", help="day after the last")],
    source: Annotated[str, typer.Option(help="document that states the factor")],
    label: Annotated[str, typer.Option(help="your name for the contract")] = "",
    guarantees: Annotated[str, typer.Option(help="guarantees of origin of the contract")] = "",
    uncertainty: Annotated[
        str | None,
        typer.Option(
            help="uncertainty of the factor: 95 % half-width in percent (default: 10, flagged as inherited)"
        ),
    ] = None,
    entity: Annotated[str, typer.Option(help="only this entity and those below it")] = "",
    site: Annotated[str, typer.Option(help="only this site")] = "",
    why: Annotated[str, typer.Option(help="reason, for the record")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Enter a contract. A contract never changes: to correct it, withdraw it and enter a new one."""
    made: dict[str, Any] = {
        "label": label or supplier,
        "supplier": supplier,
        "kwh": _kwh(kwh),
        "factor_kgco2e_per_kwh": _amount("--factor", factor),
        "valid_from": parse_date("--from", first).isoformat(),
        "valid_to": parse_date("--to", end).isoformat(),
        "source": source,
        "guarantees_of_origin": guarantees,
        "uncertainty_percent": None if uncertainty is None else _amount("--uncertainty", uncertainty),
        "entity": entity,
        "site": site,
    }
    found = run_operation(
        load_settings(config), "factors_contract_add", contract=made, who=getpass.getuser(), why=why
    )
    print_result(found, f"contract {found['contract_id']} entered", as_json)


@app.command("list")
def list_contracts(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List contracts, withdrawn ones too."""
    with factor_reader(load_settings(config)) as reader:
        found = [_facts(kept) for kept in reader.contracts()]
    rows = [
        {
            "contract": str(one["contract_id"]),
            "supplier": one["supplier"],
            "from": one["from"],
            "to": one["to"],
            "kWh": f"{one['kwh']:.12g}",
            "kgCO2e/kWh": f"{one['factor_kgco2e_per_kwh']:g}",
            "where": " ".join(part for part in (one["entity"], one["site"]) if part) or "anywhere",
            "guarantees": one["guarantees_of_origin"],
            "": "withdrawn" if one["withdrawn"] else "",
        }
        for one in found
    ]
    print_result(
        found, rows, as_json, empty="no contract is entered: see 'veilleuse factors contract add --help'"
    )


@app.command("withdraw")
def withdraw(
    contract_id: Annotated[int, typer.Argument(help="number of the contract in the list", min=1)],
    why: Annotated[str, typer.Option(help="reason, for the record")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Withdraw a contract: it no longer counts. It stays in the list."""
    found = run_operation(
        load_settings(config),
        "factors_contract_withdraw",
        contract_id=contract_id,
        who=getpass.getuser(),
        why=why,
    )
    print_result(found, f"contract {contract_id} withdrawn", as_json)


def _kwh(text: str) -> str:
    if is_ambiguous(text.strip()):
        raise UsageError(f"--kwh: '{text}' may be thousands or a fraction: write it like 1200 or 1.2")
    return _amount("--kwh", text)


def _amount(option: str, text: str) -> str:
    try:
        return str(french_decimal(text))
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error


def _facts(kept: StoredContract) -> dict[str, Any]:
    one = kept.contract
    return {
        "contract_id": one.contract_id,
        "label": one.label,
        "supplier": one.supplier,
        "from": one.valid_from.isoformat(),
        "to": one.valid_to.isoformat(),
        "kwh": float(one.kwh),
        "factor_kgco2e_per_kwh": float(one.factor_kgco2e_per_kwh),
        "uncertainty_percent": float(one.uncertainty_percent),
        "uncertainty_inherited": one.uncertainty_inherited,
        "guarantees_of_origin": one.guarantees_of_origin,
        "source": one.source,
        "entity": one.entity,
        "site": one.site,
        "basis": "market",
        "who": kept.who,
        "why": kept.why,
        "entered_unix_milliseconds": kept.entered_unix_milliseconds,
        "withdrawn": kept.withdrawn_unix_milliseconds is not None,
        "withdrawn_unix_milliseconds": kept.withdrawn_unix_milliseconds,
        "withdrawn_by": kept.withdrawn_by,
        "withdrawn_why": kept.withdrawn_why,
    }
