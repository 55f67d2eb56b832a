# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse factors list|show`: the emission factors and where they come from. Needs no data directory."""

from __future__ import annotations

from typing import Annotated

import typer

from veilleuse.collector.cli.shared import APP, JsonOption, print_json
from veilleuse.collector.factors.choose import FactorBook, factor_book
from veilleuse.collector.ports import Factor

app = typer.Typer(**APP)

Described = dict[str, str | float | bool | dict[str, float]]


@app.callback()
def factors() -> None:
    """Emission factors of electricity, and where they come from."""


@app.command("list")
def list_factors(
    zone: Annotated[str | None, typer.Option(help="only this zone, e.g. FR")] = None,
    as_json: JsonOption = False,
) -> None:
    """All factors, by zone and year; official = what reports apply."""
    book = factor_book()
    wanted = None if zone is None else book.choose(zone, 2200).factor.zone
    found = [describe(book, factor) for factor in book.factors() if wanted in (None, factor.zone)]
    if as_json:
        print_json(found)
        return
    for one in found:
        mark = "official" if one["official"] else "not applied"
        value = f"{one['factor_kgco2e_per_kwh']:<9g}"
        print(f"{one['zone']}  {one['valid_from']}  {value} kgCO2e/kWh  {one['factor_id']:<20} {mark}")


@app.command("show")
def show_factor(
    factor_id: Annotated[str, typer.Argument(help="name, e.g. ADEME-FR-2022-MOY")],
    as_json: JsonOption = False,
) -> None:
    """One factor, with its components, source and licence."""
    book = factor_book()
    one = describe(book, book.named(factor_id))
    if as_json:
        print_json(one)
        return
    width = max(len(name) for name in one)
    for name, value in one.items():
        print(f"{name:<{width}}  {value}")


def describe(book: FactorBook, factor: Factor) -> Described:
    """A factor as plain values; components and publication only where they exist."""
    one: Described = {
        "factor_id": factor.factor_id,
        "zone": factor.zone,
        "valid_from": factor.valid_from.isoformat(),
        "valid_to": factor.valid_to.isoformat(),
        "factor_series": factor.series,
        "factor_kgco2e_per_kwh": float(factor.total_kgco2e_per_kwh),
        "uncertainty_percent": float(factor.uncertainty_percent),
        "uncertainty_inherited": factor.uncertainty_inherited,
        "official": book.is_official(factor),
        "factor_source": factor.source,
        "licence": factor.licence,
    }
    if factor.published:
        one["factor_published"] = factor.published
    if factor.components:
        one["components_kgco2e_per_kwh"] = {name: float(value) for name, value in factor.components}
    return one
