# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Encodes a released month in format 2: words and integers that may be disclosed. docs/decisions/0046.

Format 1 had one table, whose sums could be solved for one machine. Months published in format 1 are not
shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from functools import cache
from typing import Any, Final

from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.model.publications import FigureFormat, PublicationKind
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.sums import (
    Detail,
    EnergyClass,
    EnergyKey,
    EnergySums,
    Group,
    GroupSums,
    StateSums,
)
from veilleuse.collector.release.tables import Hidden, Month
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

_TABLES: Final = ("cells", "uses", "whole")
_HIDDEN: Final = ("hidden_cells", "hidden_uses")


def encode_month(month: Month) -> dict[str, Any]:
    """Encode a month for JSON. Raises ValueError for a key outside the release's partition."""
    return {
        **{
            name: [{**_key(group.key), **encode_sums(group.sums)} for group in getattr(month, name)]
            for name in _TABLES
        },
        "withheld": [_key(key) for key in month.withheld],
        **{name: [encode_hidden(one) for one in getattr(month, name)] for name in _HIDDEN},
    }


def decode_month(content: Mapping[str, Any], first: date, end: date) -> Month:
    """Decode what `encode_month` returned. Raises ValueError, KeyError, TypeError."""
    cells, uses, whole = (
        tuple(Group(_key_of(one, first, end), decode_sums(one)) for one in content[name]) for name in _TABLES
    )
    withheld = tuple(_key_of(one, first, end) for one in content["withheld"])
    hidden = (tuple(decode_hidden(one, first, end) for one in content[name]) for name in _HIDDEN)
    return Month(Slice(first, end), cells, uses, whole, withheld, *hidden)


FORM: Final = FigureFormat(
    PublicationKind.RELEASE, 2, encode_month, decode_month, lambda month: not month.cells
)


def _key(key: GroupKey) -> dict[str, Any]:
    if key.site is not None:
        raise ValueError(f"the release has no sites: {key}")
    return {
        "zone": key.zone,
        "population": key.columns["population"],
        "memo": key.memo,
        "entity": key.entity,
        "device_class": key.device_class,
        "autres": key.autres,
    }


def _key_of(one: Mapping[str, Any], first: date, end: date) -> GroupKey:
    return GroupKey(
        first,
        end,
        one["zone"],
        Population(one["population"]),
        one["memo"],
        one["entity"],
        None,
        one["device_class"],
        one["autres"],
    )


def encode_hidden(one: Hidden) -> dict[str, Any]:
    """Encode the names in merged rows for JSON."""
    names = {"entities": sorted(one.entities), "device_classes": sorted(one.device_classes)}
    return {"family": _key(one.family), **names}


def decode_hidden(one: Mapping[str, Any], first: date, end: date) -> Hidden:
    """Decode what `encode_hidden` returned. Raises ValueError, KeyError, TypeError."""
    names = frozenset(one["entities"]), frozenset(one["device_classes"])
    return Hidden(_key_of(one["family"], first, end), *names)


def encode_sums(sums: GroupSums) -> dict[str, Any]:
    """Encode the sums of a group for JSON."""
    return {
        "hosts": sums.hosts,
        "enrolled_milliseconds": sums.enrolled_milliseconds,
        "states": [[*_words(key), *one.values] for key, one in sums.states.items()],
        "energies": [[*_words(key), *one.values] for key, one in sums.energies.items()],
        "nights": sums.nights,
        "nights_are": sums.nights_are,
        "apportioned": sums.apportioned,
        "details_withheld": sorted(detail.value for detail in sums.withheld),
    }


def decode_sums(one: Mapping[str, Any]) -> GroupSums:
    """Decode what `encode_sums` returned. Raises ValueError, KeyError, TypeError."""
    return GroupSums(
        one["hosts"],
        one["enrolled_milliseconds"],
        {_state_key(band, state): StateSums(*values) for band, state, *values in one["states"]},
        {_energy_key(*row[:4]): EnergySums(*row[4:]) for row in one["energies"]},
        one["nights"],
        one["nights_are"],
        one["apportioned"],
        frozenset(Detail(word) for word in one["details_withheld"]),
    )


# A few dozen keys, shared by all groups: this saves half of a month's time and a third of its memory.
@cache
def _state_key(band: str, state: str) -> tuple[Band, State]:
    return Band(band), State(state)


@cache
def _energy_key(device_class: str, method: str, band: str, state: str) -> EnergyKey:
    of_no_agent = device_class in {word.value for word in EnergyClass}
    return (
        EnergyClass(device_class) if of_no_agent else DeviceClass(device_class),
        Method(method),
        Band(band),
        State(state),
    )


def _words(key: Iterable[Any]) -> list[str]:
    return [word.value for word in key]
