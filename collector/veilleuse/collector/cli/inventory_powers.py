# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse inventory powers import|list|remove`: powers that another inventory declares."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from veilleuse.collector.cli.factor_contracts import factor_reader
from veilleuse.collector.cli.shared import (
    APP,
    EXIT_WARNINGS,
    IN_PARTS,
    ConfigOption,
    DryRunOption,
    JsonOption,
    WhyOption,
    day,
    load_settings,
    plural,
    print_json,
    print_note,
    print_table,
    print_text,
    read_content,
    read_text,
    run_operation,
)
from veilleuse.collector.errors import UsageError
from veilleuse.collector.fleet.estimator import class_defaults
from veilleuse.collector.inventory import declared_powers as powers
from veilleuse.collector.inventory.cells import shown
from veilleuse.collector.inventory.csv_table import MAXIMUM_BYTES
from veilleuse.collector.inventory.declared_powers import PowerOutcome, PowerReading
from veilleuse.collector.inventory.mapping import MAXIMUM_BYTES as MAPPING_BYTES
from veilleuse.collector.inventory.mapping import InventoryMapping, read_mapping
from veilleuse.collector.model.inventory import MINUTES_PER_DAY, DeclaredPower, DeclaredPowers
from veilleuse.collector.model.sums import EnergyClass
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.shipped_tables import SCREEN_MICROWATTS, STATE_POWERS
from veilleuse.wire.units import MICROWATTS_PER_MILLIWATT, MILLIWATTS_PER_WATT

app = typer.Typer(**APP)

USUAL_HOURS: Final = 8
"""Hours on in an open day."""
_MOST_LINES: Final = 20


@app.callback()
def declared() -> None:
    """Take powers that another inventory declares as class defaults. They displace no measurement."""


@app.command(name="import")
def import_powers(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="files of one format")],
    form: Annotated[str, typer.Option("--format", help=" or ".join(powers.POWER_FORMATS))],
    config: ConfigOption = None,
    item: Annotated[
        str, typer.Option(help=f"kind of a GLPI list: {', '.join(powers.POWER_ITEMS)}")
    ] = "computer",
    column: Annotated[
        str | None, typer.Option(help="column of the power, where GLPI's list names it otherwise")
    ] = None,
    unit: Annotated[str, typer.Option(help="unit of GreenIT's consumption: J or Wh")] = "J",
    hours_on: Annotated[
        float | None,
        typer.Option(
            "--hours-on", min=0.1, max=24, help="hours on in an open day, of classes that are not always on"
        ),
    ] = None,
    replace: Annotated[
        list[str] | None,
        typer.Option("--replace", metavar="CLASS", help="class whose shipped default gives way; repeatable"),
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option("--mapping", metavar="FILE", help="TOML: meaning of the words of your inventory"),
    ] = None,
    dry_run: DryRunOption = False,
    why: WhyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Import declared powers as class defaults. Classes with a shipped default keep it, but for --replace."""
    _require("--format", [form], powers.POWER_FORMATS)
    _require("--item", [item], powers.POWER_ITEMS)
    _require("--unit", [unit], tuple(powers.UNITS))
    _require("--replace", replace or [], tuple(class_defaults()))
    settings = load_settings(config)
    reading, words = PowerReading(form, shown(files[0].name), _usual_milliwatts()), _words(mapping)
    for name, data in _read(files):
        if form == powers.CARBON:
            powers.read_carbon(reading, words, data, name, item, column)
        else:
            powers.read_greenit(reading, words, data, name, unit, settings.reporting.k_anonymity)
    minutes, in_force = None if hours_on is None else round(hours_on * 60), _in_force(settings).by_class
    made = list(powers.outcomes(reading, class_defaults(), replace or (), minutes, in_force))
    taken = [one.power for one in made if one.power is not None]
    if taken and not dry_run:
        _declare(settings, [one.document for one in taken], [], why or f"import of {reading.file}")
    _print_outcomes(reading, made, as_json=as_json, dry_run=dry_run)
    if reading.rows.refused_count or reading.rows.unknown or len(taken) < len(made):
        raise typer.Exit(EXIT_WARNINGS)


@app.command(name="list")
def list_powers(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the declared powers in force."""
    found = _in_force(load_settings(config))
    if as_json:
        print_json(
            {
                "powers": [one.document for one in found.powers],
                "declared_unix_milliseconds": found.declared_unix_milliseconds or None,
                "declared_by": found.who or None,
                "why": found.why or None,
            }
        )
        return
    print_table([_row(one) for one in found.powers], empty="no power is declared")
    if found.powers:
        print_text(f"declared by {found.who}, {day(found.declared_unix_milliseconds)}; GSD² 4")


@app.command()
def remove(
    device_class: Annotated[str, typer.Argument(metavar="CLASS", help="device class")],
    config: ConfigOption = None,
    why: WhyOption = "",
) -> None:
    """Remove the declared power of a class. Its shipped default, if any, holds again."""
    _declare(load_settings(config), [], [device_class], why)
    print_text(f"removed: {device_class}")


def _declare(
    settings: CollectorSettings, declared: list[dict[str, Any]], removed: list[str], why: str
) -> None:
    who = getpass.getuser()
    run_operation(settings, "powers_declare", powers=declared, removed=removed, who=who, why=why)


def _in_force(settings: CollectorSettings) -> DeclaredPowers:
    with factor_reader(settings) as reader:
        return reader.declared_powers()


def _read(files: list[Path]) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents. Raises UsageError for one that is there twice: it would count twice."""
    read: dict[bytes, Path] = {}
    for file in files:
        data = read_content(file, MAXIMUM_BYTES, IN_PARTS)
        if data in read:
            raise UsageError(f"{file} holds the same as {read[data]}: name each file once")
        read[data] = file
        yield shown(file.name), data


def _usual_milliwatts() -> dict[str, int]:
    """Return the power while on that our default of each class is made of.

    A default that is only a mean over the day is taken for one of USUAL_HOURS.
    """
    known: dict[str, int] = {name: one.active_microwatts for name, one in STATE_POWERS.items()}
    known[EnergyClass.MONITOR] = SCREEN_MICROWATTS[1]
    found = {}
    for name, one in class_defaults().items():
        hours = 24 if name in powers.ALWAYS_ON else USUAL_HOURS
        spread = one.microwatts[0] * 24 // hours
        on = spread if hours == 24 else known.get(name, spread)
        found[name] = on // MICROWATTS_PER_MILLIWATT
    return found


def _require(option: str, words: list[str], allowed: tuple[str, ...]) -> None:
    for word in words:
        if word not in allowed:
            raise UsageError(f"{option} '{word}': use {', '.join(allowed)}")


def _words(mapping: Path | None) -> InventoryMapping:
    if mapping is None:
        return InventoryMapping()
    text = read_text(mapping, MAPPING_BYTES, "leave out all but the words and their meaning")
    return read_mapping(text, mapping.name)


def _print_outcomes(reading: PowerReading, made: list[PowerOutcome], *, as_json: bool, dry_run: bool) -> None:
    rows = reading.rows
    if as_json:
        print_json(
            {
                "rows": rows.rows,
                "without_power": reading.without,
                "refused": rows.refused_count,
                "refused_rows": [
                    {"where": one.where, "column": one.column, "what": one.what, "remedy": one.remedy}
                    for one in rows.refused
                ],
                "unknown": {kind: dict(texts) for kind, texts in rows.unknown.items()},
                "classes": [_document(one) for one in made],
                "dry_run": dry_run,
            }
        )
        return
    for one in rows.refused[:_MOST_LINES]:
        print_text(f"{one.where}{', ' + one.column if one.column else ''}: {one.what}: {one.remedy}")
    if rows.refused_count > _MOST_LINES:
        print_text(f"  … and {rows.refused_count - _MOST_LINES} more: see --json")
    for text, number in rows.unknown.get("device class", {}).items():
        print_text(f"unknown device class, in no power: {number} × {text}")
    print_table([_row(one.power) for one in made if one.power], empty="no power is taken")
    for outcome in made:
        if outcome.power is None:
            print_text(f"not taken: {outcome.device_class}, {_watts(outcome.milliwatts)} W: {outcome.why}")
    would = " (dry run: nothing was changed)" if dry_run else ""
    print_text(
        f"{rows.rows} {plural(rows.rows, 'row')}: {rows.refused_count} refused, {reading.without} without a power{would}"
    )
    if any(one.power for one in made):
        print_note(
            "note: nobody measured a declared power: GSD² 4, and only where nothing of the class is measured"
        )


def _row(one: DeclaredPower) -> dict[str, str]:
    default = class_defaults().get(one.device_class)
    return {
        "device_class": one.device_class,
        "watts_on": _watts(one.milliwatts),
        "hours_on": "24" if one.minutes_on == MINUTES_PER_DAY else f"{one.minutes_on / 60:g}",
        "open_day_watts": _watts(one.microwatts[0] // MICROWATTS_PER_MILLIWATT),
        "shipped_watts": _watts(default.microwatts[0] // MICROWATTS_PER_MILLIWATT) if default else "",
        "range_watts": f"{_watts(one.lowest_milliwatts)} … {_watts(one.highest_milliwatts)}",
        "items": str(one.items),
        "source": f"{one.source} {one.file}",
    }


def _document(one: PowerOutcome) -> dict[str, Any]:
    return {
        "device_class": one.device_class,
        "taken": one.power.document if one.power else None,
        "milliwatts": one.milliwatts,
        "items": one.items,
        "why": one.why or None,
    }


def _watts(milliwatts: int) -> str:
    return f"{milliwatts / MILLIWATTS_PER_WATT:.4g}"
