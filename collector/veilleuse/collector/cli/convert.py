# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse convert`: converts energy into emissions.

It needs no data directory; with one, its imported factors count.
"""

from __future__ import annotations

from typing import Annotated, Final

import typer

from veilleuse.collector import clock
from veilleuse.collector.account.emissions import Answer, conversion, energy_kwh
from veilleuse.collector.account.rounding import round_interval
from veilleuse.collector.cli.factor_contracts import OnOption, book
from veilleuse.collector.cli.shared import APP, ConfigOption, JsonOption, load_settings, print_result
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.factors import ChosenFactor
from veilleuse.collector.model.query import CONVERTED_YEARS

app = typer.Typer(**APP)

NOT_SOURCED: Final = (
    "not sourced: the element's number at ADEME and the day of reading are not known; "
    "'veilleuse factors import FILE' adds them"
)


@app.command()
def convert(
    quantity: Annotated[str, typer.Argument(help="quantity of energy, e.g. 12500 or 12,5")],
    unit: Annotated[str, typer.Option(help="mJ, J, kJ, MJ, Wh, kWh or MWh")] = "kWh",
    zone: Annotated[
        str | None, typer.Option(help="grid zone, e.g. FR, DE, BEL (default: reporting.zone)")
    ] = None,
    year: Annotated[
        int | None,
        typer.Option(
            min=CONVERTED_YEARS.first,
            max=CONVERTED_YEARS.last,
            help="year of the energy (default: this year)",
        ),
    ] = None,
    factor: Annotated[str | None, typer.Option(help="name of a factor, instead of --zone and --year")] = None,
    on: OnOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Convert energy into kgCO2e with the official factor of a zone and a year."""
    kwh = energy_kwh(quantity, unit)
    known = book(config, on)
    if factor is None:
        zone = zone or load_settings(config).reporting.zone
        chosen = known.choose(zone, year or clock.today().year)
        zone = known.normalise(zone)
    else:
        if zone is not None or year is not None:
            raise UsageError("--factor names the zone and the year already: leave out --zone and --year")
        named = known.named(factor)
        chosen = ChosenFactor(named, named.valid_from.year, provisional=False)
        zone = named.zone
    answer = conversion(kwh, chosen, zone)
    print_result(answer, _text(answer), as_json)


def _text(answer: Answer) -> str:
    """Format an answer for people, rounded to the digits that the interval supports."""
    total, low, high = round_interval(
        (float(answer["kgco2e_total"]), float(answer["kgco2e_lo95"]), float(answer["kgco2e_hi95"]))
    )
    lines = [
        f"{answer['kwh']:.12g} kWh × {answer['factor_kgco2e_per_kwh']:g} kgCO2e/kWh = {total} kgCO2e",
        f"95 %: {low} to {high} kgCO2e",
        f"factor {answer['factor_id']} ({answer['zone']}, {answer['year']}): {answer['factor_source']}",
    ]
    if answer["provisional"]:
        lines.append(
            "provisional: the factor of this year is not published yet, the last published one is used"
        )
    if not answer["factor_sourced"]:
        lines.append(NOT_SOURCED)
    return "\n".join(lines)
