# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse calibrate …`: wall power of hardware models.

This process computes the fits on read-only connections. The collector gets the few numbers of an accepted
fit.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from veilleuse.collector.cli.calibrate_references import (
    ReferenceQuery,
    count_derivations,
    from_battery,
    from_meters,
    from_readings,
    parse_units,
)
from veilleuse.collector.cli.shared import (
    APP,
    EXIT_WARNINGS,
    ConfigOption,
    JsonOption,
    WhyOption,
    day,
    load_settings,
    plural,
    print_json,
    print_result,
    print_text,
    run_operation,
    who_and_why,
)
from veilleuse.collector.derive.calibration.acceptance import Outcome
from veilleuse.collector.errors import AdminError
from veilleuse.collector.model.calibration import THOUSAND, WALL, facts_of
from veilleuse.collector.quantiles import Z95
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader

app = typer.Typer(**APP)

APPLY_SECONDS: Final = 600.0
"""Longest wait for marking the periods of all machines of a model: some 20 ms each."""
FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="CSV of meter readings; docs/calibration.md")
]
ApplyOption = Annotated[
    bool, typer.Option("--apply", help="put accepted fits into force; without it nothing is changed")
]
ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="let battery hours replace a metered calibration")
]
ModelOption = Annotated[str, typer.Option(help="only models whose vendor and name contain this text")]
FromOption = Annotated[
    str | None, typer.Option("--from", metavar="DATE", help="first day, UTC; default: 28 days before --to")
]
ToOption = Annotated[
    str | None, typer.Option("--to", metavar="DATE", help="day after the last; default: now")
]
IdArgument = Annotated[int, typer.Argument(metavar="ID", help="number from 'veilleuse calibrate list'")]


@app.callback()
def calibrate() -> None:
    """Fit the wall power of a hardware model from a few metered machines. Nothing changes without --apply."""


@app.command()
def readings(
    file: FileArgument,
    meter: Annotated[str, typer.Option(help="meter that measured, e.g. 'Shelly Plug S'")],
    accuracy: Annotated[float, typer.Option(help="gain error of the meter, ± percent at 95 %")] = 2.0,
    unit: Annotated[
        list[str] | None,
        typer.Option("--unit", metavar="NAME=HOST", help="machine of a unit's name in the file; repeatable"),
    ] = None,
    time_zone: Annotated[
        str | None, typer.Option(help="time zone of times without an offset, e.g. Europe/Paris")
    ] = None,
    apply: ApplyOption = False,
    why: WhyOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit the meter readings of a file. They are compared with the stored records of the same machines."""
    settings = load_settings(config)
    outcomes = from_readings(settings, file, meter, accuracy, parse_units(unit or ()), time_zone)
    _report_outcomes(settings, outcomes, apply=apply, why=why, as_json=as_json)


@app.command()
def meters(
    model: ModelOption = "",
    first: FromOption = None,
    end: ToOption = None,
    apply: ApplyOption = False,
    why: WhyOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit machines that have a meter of their own. Readings of their plug, PDU or BMC are in the store."""
    settings = load_settings(config)
    outcomes = from_meters(settings, ReferenceQuery.of(model, first, end))
    _report_outcomes(settings, outcomes, apply=apply, why=why, as_json=as_json)


@app.command()
def battery(
    model: ModelOption = "",
    first: FromOption = None,
    end: ToOption = None,
    apply: ApplyOption = False,
    replace: ReplaceOption = False,
    why: WhyOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit laptops from their hours on battery. Platform and panel draw DC there; the adapter is added."""
    settings = load_settings(config)
    outcomes = from_battery(settings, ReferenceQuery.of(model, first, end))
    _report_outcomes(settings, outcomes, apply=apply, why=why, as_json=as_json, replace=replace)


@app.command(name="list")
def list_calibrations(
    config: ConfigOption = None,
    everything: Annotated[bool, typer.Option("--all", help="list ended calibrations too")] = False,
    as_json: JsonOption = False,
) -> None:
    """List calibrations in force."""
    found = [
        one
        for one in _read_calibrations(load_settings(config))
        if everything or one["ended_unix_milliseconds"] is None
    ]
    rows = [
        {
            "id": str(one["calibration_id"]),
            "model": f"{one['vendor']} {one['model']}",
            "class": one["device_class"],
            "quantity": one["quantity"],
            "base": f"{one['base_microwatts'] / 1e6:.2f} W",
            "slope": f"{one['slope_ppm'] / 1e6:.3f}",
            "units": str(one["provenance"]["units"]),
            "reference": one["provenance"]["reference"],
            "since": day(one["applied_unix_milliseconds"]),
            "state": _state(one),
        }
        for one in found
    ]
    empty = "no calibration is in force: every machine has the prior of its class"
    print_result(found, rows, as_json, empty=empty)


@app.command()
def show(calibration_id: IdArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show one calibration. Its line, its errors and its reference."""
    found = {one["calibration_id"]: one for one in _read_calibrations(load_settings(config))}.get(
        calibration_id
    )
    if found is None:
        raise AdminError(f"no calibration {calibration_id}: see 'veilleuse calibrate list'")
    if as_json:
        print_json(found)
        return
    where = found["provenance"]
    print_text(
        f"{found['vendor']} {found['model']} ({found['device_class']}): {found['quantity']}, {_state(found)}"
    )
    base, slope = found["base_microwatts"], found["slope_ppm"]
    print_text(f"  base       {base / 1e6:.2f} W ± {_half_width(found, base, 'base_variance'):.2f} W (95 %)")
    if found["quantity"].startswith(WALL):
        print_text(
            f"  slope      {slope / 1e6:.3f} ± {_half_width(found, slope, 'slope_variance'):.3f} (95 %)"
        )
    print_text(f"  reference  {where['reference']}, {where['meter']}: {_sample_text(where)}")
    print_text(
        f"  error      {where['error_before_ppm'] / 1e4:.1f} % before, {where['error_after_ppm'] / 1e4:.1f} "
        "% after"
    )


@app.command()
def withdraw(
    calibration_id: IdArgument,
    why: WhyOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a calibration. Its machines get the prior of their class again."""
    done = run_operation(
        load_settings(config),
        "calibration_withdraw",
        timeout_seconds=APPLY_SECONDS,
        calibration_id=calibration_id,
        **who_and_why(why, "calibrate withdraw"),
    )
    print_result(done, f"calibration {calibration_id} withdrawn: {_derived_text(done)}", as_json)


def _report_outcomes(
    settings: CollectorSettings,
    outcomes: list[Outcome],
    *,
    apply: bool,
    why: str,
    as_json: bool,
    replace: bool = False,
) -> None:
    """Print the outcomes; with `apply` put accepted fits into force.

    Exit code 3 when something was refused.
    """
    reports = [{**report(outcome), **count_derivations(settings, outcome)} for outcome in outcomes]
    for outcome, facts in zip(outcomes, reports, strict=True):
        if apply and outcome.kept is not None and outcome.refused is None:
            facts["applied"] = run_operation(
                settings,
                "calibration_put",
                timeout_seconds=APPLY_SECONDS,
                fit=facts_of(outcome.kept),
                **who_and_why(why, "calibrate"),
                replace=replace,
            )
        if not as_json:
            _print(facts)
    if as_json:
        print_json(reports)
    if any(outcome.refused or outcome.left_out for outcome in outcomes):
        raise typer.Exit(EXIT_WARNINGS)


def report(outcome: Outcome) -> dict[str, Any]:
    """Return the result of a run for one quantity of one model, ready for JSON."""
    facts: dict[str, Any] = {
        **outcome.hardware._asdict(),
        "device_class": outcome.hardware.device_class.value,
        "quantity": outcome.quantity,
        "refused": outcome.refused,
        "left_out": [{"unit": unit, "why": reason} for unit, reason in outcome.left_out],
        "base_watts": None,
        "base_watts_half_width": None,
        "slope": None,
        "slope_half_width": None,
        "provenance": None,
        "applied": None,
    }
    if outcome.kept is not None:
        kept = facts_of(outcome.kept)
        facts |= {
            "base_watts": kept["base_microwatts"] / 1e6,
            "base_watts_half_width": outcome.half_widths.a,
            "slope": kept["slope_ppm"] / 1e6,
            "slope_half_width": outcome.half_widths.b,
            "provenance": kept["provenance"],
        }
    return facts


def _print(facts: dict[str, Any]) -> None:
    print_text(f"{facts['vendor']} {facts['model']} ({facts['device_class']}): {facts['quantity']}")
    where = facts["provenance"]
    if where is not None:
        print_text(f"  reference  {where['reference']}, {where['meter']}: {_sample_text(where)}")
        print_text(
            f"  base       {facts['base_watts']:.2f} W ± {facts['base_watts_half_width']:.2f} W (95 %)"
        )
        if facts["quantity"].startswith(WALL):
            print_text(f"  slope      {facts['slope']:.3f} ± {facts['slope_half_width']:.3f} (95 %)")
        before, after = where["error_before_ppm"] / 1e4, where["error_after_ppm"] / 1e4
        print_text(
            f"  error      {before:.1f} % before, {after:.1f} % after, on samples that the fit had not used"
        )
    for one in facts["left_out"]:
        print_text(f"  left out   {one['unit']}: {one['why']}")
    print_text(f"  decision   {_decision(facts)}")


def _decision(facts: dict[str, Any]) -> str:
    if facts["refused"]:
        return f"refused: {facts['refused']}"
    done = facts["applied"]
    if done is None:
        return (
            f"accepted for {facts['hosts']:,} {plural(facts['hosts'], 'machine')}; "
            f"--apply derives {facts['periods']:,} {plural(facts['periods'], 'period')} again"
        )
    if done["already"]:
        return f"in force already as {done['calibration_id']}: nothing was changed"
    return f"in force as {done['calibration_id']}: {_derived_text(done)}"


def _derived_text(done: dict[str, Any]) -> str:
    periods, machines = plural(done["periods"], "period"), plural(done["hosts"], "machine")
    return f"derived again: {done['periods']:,} {periods} of {done['hosts']:,} {machines}"


def _sample_text(where: dict[str, Any]) -> str:
    units = f"{where['units']} unit{'s' * (where['units'] != 1)}"
    spread = where["degrees_of_freedom_milli"]
    known = (
        f"{spread / THOUSAND:.1f} degrees of freedom"
        if spread
        else "spread between units from the prior, 10 %"
    )
    return (
        f"{units}, {where['samples']:,} samples, {where['hours']:,} h, {where['first_day']} to "
        f"{where['last_day']}; {known}"
    )


def _half_width(found: dict[str, Any], value: int, variance: str) -> float:
    """Return the 95 % half-width of `value` / 10^6, with the gain error of the meter.

    It is the half-width that the run of the fit printed.
    """
    spread = Z95 * found["expansion_ppm"] / 1e12 * math.sqrt(found[variance])
    return math.hypot(spread, Z95 * found["meter_u_ppm"] / 1e12 * value)


def _state(one: dict[str, Any]) -> str:
    if one["ended_unix_milliseconds"] is None:
        return "in force"
    return "withdrawn" if one["ended_by"] is None else f"replaced by {one['ended_by']}"


def _read_calibrations(settings: CollectorSettings) -> list[dict[str, Any]]:
    with open_reader(settings.data_dir) as store:
        return [
            {
                "calibration_id": one.calibration_id,
                **facts_of(one.kept),
                "applied_unix_milliseconds": one.applied_unix_milliseconds,
                "ended_unix_milliseconds": one.ended_unix_milliseconds,
                "ended_by": one.ended_by,
            }
            for one in store.references.stored()
        ]
