# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse factors mapping …`: items of the bilan carbone for energy, by power context."""

from __future__ import annotations

import getpass
from typing import Annotated, Any

import typer

from veilleuse.collector.account.ghg_items import DEFAULT_MAPPING, contexts_without_item
from veilleuse.collector.cli.factor_contracts import factor_reader
from veilleuse.collector.cli.shared import (
    APP,
    ConfigOption,
    JsonOption,
    load_settings,
    moment,
    print_json,
    print_table,
    run_operation,
)
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.factors import BilanItem, BilanMapping, ContextMapping
from veilleuse.collector.model.inventory import PowerContext
from veilleuse.collector.store.directory import DATA_FILE

app = typer.Typer(**APP)


@app.callback()
def mapping() -> None:
    """Show or confirm the items of the bilan carbone for energy, by power context. Confirm them once."""


@app.command("show")
def show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
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
                "contexts": [_facts(line) for line in current.lines],
            }
        )
        return
    print_table([_row(line) for line in current.lines], empty="")
    if current.confirmed:
        print(f"confirmed by {current.confirmed_by}, {moment(current.confirmed_unix_milliseconds)}")
    else:
        print(
            "not confirmed yet: this is the product's default; see 'veilleuse factors mapping confirm --help'"
        )


@app.command("confirm")
def confirm(
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
    """Confirm the mapping, as shown or with items of your own. Earlier confirmations stay on record."""
    found = run_operation(
        load_settings(config),
        "factors_mapping_confirm",
        eple=eple,
        items=dict(_parse_item(text) for text in item or ()),
        who=getpass.getuser(),
        why=why,
    )
    if as_json:
        print_json(found)
    else:
        print(f"{found['contexts']} power contexts confirmed by {found['confirmed_by']}")


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


def _facts(line: ContextMapping) -> dict[str, Any]:
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


def _row(line: ContextMapping) -> dict[str, str]:
    whole = line.rest is None
    return {
        "context": line.context.value,
        "combustion": "" if whole else _words(line.combustion),
        "upstream and losses": "" if line.rest is None else _words(line.rest),
        "all": _words(line.combustion) if whole else "",
        "in BEGES énergie": "yes" if line.in_beges_energie else "no",
        "in bilan numérique": "yes" if line.in_bilan_numerique else "no",
        "how it is known": line.origin,
    }


def _words(item: BilanItem) -> str:
    return f"{item.beges_item} / {item.ghg_category}" if item.beges_item else "to be entered"
