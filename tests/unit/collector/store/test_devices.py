# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests that devices counted in SQL are the assets, which the census and the month's groups read."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

from veilleuse.collector.model.inventory import (
    DAYS_PER_YEAR,
    AssetRecord,
    Entity,
    InventoryChange,
    Placement,
    PowerContext,
)
from veilleuse.collector.settings import Store
from veilleuse.collector.store import create_store, open_reader
from veilleuse.wire.vocabulary import Population

FIRST, LAST = date(2025, 1, 1), date(2025, 12, 31)
DAYS = tuple(day + timedelta(days=more) for day in (FIRST, LAST) for more in (-40, -1, 0, 1, 40))
ENTITIES = (
    Entity("M", None, "hq", PowerContext.LEASED_SITE),
    Entity("M > A", "M", "", None, Population.CLASSROOM),
    Entity("X", None),
)


def asset(number: int, draw: random.Random) -> AssetRecord:
    """Return an asset with one to three places."""
    names = [*(one.name for one in ENTITIES), "unknown"]
    return AssetRecord(
        number, "s", "computer", str(number),
        device_class=draw.choice(("laptop", "monitor", "server", "virtual_machine")),
        population=draw.choice((None, None, Population.WORKSTATION)),
        power_context=draw.choice((None, PowerContext.HOME)),
        in_service_on=draw.choice((None, *DAYS)),
        out_of_service_on=draw.choice((None, None, *DAYS)),
        is_duplicate=draw.random() < 0.2,
        placements=tuple(
            Placement(day, draw.choice(names), draw.choice(("", "lyon")))
            for day in sorted(draw.sample(DAYS, draw.randint(1, 3)))
        ),
    )  # fmt: skip


def test_the_groups_are_the_assets(tmp_path: Path):
    """A device is counted at its place of the last day, with the population and context of its last place;
    one that leaves on the first day, a duplicate or a virtual machine is not."""
    draw = random.Random(16)
    with closing(create_store(tmp_path / "data", Store(), simulated=True, now_unix_milliseconds=1)) as store:
        assets = tuple(asset(number, draw) for number in range(1, 500))
        store.inventory.apply(InventoryChange(1, LAST, assets, ENTITIES))
    with open_reader(tmp_path / "data") as reader:
        stored, groups = reader.inventory.assets(), reader.inventory.devices(FIRST, LAST)
    expected = Counter(
        (
            one.placement_on(LAST).entity,
            one.placement_on(LAST).site,
            one.population,
            one.device_class,
            one.power_context,
            None if one.in_service_on is None else (LAST - one.in_service_on).days / DAYS_PER_YEAR,
        )
        for one in stored
        if one.device_class != "virtual_machine"
        and (one.in_service_on or FIRST) <= LAST
        and (one.out_of_service_on or LAST) > FIRST
    )
    found: Counter[object] = Counter()
    for one in groups:
        for age, number in one.ages_years.items():
            found[one.entity, one.site, one.population, one.device_class, one.power_context, age] += number
    assert found == expected
