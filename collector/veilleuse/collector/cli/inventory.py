# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse inventory import|pull|show|export|template|review …|powers …`.

This process parses the files; the collector gets rows of one common form.
"""

from __future__ import annotations

import getpass
import json
import os
import zlib
from pathlib import Path
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

import typer

from veilleuse.collector import clock
from veilleuse.collector.cli.inventory_powers import app as powers_app
from veilleuse.collector.cli.output import print_import
from veilleuse.collector.cli.progress import shown_step
from veilleuse.collector.cli.shared import (
    APP,
    EXIT_WARNINGS,
    IN_PARTS,
    ConfigOption,
    DryRunOption,
    JsonOption,
    WhyOption,
    check_settings,
    load_settings,
    plural,
    print_json,
    print_note,
    print_result,
    print_table,
    read_content,
    read_text,
    run_operation,
    upload,
)
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.inventory import FORMATS, finished, glpi_files, read_files
from veilleuse.collector.inventory.cells import CellError, entity_of, shown
from veilleuse.collector.inventory.csv_table import MAXIMUM_BYTES
from veilleuse.collector.inventory.glpi_api import Glpi, Wire, read_credentials
from veilleuse.collector.inventory.glpi_api import pull as pull_glpi
from veilleuse.collector.inventory.mapping import ITEMS, InventoryMapping, read_mapping
from veilleuse.collector.inventory.mapping import MAXIMUM_BYTES as MAPPING_BYTES
from veilleuse.collector.inventory.plain_csv import KINDS, csv_of
from veilleuse.collector.inventory.plain_csv import template as template_of
from veilleuse.collector.inventory.rows import InventoryReading, to_document
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader
from veilleuse.wire.limits import AGENT_ID_DIGITS

app = typer.Typer(**APP)
review_app = typer.Typer(**APP)
app.add_typer(review_app, name="review")
app.add_typer(powers_app, name="powers")

SECONDS: Final = 120.0

MappingOption = Annotated[
    Path | None,
    typer.Option("--mapping", metavar="FILE", help="TOML: meaning of the words of your inventory"),
]
EntityOption = Annotated[str, typer.Option("--entity", help="entity of rows that name none")]
SourceOption = Annotated[
    str | None, typer.Option("--source", help="name of this inventory (default: by format)")
]
RetireOption = Annotated[
    bool,
    typer.Option("--retire-absent", help="retire today the assets that a complete list no longer names"),
]
CorrectOption = Annotated[
    bool,
    typer.Option("--correct", help="take a new entity or site as a correction of the past, not as a move"),
]
AssetArgument = Annotated[
    str, typer.Argument(metavar="ASSET", help="number, key, inventory number or name of the asset")
]


@app.callback()
def inventory() -> None:
    """Import the inventory; match it with machines; show and export it."""


@review_app.callback()
def review() -> None:
    """List doubtful matches of machines and assets, and decide."""


@app.command(name="import")
def import_files(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="files of one format")],
    config: ConfigOption = None,
    form: Annotated[
        str | None, typer.Option("--format", help=f"{', '.join(FORMATS)} (default: by content)")
    ] = None,
    item: Annotated[str, typer.Option(help=f"kind of a GLPI list: {', '.join(ITEMS)}")] = "computer",
    mapping: MappingOption = None,
    entity: EntityOption = "",
    source: SourceOption = None,
    dry_run: DryRunOption = False,
    retire_absent: RetireOption = False,
    correct: CorrectOption = False,
    why: WhyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Import files of an inventory. Refused rows are left out; assets that are no longer named are listed."""
    _require("--format", form, FORMATS)
    _require("--item", item, ITEMS)
    settings = load_settings(config)
    words = _read_words(settings, mapping, entity)
    read = [(shown(file.name), read_content(file, MAXIMUM_BYTES, IN_PARTS)) for file in files]
    with shown_step("reading the files", is_shown=not as_json):
        reading = read_files(read, words, form=form, item=item, source=_source(source))
    reason = why or f"veilleuse inventory import {read[0][0]}"
    _import_reading(
        settings, reading, reason, as_json, dry_run=dry_run, retire_absent=retire_absent, correct=correct
    )


@app.command()
def pull(
    credentials: Annotated[
        Path,
        typer.Option(
            "--credentials", metavar="FILE", help="TOML, mode 0600: url, user_token, app_token, ca_file"
        ),
    ],
    config: ConfigOption = None,
    items: Annotated[
        str, typer.Option("--items", help=f"comma-separated: {', '.join(glpi_files.ITEM_TYPES)}")
    ] = "computer,monitor",
    mapping: MappingOption = None,
    entity: EntityOption = "",
    dry_run: DryRunOption = False,
    retire_absent: RetireOption = False,
    correct: CorrectOption = False,
    why: WhyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Import from GLPI's REST API. The result is that of an import of its lists, with their IDs."""
    asked = [item.strip() for item in items.split(",") if item.strip()]
    for item in asked or [""]:
        _require("--items", item, tuple(glpi_files.ITEM_TYPES))
    settings = load_settings(config)
    words = _read_words(settings, mapping, entity)
    who = read_credentials(credentials)
    reading = InventoryReading(glpi_files.SOURCE)
    with shown_step("reading GLPI", is_shown=not as_json), Glpi(Wire(who), who.user_token) as session:
        pull_glpi(reading, words, session, asked)
    finished(reading, words)
    reason = why or "veilleuse inventory pull"
    _import_reading(
        settings, reading, reason, as_json, dry_run=dry_run, retire_absent=retire_absent, correct=correct
    )


@app.command()
def template(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=", ".join(KINDS))] = "assets",
    config: ConfigOption = None,
) -> None:
    """Write an empty CSV file to standard output. Its comments say what each column means."""
    check_settings(config)
    print(template_of(kind), end="")


@app.command()
def show(
    asset: AssetArgument = "",
    config: ConfigOption = None,
    why: WhyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Count assets by entity and class, or show one. The access journal notes that an asset was shown."""
    settings = load_settings(config)
    if asset:
        found = _run(settings, "inventory_show", why, asset=asset)
        print_result(
            found, [{"": name, "value": _cell_text(value)} for name, value in found.items()], as_json
        )
        return
    today = clock.today(ZoneInfo(settings.reporting.time_zone))
    with open_reader(settings.data_dir) as store:
        assets, imported = store.inventory.assets(), store.inventory.inventory_imported_on()
        doubts = len(store.inventory.doubts())
    counts: dict[tuple[str, str], list[int]] = {}
    for one in assets:
        count = counts.setdefault((one.placements[-1].entity, one.device_class), [0, 0, 0, 0])
        for place, is_so in enumerate(
            (
                True,
                one.out_of_service_on is None or one.out_of_service_on > today,
                one.host_id is not None,
                one.absent_since is not None,
            )
        ):
            count[place] += is_so
    names = ("assets", "in_service", "matched", "absent")
    rows = [
        {"entity": entity, "device_class": device_class, **dict(zip(names, count, strict=True))}
        for (entity, device_class), count in sorted(counts.items())
    ]
    if as_json:
        print_json({"imported_on": imported and imported.isoformat(), "doubts": doubts, "groups": rows})
        return
    print_table(
        [{name: str(value) for name, value in row.items()} for row in rows],
        empty="there is no inventory: see 'veilleuse inventory import --help'",
    )
    if rows:
        print_note(f"last change {imported}; {doubts} to review")


@app.command()
def export(
    config: ConfigOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="new file (default: standard output)"),
    ] = None,
    names: Annotated[
        bool,
        typer.Option(
            "--names", help="add keys, names and inventory numbers; needs --why, for the access journal"
        ),
    ] = False,
    why: WhyOption = "",
) -> None:
    """Write the assets as CSV. With --names, an import can read the file back."""
    settings = load_settings(config)
    known: dict[str, list[str]] = {}
    if names:
        known = _run(settings, "inventory_names", why)
    with open_reader(settings.data_dir) as store:
        text = csv_of(store.inventory.assets(), known)
    if output is None:
        print(text, end="")
        return
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise AdminError(f"cannot write {output}: {error.strerror}; choose a new file") from error
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
        file.write(text)


@review_app.command(name="list")
def list_doubts(config: ConfigOption = None, why: WhyOption = "", as_json: JsonOption = False) -> None:
    """Match machines and assets again, and list doubtful matches. The access journal notes this."""
    found = _run(load_settings(config), "inventory_review", why)
    rows = [
        {
            "asset": f"#{one['asset']['asset']}",
            "name": one["asset"]["name"] or one["asset"]["key"],
            "doubt": one["kind"],
            "host": (one["host"] or "")[:AGENT_ID_DIGITS],
            "other": f"#{one['other']['asset']} {one['other']['name']}" if one["other"] else "",
        }
        for one in found["review"]
    ]
    print_result(found, rows, as_json, empty=f"nothing to review: {found['matched']} machines matched")
    if found["doubts"]:
        raise typer.Exit(EXIT_WARNINGS)


@review_app.command()
def match(
    asset: AssetArgument = "",
    host: Annotated[
        str, typer.Argument(metavar="HOST", help="machine, as 'veilleuse hosts list' shows it")
    ] = "",
    config: ConfigOption = None,
    every: Annotated[
        str,
        typer.Option("--all", metavar="DOUBT", help="match every pair of model_disagrees or class_disagrees"),
    ] = "",
    why: WhyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Decide that an asset is a machine."""
    if bool(every) == bool(asset and host):
        raise UsageError("name an asset and a host, or --all model_disagrees")
    if every:
        _decide(config, "inventory_accept", why, as_json, kind=every)
    else:
        _decide(config, "inventory_decide", why, as_json, asset=asset, verdict="matched", host=host)


@review_app.command()
def ignore(
    asset: AssetArgument,
    host: Annotated[str, typer.Argument(metavar="[HOST]", help="only for this machine")] = "",
    config: ConfigOption = None,
    why: WhyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Decide that an asset is not a machine, or no machine at all.

    It is no longer doubtful, and still counts.
    """
    _decide(config, "inventory_decide", why, as_json, asset=asset, verdict="ignored", host=host or None)


@review_app.command()
def duplicate(
    asset: AssetArgument, config: ConfigOption = None, why: WhyOption = "", as_json: JsonOption = False
) -> None:
    """Decide that an asset is listed twice. It no longer counts."""
    _decide(config, "inventory_decide", why, as_json, asset=asset, verdict="duplicate", host=None)


def _run(settings: CollectorSettings, operation: str, why: str, **arguments: Any) -> Any:
    mark = {"who": getpass.getuser(), "why": why}
    return run_operation(settings, operation, timeout_seconds=SECONDS, **arguments, **mark)


def _decide(config: Path | None, operation: str, why: str, as_json: bool, **arguments: Any) -> None:
    found = _run(load_settings(config), operation, why, **arguments)
    matched, doubts = found["matched"], found["doubts"]
    text = f"{matched} {plural(matched, 'machine')} matched, {doubts} {plural(doubts, 'doubt')} left"
    print_result(found, text, as_json)


def _import_reading(
    settings: CollectorSettings, reading: InventoryReading, why: str, as_json: bool, **options: bool
) -> None:
    packed = zlib.compress(json.dumps(to_document(reading), ensure_ascii=False).encode(), 1)
    order = {"who": getpass.getuser(), "why": why, **options}
    with shown_step("matching and writing", is_shown=not as_json):
        found = upload(
            settings, packed, "inventory_part", "inventory_import", timeout_seconds=SECONDS, **order
        )
    print_result(found, lambda: print_import(found), as_json)
    if found["refused"] or found["retire_refused"] or any(kind != "column" for kind in found["unknown"]):
        raise typer.Exit(EXIT_WARNINGS)


def _read_words(settings: CollectorSettings, mapping: Path | None, entity: str) -> InventoryMapping:
    with open_reader(settings.data_dir) as store:
        sites = [site.site for site in store.data.sites()]
    if mapping is None:
        words = InventoryMapping(sites=frozenset(sites))
    else:
        text = read_text(mapping, MAPPING_BYTES, "leave out all but the words and their meaning")
        words = read_mapping(text, mapping.name, sites)
    if entity:
        try:
            words.default_entity = entity_of(entity)
        except CellError as error:
            raise UsageError(f"--entity: {error.what}: {error.remedy}") from error
    return words


def _source(source: str | None) -> str | None:
    if source is not None and not (source.isprintable() and 0 < len(source) <= 64):
        raise UsageError("--source is a name of 1 to 64 printable characters")
    return source


def _require(option: str, word: str | None, allowed: tuple[str, ...]) -> None:
    if word is not None and word not in allowed:
        raise UsageError(f"{option} '{word}': use {', '.join(allowed)}")


def _cell_text(value: Any) -> str:
    return (
        json.dumps(value, ensure_ascii=False)
        if isinstance(value, (dict, list))
        else ""
        if value is None
        else str(value)
    )
