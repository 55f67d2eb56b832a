# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""P15: what one role can read together over months is of k machines or of none, whatever is added, subtracted or solved.

Each role's numbers of the API, of /metrics over time and of the page become one linear system (explaining.py), of which every real
combination is searched (isolating.py). The stories are the leaks that an attacker found, and fleets drawn at random whose machines come
late, move, retire, are forgotten and are derived again between the looks.

Not in the system: that a number is of whole cells (entity × class) is an assumption, which the values confirm; amounts that only rounding tells;
I3 and I5, which are no sums; and of an administrator each answer is held to the rule, not what it puts together.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Final

import pytest

from tests.promises.explaining import Equation, Explained
from tests.promises.isolating import Isolated, dominated, smallest
from tests.promises.read_together import NIGHT, OFF, OFFICE, Hours, Watched
from veilleuse.collector.factors.choose import book_of
from veilleuse.wire.vocabulary import DeviceClass, Population, State

K: Final = 10
SEP, OCT, NOV, DEC = (date(2026, month, 1) for month in (9, 10, 11, 12))
IN_OCTOBER: Final = date(2026, 10, 5)
BUSY: Final = Hours({State.ON_IDLE: 9, State.ON_ACTIVE: 1}, {State.ON_ACTIVE: 20, State.ON_IDLE: 8})
"""On all the time that it is known of."""


def solved(watched: Watched) -> Explained:
    """All that was told, as equations; every number is explained."""
    book = book_of()
    grams = {zone: Fraction(book.choose(zone, 2026).factor.total_kgco2e_per_kwh) for zone in ("FR", "DE")}
    found = Explained(watched.versions, watched.months, grams)
    found.add(watched.rows)
    return found


def of(equations: Iterable[Equation], role: str, outlets: Sequence[str]) -> list[Equation]:
    """Those that a role is told at some outlets."""
    return [one for one in equations if role in one.row.roles and one.row.outlet in outlets]


def weakest(equations: Sequence[Equation]) -> Isolated | None:
    """The fewest machines that are isolated, or the one that is almost all of a sum."""
    alone = dominated(equations)
    return Isolated(frozenset({0}), tuple(alone[0][0].values)) if alone else smallest(equations, K)


def systems(equations: Sequence[Equation], roles: Iterable[str]) -> dict[tuple[str, str], list[Equation]]:
    """(role, outlets) → what is read together there; of an administrator, each answer."""
    found = {}
    for role in roles:
        for outlets in (("api",), ("metrics",), ("api", "metrics")):
            found[role, " + ".join(outlets)] = of(equations, role, outlets)
    for answer in {one.row.answer for one in equations if "admin" in one.row.roles}:
        found["admin", answer] = [one for one in equations if one.row.answer == answer]
    return {key: told for key, told in found.items() if told}


def withheld(data: Watched) -> None:
    """Twelve, of which one is in use: I2 is withheld, and its denominator is that one's time on."""
    hosts = data.machines(12)
    data.month(SEP, [(hosts[0], NIGHT), *((host, OFF) for host in hosts[1:])])
    data.look(IN_OCTOBER, [SEP])


def constants(data: Watched) -> None:
    """Eleven off at half a watt, and one in use for a quarter of an hour: no machine has 85 % of a sum that is one's and eleven constants."""
    hosts = data.machines(12)
    brief = Hours({State.OFF: 12, State.ON_IDLE: 0.25}, {State.OFF: 40})
    data.month(SEP, [(hosts[0], brief), *((host, OFF) for host in hosts[1:])])
    data.look(IN_OCTOBER, [SEP])


def silence(data: Watched) -> None:
    """Twelve known all month but one: enrolled less observed is that one's silence."""
    hosts = data.machines(12)
    data.whole_days(SEP, {host: 20 if host == hosts[0] else 24 for host in hosts})
    data.look(IN_OCTOBER, [SEP])


def methods(data: Watched) -> None:
    """Twelve, of which one is not metered: the methods are withheld, and the width of the interval is their share."""
    hosts = data.machines(12)
    data.month(SEP, [(host, BUSY) for host in hosts[1:]])
    data.month(SEP, [(hosts[0], BUSY)], measured=False)
    data.look(IN_OCTOBER, [SEP])


def zones(data: Watched) -> None:
    """Nine in France and three in Germany, in one `autres`: joules and grams of both are two equations with two unknowns."""
    hosts = data.machines(9) + data.machines(3, site="köln")
    data.month(SEP, [(host, NIGHT) for host in hosts])
    data.look(date(2026, 9, 14))
    data.look(IN_OCTOBER, [SEP])


def days(data: Watched) -> None:
    """A Sunday of one machine, which no gauge shows: the month less its days and weeks."""
    hosts = data.machines(12)
    data.month(SEP, [(host, NIGHT) for host in hosts])
    data.day(date(2026, 9, 20), [(hosts[0], {State.ON_IDLE: 5})])
    for day in (14, 18, 24):
        data.look(date(2026, 9, day))
    data.look(IN_OCTOBER, [SEP])


def weeks(data: Watched) -> None:
    """Ten laptops and two towers: API by entity and class, gauges of the day by site too, gauges of the week by population."""
    hosts = data.machines(8) + data.machines(3, site="nancy") + data.machines(2, device_class=DeviceClass.TOWER)
    data.month(SEP, [(host, NIGHT if number % 2 else BUSY) for number, host in enumerate(hosts)])
    data.look(date(2026, 9, 14))
    data.look(date(2026, 9, 18))
    data.look(IN_OCTOBER, [SEP])


def late(data: Watched) -> None:
    """A machine whose day comes between two looks, with a restart between them."""
    hosts = data.machines(14)
    data.month(SEP, [(host, NIGHT) for host in hosts[:13]])
    data.look(date(2026, 9, 14))
    data.month(SEP, [(hosts[13], NIGHT)])
    data.look(date(2026, 9, 14))
    data.look(IN_OCTOBER, [SEP])


def screens(data: Watched) -> None:
    """Eleven, of which two have a screen, beside eleven of another class that all have one."""
    hosts = data.machines(11) + data.machines(11, device_class=DeviceClass.TOWER)
    data.month(SEP, [(host, NIGHT) for host in hosts], screens=hosts[:2] + hosts[11:])
    data.look(IN_OCTOBER, [SEP])


def entities(data: Watched) -> None:
    """Three entities that merge in part: a reader of one, readers of two, and the fleet."""
    hosts = data.machines(11, "A") + data.machines(7, "A > 1") + data.machines(4, "B") + data.machines(13, "B > 1")
    data.month(SEP, [(host, (NIGHT, OFFICE, BUSY)[number % 3]) for number, host in enumerate(hosts)])
    data.look(IN_OCTOBER, [SEP])


STORIES: Final = (withheld, constants, silence, methods, zones, days, weeks, late, screens, entities)


def told(found: Explained) -> str:
    """What nothing explains, for people."""
    return "\n".join(f"{row.answer} {row.table} {name} = {value}" for row, name, value in found.unexplained)


def held(found: Explained, roles: Sequence[str]) -> None:
    """Every number is explained, and no system isolates fewer than k machines."""
    assert not found.unexplained, told(found)
    leaks = {key: weakest(told) for key, told in systems(found.equations, roles).items()}
    assert {key: leak for key, leak in leaks.items() if leak is not None} == {}


ROLES: Final = ("door", "reader", "reader of A", "reader of B")


@pytest.mark.promise("P15")
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_leak_that_was_found_stays_closed(story: Callable[[Watched], None], tmp_path: Path) -> None:
    """No role isolates fewer than k machines in it, and something is told all the same."""
    with Watched(tmp_path, 1, ("A", "B")) as data:
        story(data)
        found = solved(data)
        held(found, ROLES)
        assert any(one.row.outlet == "api" for one in found.equations)
