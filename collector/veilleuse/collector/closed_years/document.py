# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Converts year statistics to JSON and back. Integers throughout: mJ, ms, their products, machines.
docs/closing.md has the format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Mapping as Keyed
from dataclasses import asdict, dataclass, replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from veilleuse.collector.account.telework import HomeShare
from veilleuse.collector.closed_years.year_statistics import (
    DAY_TYPES,
    STACKED,
    StatisticsCell,
    W,
    Withheld,
    YearStatistics,
    triangle,
)
from veilleuse.collector.errors import UnknownZone
from veilleuse.collector.factors.versions import factor_document, factor_from_document
from veilleuse.collector.fleet.estimator import Assumptions
from veilleuse.collector.fleet.observations import Place
from veilleuse.collector.fleet.rooms import RoomFigure, RoomServers
from veilleuse.collector.fleet.samples import Alike, CalibratedWall, Days, InService, SampleCell, Stratum
from veilleuse.collector.model.calibration import Fit
from veilleuse.collector.model.factors import BilanItem, BilanMapping, ChosenFactor, ContextMapping, Contract
from veilleuse.collector.model.inventory import PowerContext
from veilleuse.collector.model.months import COLUMNS, NOTHING, PLACE, DayType, Vector
from veilleuse.collector.model.query import AUTRES, DEFAULT_PERIMETERS, GroupKey, Perimeters, rules_of
from veilleuse.wire.vocabulary import Band, Population

_NAMES: Final = tuple(f"{kind}.{name}" for kind in DAY_TYPES for name in W)
"""Components of w."""
_NUMBERS: Final = {name: number for number, name in enumerate(_NAMES)}


def statistics_document(kept: YearStatistics) -> dict[str, Any]:
    """Return year statistics as a document, ready for closed.canonical.

    Keys of optional values are absent where the value is empty, as in documents written before the key
    existed.
    """
    homes = [
        {"stratum": _stratum_document(stratum), "share": str(one.share), "declared_by": one.declared_by}
        for stratum, one in sorted(kept.homes.items())
    ]
    stands_for = {"stands_for": dict(kept.stands_for)} if kept.stands_for else {}
    moved = [
        {"strata": [_stratum_document(stratum) for stratum in strata], "machines": number}
        for strata, number in sorted(kept.moved.items())
    ]
    of_some_years = ({"homes": homes} if homes else {}) | stands_for | ({"moved": moved} if moved else {})
    if kept.perimeters != DEFAULT_PERIMETERS:
        of_some_years["perimeters"] = asdict(kept.perimeters) | {"rules": kept.perimeters.document()}
    return of_some_years | {
        "from": kept.first.isoformat(),
        "to": kept.end.isoformat(),
        "k": kept.k,
        "cells": [_cell_document(cell) for cell in kept.cells],
        "fleet": [_fleet_document(one) for one in kept.fleet],
        "always_on": {
            name: None if alike is None else {"n": alike.n, "sums": alike.sums, "products": alike.products}
            for name, alike in kept.always_on.items()
        },
        "rooms": [_room_document(room) for room in kept.rooms],
        "withheld": [one._asdict() for one in kept.withheld],
    }


def statistics_from_document(document: Mapping[str, Any]) -> YearStatistics:
    """Parse the result of `statistics_document`. Raises ValueError, KeyError or TypeError for others."""
    return YearStatistics(
        date.fromisoformat(document["from"]),
        date.fromisoformat(document["to"]),
        int(document["k"]),
        tuple(map(_cell, document["cells"])),
        tuple(map(_fleet, document["fleet"])),
        {
            name: None if one is None else Alike(one["n"], list(one["sums"]), list(one["products"]))
            for name, one in document["always_on"].items()
        },
        tuple(map(_room, document["rooms"])),
        tuple(Withheld(one["zone"], one["memo"]) for one in document["withheld"]),
        {
            _stratum(one["stratum"]): HomeShare(Fraction(one["share"]), one["declared_by"])
            for one in document.get("homes", ())
        },
        dict(document.get("stands_for", {})),
        {
            tuple(_stratum(stratum) for stratum in one["strata"]): one["machines"]
            for one in document.get("moved", ())
        },
        _perimeters(document["perimeters"]) if "perimeters" in document else DEFAULT_PERIMETERS,
    )


def _perimeters(document: Mapping[str, Any]) -> Perimeters:
    return Perimeters(**{**document, "rules": rules_of(document["rules"])})


def _cell_document(cell: StatisticsCell) -> dict[str, Any]:
    return {
        "stratum": _stratum_document(cell.stratum),
        "hardware": cell.cell.hardware,
        "age": cell.cell.age,
        "always_on": cell.always_on,
        "memo": cell.memo,
        "machines": cell.machines,
        "n": cell.n,
        "apportioned": cell.apportioned,
        "methods_hidden": cell.methods_hidden,
        "sums": _sums_document(cell.sums),
        "products": _products_document(cell.products),
        **({"days_milliseconds": _by_day_type(cell.days_milliseconds)} if cell.days_milliseconds else {}),
    }


def _cell(document: Mapping[str, Any]) -> StatisticsCell:
    return StatisticsCell(
        _stratum(document["stratum"]),
        SampleCell(document["hardware"], document["age"]),
        document["always_on"] is True,
        document["memo"] is True,
        document["machines"],
        document["n"],
        document["apportioned"] is True,
        document["methods_hidden"] is True,
        _sums(document["sums"]),
        _products(document["products"]),
        _days(document["days_milliseconds"]) if "days_milliseconds" in document else None,
    )


def _room_document(room: RoomFigure) -> dict[str, Any]:
    """Return a room as a document. Without servers it has no key of them, as in documents written before."""
    made = asdict(replace(room, servers=None))
    del made["servers"]
    if room.servers is None:
        return made
    silent = [
        {"stratum": _stratum_document(stratum), "milliseconds": time} for stratum, time in room.servers.silent
    ]
    return made | {"servers": asdict(replace(room.servers, silent=())) | {"silent": silent}}


def _room(document: Mapping[str, Any]) -> RoomFigure:
    servers = document.get("servers")
    if servers is None:
        return RoomFigure(**document)
    silent = tuple((_stratum(one["stratum"]), one["milliseconds"]) for one in servers["silent"])
    return RoomFigure(**{**document, "servers": RoomServers(**{**servers, "silent": silent})})


def _stratum_document(stratum: Stratum) -> dict[str, str]:
    """Return a stratum as a document: without its perimeter where that is the product's default."""
    place = Place.of(stratum)
    is_default = place.perimeter == _default_perimeter(place, stratum.device_class)
    return {
        **({} if is_default else {"perimeter": place.perimeter or ""}),
        "device_class": stratum.device_class,
        "entity": place.entity,
        "site": place.site,
        "zone": place.zone,
        "population": place.population.value if place.population else "",
        "power_context": place.power_context.value,
    }


def _stratum(document: Mapping[str, Any]) -> Stratum:
    population = document["population"]
    place = Place(
        document["entity"],
        document["site"],
        document["zone"],
        Population(population) if population else None,
        PowerContext(document["power_context"]),
    )
    device_class = document["device_class"]
    perimeter = document.get("perimeter", _default_perimeter(place, device_class))
    return place._replace(perimeter=perimeter or None).stratum(device_class)


def _default_perimeter(place: Place, device_class: str) -> str | None:
    key = GroupKey(
        population=place.population,
        entity=place.entity,
        device_class=device_class,
        autres=place.entity == AUTRES,
        power_context=place.power_context,
    )
    return DEFAULT_PERIMETERS.of(key)


def _sums_document(sums: Mapping[tuple[DayType, Band], Vector]) -> dict[str, dict[str, dict[str, int]]]:
    found: dict[str, dict[str, dict[str, int]]] = {}
    for (kind, band), vector in sums.items():
        found.setdefault(kind.value, {})[band.value] = {
            name: value for name, value in zip(COLUMNS, vector, strict=True) if value
        }
    return found


def _sums(document: Mapping[str, Mapping[str, Mapping[str, int]]]) -> dict[tuple[DayType, Band], Vector]:
    found = {}
    for kind in DayType:
        for band in Band:
            values = document.get(kind.value, {}).get(band.value)
            if values is not None:
                vector = list(NOTHING)
                for name, value in values.items():
                    vector[PLACE[name]] = value
                found[kind, band] = tuple(vector)
    return found


def _products_document(products: Mapping[int, int]) -> dict[str, Any]:
    """Return the components that are not 0 for all machines, and the upper triangle over these, row by
    row.
    """
    used = [number for number in range(STACKED) if triangle(number, number) in products]
    return {
        "w": [_NAMES[number] for number in used],
        "values": [products.get(triangle(i, j), 0) for at, i in enumerate(used) for j in used[at:]],
    }


def _products(document: Mapping[str, Sequence[Any]]) -> dict[int, int]:
    used = [_NUMBERS[name] for name in document["w"]]
    places = [triangle(i, j) for at, i in enumerate(used) for j in used[at:]]
    return {place: value for place, value in zip(places, document["values"], strict=True) if value}


def _fleet_document(one: InService) -> dict[str, Any]:
    return {
        "stratum": _stratum_document(one.stratum),
        "machines": one.machines,
        "milliseconds": _by_day_type(one.milliseconds),
        "cells": [[*cell, number] for cell, number in sorted(one.cells.items())],
        "standby_milliseconds": one.standby_milliseconds,
        **(
            {"default_milliseconds": _by_day_type(one.default_milliseconds)}
            if any(one.default_milliseconds)
            else {}
        ),
    }


def _fleet(document: Mapping[str, Any]) -> InService:
    return InService(
        _stratum(document["stratum"]),
        document["machines"],
        _days(document["milliseconds"]),
        {SampleCell(hardware, age): number for hardware, age, number in document["cells"]},
        # absent in years closed before standby of screens was included
        document.get("standby_milliseconds", 0),
        _days(document.get("default_milliseconds", dict.fromkeys(DAY_TYPES, 0))),
    )


def _by_day_type(days: Days) -> dict[str, int]:
    return dict(zip(DAY_TYPES, days, strict=True))


def _days(document: Mapping[str, int]) -> Days:
    return tuple(document[kind] for kind in DAY_TYPES)


@dataclass(frozen=True, slots=True)
class FrozenTerms:
    """Frozen terms of one year."""

    factors: Keyed[str, ChosenFactor]
    """Factor by grid zone."""
    mapping: BilanMapping
    contracts: Sequence[Contract]
    assumptions: Assumptions
    data: str
    """real or simulated."""

    def choose(self, zone: str, year: int) -> ChosenFactor:
        """Return the factor of a zone and year. Raises UnknownZone."""
        chosen = self.factors.get(zone)
        if chosen is None or chosen.year != year:
            raise UnknownZone(f"the closed year has no factor for zone '{zone}' in {year}")
        return chosen


def terms_document(terms: FrozenTerms) -> dict[str, Any]:
    """Return the terms as a document, ready for closed.canonical."""
    return {
        "data": terms.data,
        "factors": [
            {
                "zone": zone,
                "year": chosen.year,
                "provisional": chosen.provisional,
                "version": chosen.factor.version,
                "factor": factor_document(chosen.factor),
            }
            for zone, chosen in sorted(terms.factors.items())
        ],
        "mapping": _mapping_document(terms.mapping),
        "contracts": [_contract_document(one) for one in terms.contracts],
        "assumptions": assumptions_document(terms.assumptions),
    }


def assumptions_document(known: Assumptions) -> dict[str, Any]:
    """Return the assumptions as a document, ready for closed.canonical."""
    return {
        "random_roll_out": known.random_roll_out,
        "class_microwatts": {name: list(days) for name, days in known.class_microwatts.items()},
        **({"declared": sorted(known.declared)} if known.declared else {}),
        "calibrations": [
            {"device_class": name, "hardware": hardware, "meter": wall.meter, "fit": asdict(wall.fit)}
            for (name, hardware), wall in sorted(known.calibrations.items())
        ],
    }


def assumptions_from_document(known: Keyed[str, Any]) -> Assumptions:
    """Parse the result of `assumptions_document`. Raises ValueError,
    KeyError or TypeError for another document.
    """
    return Assumptions(
        random_roll_out=known["random_roll_out"] is True,
        class_microwatts={name: tuple(days) for name, days in known["class_microwatts"].items()},
        declared=frozenset(known.get("declared", ())),
        calibrations={
            (one["device_class"], one["hardware"]): CalibratedWall(Fit(**one["fit"]), one["meter"])
            for one in known["calibrations"]
        },
    )


def terms_from_document(document: Keyed[str, Any]) -> FrozenTerms:
    """Parse the result of `terms_document`. Raises ValueError, KeyError,
    TypeError or UsageError for another document.
    """
    return FrozenTerms(
        {
            one["zone"]: ChosenFactor(
                replace(factor_from_document(one["factor"]), version=one["version"]),
                one["year"],
                provisional=one["provisional"] is True,
            )
            for one in document["factors"]
        },
        _mapping(document["mapping"]),
        [_contract(one) for one in document["contracts"]],
        assumptions_from_document(document["assumptions"]),
        document["data"],
    )


def _mapping_document(mapping: BilanMapping) -> dict[str, Any]:
    return {
        "confirmed_unix_milliseconds": mapping.confirmed_unix_milliseconds,
        "confirmed_by": mapping.confirmed_by,
        "why": mapping.why,
        "lines": [
            {
                "context": line.context.value,
                "combustion": [line.combustion.beges_item, line.combustion.ghg_category],
                "rest": None if line.rest is None else [line.rest.beges_item, line.rest.ghg_category],
                "in_beges_energie": line.in_beges_energie,
                "in_bilan_numerique": line.in_bilan_numerique,
                "origin": line.origin,
            }
            for line in mapping.lines
        ],
    }


def _mapping(document: Keyed[str, Any]) -> BilanMapping:
    return BilanMapping(
        tuple(
            ContextMapping(
                PowerContext(line["context"]),
                BilanItem(*line["combustion"]),
                None if line["rest"] is None else BilanItem(*line["rest"]),
                line["in_beges_energie"] is True,
                line["in_bilan_numerique"] is True,
                line["origin"],
            )
            for line in document["lines"]
        ),
        document["confirmed_unix_milliseconds"],
        document["confirmed_by"],
        document["why"],
    )


def _contract_document(one: Contract) -> dict[str, Any]:
    return {
        **asdict(one),
        "valid_from": one.valid_from.isoformat(),
        "valid_to": one.valid_to.isoformat(),
        "kwh": str(one.kwh),
        "factor_kgco2e_per_kwh": str(one.factor_kgco2e_per_kwh),
        "uncertainty_percent": str(one.uncertainty_percent),
    }


def _contract(document: Keyed[str, Any]) -> Contract:
    return Contract(
        **{
            **document,
            "valid_from": date.fromisoformat(document["valid_from"]),
            "valid_to": date.fromisoformat(document["valid_to"]),
            "kwh": Decimal(document["kwh"]),
            "factor_kgco2e_per_kwh": Decimal(document["factor_kgco2e_per_kwh"]),
            "uncertainty_percent": Decimal(document["uncertainty_percent"]),
        }
    )
