# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse intensity …`: intensity of the grid over time, for the indicative ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from veilleuse.collector import clock
from veilleuse.collector.cli.language import translate_cell
from veilleuse.collector.cli.shared import (
    APP,
    EXIT_WARNINGS,
    IN_PARTS,
    ConfigOption,
    JsonOption,
    load_settings,
    moment,
    parse_date,
    print_json,
    print_result,
    print_table,
    print_text,
    read_content,
    run_operation,
)
from veilleuse.collector.errors import UsageError
from veilleuse.collector.grid.files import MAXIMUM_BYTES, Plain, read_file
from veilleuse.collector.grid.poll import RemoteLedger, enabled_connectors
from veilleuse.collector.grid.poll import poll as poll_all
from veilleuse.collector.model.grid import (
    LABEL,
    GridIntensity,
    IntensityImport,
    IntensityKind,
    IntensityStatus,
)
from veilleuse.collector.model.query import check_period
from veilleuse.collector.ports.imports import IntensityReader
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader
from veilleuse.wire.units import (
    MILLIGRAMS_PER_GRAM,
    MILLISECONDS_PER_DAY,
    MILLISECONDS_PER_MINUTE,
    MILLISECONDS_PER_SECOND,
)

app = typer.Typer(**APP)

_SECONDS: Final = 60.0
_MOST_DAYS: Final = 366
"""Most days shown at once: each has up to 288 values."""


@app.callback()
def intensity() -> None:
    """Fetch, import and show the intensity of the grid.

    It is indicative, for servers and classrooms only, and no part of the bilan.
    """


@app.command("poll")
def poll(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Fetch new values now, from the connectors that are on. The running collector does this by itself."""
    settings = load_settings(config)
    connectors = enabled_connectors(settings.intensity)
    if not connectors:
        raise UsageError(
            "no connector is on: set intensity.odre = true, or intensity.electricity_maps_token_file; or "
            "import a file"
        )
    done = list(poll_all(settings.intensity, _ledger(settings), connectors, clock.unix_milliseconds))
    lines = [
        f"{one.connector:<18} {one.outcome:<14} {one.text or _import_text(one.stored, one.left)}"
        for one in done
    ]
    print_result([asdict(one) for one in done], "\n".join(lines), as_json)
    if any(one.outcome != "done" for one in done):
        raise typer.Exit(EXIT_WARNINGS)


@app.command("import")
def import_file(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="ODRÉ's export, CSV or JSON; or a plain table")
    ],
    dataset: Annotated[
        str | None, typer.Option(help="dataset of ODRÉ, when the file does not name it")
    ] = None,
    series: Annotated[str | None, typer.Option(help="plain table: your name of the series")] = None,
    zone: Annotated[str | None, typer.Option(help="plain table: grid zone, e.g. FR-COR")] = None,
    kind: Annotated[str, typer.Option(help="plain table: consumption or combustion")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import a file that was downloaded elsewhere. For places without Internet, with the rules of a poll."""
    settings = load_settings(config)
    plain = None
    if series is not None or zone is not None or kind:
        plain = _plain_table(series, zone, kind)
    found = read_file(
        read_content(file, MAXIMUM_BYTES, IN_PARTS), clock.unix_milliseconds(), dataset=dataset, plain=plain
    )
    ledger = _ledger(settings)
    rows = [(one.values[0].dataset if one.values else "", ledger.put(one.values), one.left) for one in found]
    if as_json:
        print_json([{"dataset": name, **asdict(stored), "left": left} for name, stored, left in rows])
        return
    for name, stored, left in rows:
        print_text(f"{name or file.name:<32} {_import_text(stored, left)}")


@app.command("show")
def show(
    first: Annotated[str | None, typer.Option("--from", metavar="DATE", help="first UTC day")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="DATE", help="UTC day after the last")] = None,
    series: Annotated[str | None, typer.Option(help="series to show (default: intensity.series)")] = None,
    zone: Annotated[str | None, typer.Option(help="grid zone (default: reporting.zone)")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the series, or show each day of one.

    With --from and --to: its values, gaps and replaced values.
    """
    settings = load_settings(config)
    with open_reader(settings.data_dir) as store:
        reader = store.data.intensities()
        if first is None and end is None:
            _show_series(reader, as_json)
            return
        if first is None or end is None:
            raise UsageError("give both --from and --to")
        days = _period(first, end)
        name, where = series or settings.intensity.series, zone or settings.reporting.zone
        found = list(_days(reader, where, name, *days))
    if as_json:
        print_json({"label": LABEL, "zone": where, "series": name, "days": found})
        return
    print_text(f"{name}, {where}: {LABEL}; an unweighted mean must not be used for emissions")
    print_table(
        [{key: "–" if value is None else str(value) for key, value in one.items()} for one in found],
        empty="no day",
    )


def _show_series(reader: IntensityReader, as_json: bool) -> None:
    states, polls = reader.states(), reader.polls()
    if as_json:
        print_json(
            {
                "label": LABEL,
                "series": [asdict(one) for one in states],
                "polls": [asdict(one) for one in polls],
            }
        )
        return
    rows = [
        {
            "series": one.series,
            "zone": one.zone,
            "kind": one.kind.value,
            "status": one.status.value,
            "dataset": one.dataset,
            "from": moment(one.oldest_unix_milliseconds),
            "to": moment(one.newest_unix_milliseconds),
            "newest g/kWh": f"{one.newest_milligrams_per_kwh / MILLIGRAMS_PER_GRAM:g}",
        }
        for one in states
    ]
    print_table(
        rows, empty="no intensity is kept: see 'veilleuse intensity poll --help' and 'intensity import'"
    )
    for one in polls:
        print_text(
            f"{one.connector}: last try {moment(one.tried_unix_milliseconds)}, {one.outcome}; last success"
            f" {moment(one.succeeded_unix_milliseconds)}; {one.calls_this_month} calls this month"
        )


def _period(first: str, end: str) -> tuple[date, date]:
    """Parse the period. Raises UsageError."""
    days = parse_date("--from", first), parse_date("--to", end)
    check_period(*days)
    if (days[1] - days[0]).days > _MOST_DAYS:
        raise UsageError(
            f"--from {first} --to {end} are more than {_MOST_DAYS} days: ask for each year by itself"
        )
    return days


def _days(
    reader: IntensityReader, zone: str, series: str, first: date, end: date
) -> Iterator[dict[str, Any]]:
    while first < end:
        start = round(
            datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp() * MILLISECONDS_PER_SECOND
        )
        values = list(reader.values(zone, series, start, start + MILLISECONDS_PER_DAY))
        covered = sum(one.minutes for one in values)
        grams = [one.milligrams_per_kwh / MILLIGRAMS_PER_GRAM for one in values]
        statuses = Counter(one.status.value for one in values)
        yield {
            "day": first.isoformat(),
            "mean": round(_mean(values), 1) if values else None,
            "lowest": min(grams, default=None),
            "highest": max(grams, default=None),
            "minutes_without": MILLISECONDS_PER_DAY // MILLISECONDS_PER_MINUTE - covered,
            **{status.value: statuses[status.value] for status in IntensityStatus},
            "replaced": sum(1 for _ in reader.replaced(zone, series, start, start + MILLISECONDS_PER_DAY)),
        }
        first += timedelta(days=1)


def _mean(values: list[GridIntensity]) -> float:
    minutes = sum(one.minutes for one in values)
    return sum(one.milligrams_per_kwh * one.minutes for one in values) / minutes / MILLIGRAMS_PER_GRAM


def _plain_table(series: str | None, zone: str | None, kind: str) -> Plain:
    if not series or not zone or kind not in tuple(IntensityKind):
        raise UsageError(
            "a plain table needs --series NAME, --zone ZONE and --kind consumption or combustion"
        )
    return Plain(zone, series, series, IntensityKind(kind), IntensityStatus.CONSOLIDATED)


def _ledger(settings: CollectorSettings) -> RemoteLedger:
    return RemoteLedger(
        lambda operation, **arguments: run_operation(
            settings, operation, timeout_seconds=_SECONDS, **arguments
        )
    )


def _import_text(stored: IntensityImport, left: Counter[str]) -> str:
    parts = [(stored.new, "new"), (stored.replacing, "replacing others"), (stored.same, "as before")]
    parts += [
        (stored.outranked, "behind a more final value"),
        *((number, why) for why, number in left.items()),
    ]
    told = [translate_cell(f"{number} {word}") for number, word in parts if number]
    return ", ".join(told) or translate_cell("nothing")
