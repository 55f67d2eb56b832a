# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse configuration …`: longer intervals for machines, set remotely."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import typer

from veilleuse.collector.cli.shared import (
    APP,
    ConfigOption,
    JsonOption,
    WhyOption,
    load_settings,
    moment,
    print_json,
    print_result,
    print_text,
    run_operation,
    who_and_why,
)
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.remote_config import UNITS, duration
from veilleuse.wire.configuration import CONTACT_MILLISECONDS, PERIOD_MILLISECONDS, TICK_MILLISECONDS
from veilleuse.wire.units import MILLISECONDS_PER_HOUR
from veilleuse.wire.vocabulary import Population

app = typer.Typer(**APP)

_DURATION: Final = re.compile(rf"([0-9]{{1,9}})({'|'.join(UNITS)})")
_VALUES: Final = {"tick": TICK_MILLISECONDS, "period": PERIOD_MILLISECONDS, "contact": CONTACT_MILLISECONDS}
"""Name of a value → lowest and highest milliseconds that an agent accepts."""

PopulationOption = Annotated[Population, typer.Option(help="population of the machines")]
ForceOption = Annotated[bool, typer.Option("--force", help="do it without confirmation by the machines")]


@app.callback()
def configuration() -> None:
    """Change the intervals of machines remotely.

    A change is tried on 1 %, 10 %, then 100 % of a population, and taken back where it fails.
    """


@app.command()
def show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the configurations, and how many machines have each."""
    found = run_operation(load_settings(config), "configuration_show")
    if as_json:
        print_json(found)
        return
    for facts in found:
        _print(facts)


@app.command(name="set")
def set_candidate(
    population: PopulationOption,
    config: ConfigOption = None,
    tick: Annotated[str | None, typer.Option(help="time between two readings: 10s to 60s")] = None,
    period: Annotated[
        str | None, typer.Option(help="length of a record, e.g. 10min; it divides an hour")
    ] = None,
    contact: Annotated[
        str | None, typer.Option(help="time between two contacts, e.g. 30min; up to 1d")
    ] = None,
    own_file: Annotated[
        bool, typer.Option("--own-file", help="set nothing: only each machine's own file counts")
    ] = False,
    why: WhyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Try a configuration on 1 % of the machines, at least one.

    For an option that is left out, the machine's own file counts.
    """
    given = {"tick": tick, "period": period, "contact": contact}
    values = {
        f"{name}_milliseconds": _parse_value(name, text) for name, text in given.items() if text is not None
    }
    if bool(values) is own_file:
        raise UsageError("give --tick, --period or --contact, or --own-file alone")
    _change(config, "configuration_set", as_json, population, why, **values)


@app.command()
def rollout(
    percent: Annotated[int, typer.Argument(metavar="PERCENT", help="10, then 100")],
    population: PopulationOption,
    config: ConfigOption = None,
    force: ForceOption = False,
    why: WhyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Give the candidate to more machines. The machines that have it must have confirmed it."""
    _change(config, "configuration_rollout", as_json, population, why, percent=percent, force=force)


@app.command()
def accept(
    population: PopulationOption,
    config: ConfigOption = None,
    force: ForceOption = False,
    why: WhyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make the candidate the active configuration. It must be at 100 % and confirmed.

    A later candidate that fails falls back to this one.
    """
    _change(config, "configuration_accept", as_json, population, why, force=force)


@app.command()
def withdraw(
    population: PopulationOption,
    config: ConfigOption = None,
    why: WhyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Withdraw the candidate. Its machines get the active configuration again at their next contact."""
    _change(config, "configuration_withdraw", as_json, population, why)


def parse_duration(name: str, text: str) -> int:
    """Return the milliseconds of a duration such as 20s, 10min, 1h or 1d. Raises UsageError."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"--{name} {text!r} is not a duration: write 20s, 10min, 1h or 1d")
    return int(found[1]) * UNITS[found[2]]


def _parse_value(name: str, text: str) -> int:
    """Return the milliseconds of a duration that an agent accepts. Raises UsageError."""
    value, (lowest, highest) = parse_duration(name, text), _VALUES[name]
    if not lowest <= value <= highest:
        raise UsageError(f"--{name} {text}: use {duration(lowest)} to {duration(highest)}")
    if name == "period" and MILLISECONDS_PER_HOUR % value:
        raise UsageError(f"--period {text} does not divide an hour: use 10min, 15min, 20min, 30min or 1h")
    return value


def _change(
    config: Any, operation: str, as_json: bool, population: Population, why: str, **arguments: Any
) -> None:
    facts = run_operation(
        load_settings(config),
        operation,
        population=population.value,
        **who_and_why(why, operation.replace("_", " ")),
        **arguments,
    )
    print_result(facts, lambda: _print(facts), as_json)


def _print(facts: dict[str, Any]) -> None:
    changed = facts["changed_unix_milliseconds"]
    print_text(facts["population"] + (f", changed {moment(changed)}" if changed else ""))
    print_text(f"  active     {_values(facts['active'])}: {_hosts(facts['active_hosts'])}")
    if facts["candidate"] is not None:
        where = _hosts(facts["candidate_hosts"])
        print_text(f"  candidate  {_values(facts['candidate'])}, at {facts['percent']} %: {where}")
        print_text(f"  next       {_next(facts)}")


def _next(facts: dict[str, Any]) -> str:
    if facts["hindrance"]:
        return f"not yet: {facts['hindrance']}"
    return "rollout 10" if facts["percent"] < 10 else "rollout 100" if facts["percent"] < 100 else "accept"


def _values(named: dict[str, Any]) -> str:
    given = {name: named[f"{name}_milliseconds"] for name in _VALUES}
    words = [f"{name} {duration(value)}" for name, value in given.items() if value is not None]
    return ", ".join(words) or "the machine's own file"


def _hosts(counts: dict[str, int]) -> str:
    return (
        ", ".join(f"{number} {state.replace('_', ' ')}" for state, number in counts.items()) or "no machine"
    )
