# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A released month as it is written down, format 1: words and integers. Never edited after release; another content is format 2."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any, Final

from veilleuse.collector.account.perimeter import Slice
from veilleuse.collector.figures import (
    Detail,
    EnergyClass,
    EnergyKey,
    EnergySums,
    Group,
    GroupKey,
    GroupSums,
    StateSums,
)
from veilleuse.collector.published import Kind
from veilleuse.collector.web.published import Form
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State


@dataclass(frozen=True, slots=True)
class Month:
    """One released month."""

    part: Slice
    groups: tuple[Group, ...]
    withheld: tuple[GroupKey, ...]


def encoded(month: Month) -> dict[str, Any]:
    """Ready for JSON. Raises ValueError for a key that is not of the release's partition."""
    return {
        "groups": [{**_key(group.key), **_sums(group.sums)} for group in month.groups],
        "withheld": [_key(key) for key in month.withheld],
    }


def decoded(content: Mapping[str, Any], first: date, end: date) -> Month:
    """What was encoded. Raises ValueError, KeyError, TypeError."""
    return Month(
        Slice(first, end),
        tuple(Group(_key_of(one, first, end), _sums_of(one)) for one in content["groups"]),
        tuple(_key_of(one, first, end) for one in content["withheld"]),
    )


FORM: Final = Form(Kind.RELEASE, 1, encoded, decoded, lambda month: not month.groups)


def _key(key: GroupKey) -> dict[str, Any]:
    if key.site is not None:
        raise ValueError(f"the release has no sites: {key}")
    return {
        "zone": key.zone,
        "population": key.population.value,
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


def _sums(sums: GroupSums) -> dict[str, Any]:
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


def _sums_of(one: Mapping[str, Any]) -> GroupSums:
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


@cache  # some dozens, one object each however many groups have them: half of a month's time and a third of its memory
def _state_key(band: str, state: str) -> tuple[Band, State]:
    return Band(band), State(state)


@cache
def _energy_key(device_class: str, method: str, band: str, state: str) -> EnergyKey:
    monitor = device_class == EnergyClass.MONITOR.value
    return (
        EnergyClass.MONITOR if monitor else DeviceClass(device_class),
        Method(method),
        Band(band),
        State(state),
    )


def _words(key: Iterable[Any]) -> list[str]:
    return [word.value for word in key]
