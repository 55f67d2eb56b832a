# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse factors boavizta`: other criteria of electricity, from a BoaviztAPI that the user runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from veilleuse.collector.cli.shared import ConfigOption, JsonOption, print_json, settings_of
from veilleuse.collector.errors import UnknownZone
from veilleuse.collector.factors.boavizta import CRITERIA, LABEL, other_criteria
from veilleuse.collector.factors.book import factor_book
from veilleuse.collector.factors.static import alpha3_of


def boavizta(
    url: Annotated[str, typer.Option(help="https://… anywhere, or http:// on this machine")],
    zone: Annotated[str | None, typer.Option(help="country, e.g. FR (default: reporting.zone)")] = None,
    kwh: Annotated[float, typer.Option(min=0, help="how much electricity")] = 1.0,
    ca: Annotated[
        Path | None, typer.Option("--ca", metavar="FILE", help="authority of the server, PEM")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, max=60, help="seconds, for all of it")] = 10.0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Other criteria of electricity: metals, primary energy, water. Indicative, not part of the official figure."""
    code = factor_book().normalise(zone or settings_of(config).reporting.zone)
    country = alpha3_of(code)
    if country is None:
        raise UnknownZone(f"'{zone or code}' is no country of BoaviztAPI; its values are of whole countries")
    found = other_criteria(url, country, timeout_seconds=timeout, ca_file=ca)
    if as_json:
        print_json(
            {
                "label": LABEL,
                "official": False,
                "zone": code,
                "kwh": kwh,
                "boaviztapi_version": found.api_version,
                "criteria": [
                    {
                        "criterion": one.criterion,
                        "value": one.per_kwh * kwh,
                        "per_kwh": one.per_kwh,
                        "unit_per_kwh": one.unit,
                        "lowest_per_kwh": one.lowest,
                        "highest_per_kwh": one.highest,
                        "source": one.source,
                    }
                    for one in found.criteria
                ],
            }
        )
        return
    print(f"{LABEL} (BoaviztAPI {found.api_version}, {country}, {kwh:.12g} kWh)")
    known = {one.criterion: one for one in found.criteria}
    for name, unit, words in CRITERIA.values():
        if name in known:
            one = known[name]
            print(f"  {words:<26} {one.per_kwh * kwh:.4g} {unit.removesuffix('/kWh')}  ({one.source})")
        else:
            print(f"  {words:<26} not known there")
