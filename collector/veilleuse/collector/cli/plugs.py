# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse plugs …`: a study that compares modelled with metered energy. docs/calibration.md."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from veilleuse.collector import clock
from veilleuse.collector.account.statement import METHOD_VERSION
from veilleuse.collector.cli.plug_study import (
    PlannedUnit,
    PlugPlan,
    compare_plugs,
    draw_plan,
    read_counters,
    read_hosts,
    read_plan,
)
from veilleuse.collector.cli.shared import (
    APP,
    EXIT_WARNINGS,
    ConfigOption,
    JsonOption,
    load_settings,
    new_private,
    parse_date,
    plural,
    print_json,
    print_note,
    print_table,
)
from veilleuse.collector.derive.calibration.comparison import StudyRow, StudyTime, StudyUnit, study_rows
from veilleuse.collector.derive.priors import METER_U_PPM, MILLION
from veilleuse.collector.disclosure.rule import EXEMPT
from veilleuse.collector.errors import UsageError
from veilleuse.collector.store import open_reader
from veilleuse.wire.ladder import Method
from veilleuse.wire.limits import AGENT_ID_DIGITS
from veilleuse.wire.vocabulary import DeviceClass, Population

app = typer.Typer(**APP)
_SHORT: Final[Mapping[str, str]] = {
    Method.LOAD_MODELLED.value: "load model",
    Method.COUNTER_MODELLED.value: "counters",
    Method.COUNTER_CALIBRATED.value: "calibrated",
}
"""Method → its name in the tables."""


@app.callback()
def plugs() -> None:
    """Study with plugs: compare modelled with metered energy, per class and system. It changes no figure."""


@app.command()
def plan(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="file for the plan")],
    first: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="first day, a Monday; default: the next one")
    ] = None,
    number: Annotated[int, typer.Option("--plugs", min=1, max=1000, help="machines to draw")] = 10,
    population: Annotated[
        Population, typer.Option(help="population to draw from; stock and laboratory machines: server")
    ] = Population.SERVER,
    device_class: Annotated[
        list[DeviceClass] | None,
        typer.Option("--class", metavar="CLASS", help="only this device class, e.g. laptop; repeatable"),
    ] = None,
    among: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="draw among these agent ids only, one a line; workstations need it"
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="number that repeats a draw; default: random")] = None,
    config: ConfigOption = None,
) -> None:
    """Draw the machines of a study and write its plan. Do it before the first reading."""
    settings = load_settings(config)
    begin = _monday(None if first is None else parse_date("--from", first))
    _check_people(population, number, settings.reporting.k_anonymity, among)
    with open_reader(settings.data_dir) as store:
        hosts = store.data.hosts()
    chosen = hosts if among is None else read_hosts(among, hosts)
    seed = secrets.randbelow(MILLION) if seed is None else seed
    made = draw_plan(chosen, begin, population, frozenset(device_class or DeviceClass), number, seed)
    with new_private(output) as file:
        file.write(made.content())
    known = {host.agent_id.hex(): host for host in hosts}
    rows = [
        {
            **{name: str(value) for name, value in _names(one).items()},
            "model": f"{known[one.agent_id].facts.vendor or ''} {known[one.agent_id].facts.model or ''}".strip(),
            "site": known[one.agent_id].site,
        }
        for one in made.units
    ]
    print_table(rows, empty="")
    print_note(
        f"{output}: {number} of {made.drawn_from} {plural(made.drawn_from, 'machine')} drawn with seed {seed}; four weeks from {begin}; "
        f"SHA-256 {read_plan(output)[1]}: note it before the first reading"
    )


@app.command()
def report(
    file: Annotated[Path, typer.Argument(metavar="PLAN", help="file that 'veilleuse plugs plan' wrote")],
    readings: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="CSV with unit (the plug's number), time, counter_kwh"),
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option(metavar="NUMBER=WHY", help="a machine that moved, had another load…; repeatable"),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which machines of a study report. After its four weeks, show the errors and their intervals."""
    settings = load_settings(config)
    made, sha256 = read_plan(file)
    left_out = _left_out(leave_out or (), made)
    counters = {} if readings is None else read_counters(settings, made, readings)
    over = clock.today() >= made.days[1]
    found = compare_plugs(settings, made, counters, left_out, over=over)
    k = settings.reporting.k_anonymity if made.of_people else None
    units = [one for one in found.values() if isinstance(one, StudyUnit)]
    rows = study_rows(units, METER_U_PPM / MILLION, k=k) if over else []
    machines = [
        {**_names(one), **state}
        for one in made.units
        for state in _states(found[one.plug], over=over, of_people=made.of_people)
    ]
    if as_json:
        head = {"plan_sha256": sha256, "method_versions": sorted({made.method_version, METHOD_VERSION})}
        days = {"from": str(made.days[0]), "to": str(made.days[1])}
        print_json({**head, **days, "machines": machines, "rows": [row._asdict() for row in rows]})
    else:
        print_table([_machine_text(one) for one in machines], empty="")
        print()
        print_table([_row_text(row) for row in rows], empty=_without_rows(made, k, over=over))
        print_note(f"{file}: SHA-256 {sha256}, method {made.method_version}")
    if any(one["note"] for one in machines) or (over and not rows):
        raise typer.Exit(EXIT_WARNINGS)


def _monday(asked: date | None) -> date:
    """Return the first day of a study. Raises UsageError."""
    today = clock.today()
    monday = today + timedelta(days=7 - today.weekday())
    if asked is not None and (asked.weekday() or asked < today):
        raise UsageError(
            f"--from {asked}: take a Monday to come, e.g. {monday}: PCs send ISO weeks, and the plan comes before the "
            "first reading"
        )
    return asked or monday


def _check_people(population: Population, number: int, k: int, among: Path | None) -> None:
    """Raise UsageError for people's PCs without consent, or too few to be shown."""
    if population is Population.WORKSTATION and among is None:
        raise UsageError(
            "workstations need --among FILE: the agent ids of those whose users agreed, one a line; "
            "'veilleuse-agent doctor' shows a user the own one"
        )
    if population not in EXEMPT and number < k:
        raise UsageError(
            f"--plugs {number}: of PCs of people nothing is shown unless {k} complete the study "
            f"(reporting.k_anonymity): take {k + 2} plugs, or machines of population server"
        )


def _left_out(options: Iterable[str], made: PlugPlan) -> dict[int, str]:
    """Return plug → reason. Raises UsageError."""
    found = {}
    for option in options:
        number, _, why = option.partition("=")
        if not why.strip() or number not in {str(one.plug) for one in made.units}:
            raise UsageError(f"--leave-out '{option}': write NUMBER=WHY, with a plug's number of the plan")
        found[int(number)] = why.strip()
    return found


def _names(one: PlannedUnit) -> dict[str, Any]:
    return {
        "plug": one.plug,
        "machine": one.agent_id[:AGENT_ID_DIGITS],
        "class": one.device_class,
        "system": one.system,
    }


def _states(found: StudyUnit | str, *, over: bool, of_people: bool) -> Iterator[dict[str, Any]]:
    """Yield what is told of a machine, per time compared; of a PC of people neither hours nor errors."""
    if isinstance(found, str):
        yield {"time": None, "hours": None, "errors": {}, "note": found}
        return
    note = "; ".join(found.notes)
    for time in (one for one in StudyTime if found.hours(one)):
        errors = {
            method.value: math.expm1(one.error)
            for (compared, method), one in found.found.items()
            if compared is time and over and not of_people
        }
        hours = None if of_people else round(found.hours(time))
        yield {"time": time.value, "hours": hours, "errors": errors, "note": note}
    if not found.found:
        yield {"time": None, "hours": None, "errors": {}, "note": note or "no reading"}


def _machine_text(one: dict[str, Any]) -> dict[str, str]:
    errors = {short: one["errors"].get(method) for method, short in _SHORT.items()}
    facts = {name: value for name, value in one.items() if name not in ("errors", "note")}
    return {
        **{name: "" if value is None else str(value) for name, value in facts.items()},
        **{short: "" if error is None else f"{error:+.1%}" for short, error in errors.items()},
        "note": one["note"],
    }


def _row_text(row: StudyRow) -> dict[str, str]:
    interval = "too few" if row.error_low is None else f"{row.error_low:+.1%} to {row.error_high:+.1%}"
    return {
        "class": row.device_class,
        "system": row.system,
        "time": row.time,
        "method": _SHORT[row.method],
        "plugs": str(row.units),
        "hours": str(row.hours),
        "error": f"{row.error:+.1%}",
        "95 %": interval,
        "GSD² found": f"{row.gsd2_found:.2f}",
        "stated": f"{row.gsd2_stated:.2f}",
        "inside": f"{row.inside} of {row.units}",
    }


def _without_rows(made: PlugPlan, k: int | None, *, over: bool) -> str:
    if not over:
        return (
            f"errors are shown from {made.days[1]} on, so that no machine is left out because of its result"
        )
    if k is not None:
        return f"fewer than {k} PCs of people completed the study: their errors are never shown"
    return "no machine completed the study"
