# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test what every store does with the inventory: imports and matches with machines. ports.InventoryStore."""

from __future__ import annotations

from datetime import date

import pytest

from tests.conformance.backends import Backend
from tests.support.pushes import enrol
from veilleuse.collector.errors import OvertakenImport
from veilleuse.collector.model.inventory import (
    AssetMatches,
    AssetRecord,
    Decision,
    Doubt,
    DoubtKind,
    Entity,
    InventoryChange,
    MatchVerdict,
    Placement,
)


def test_an_import_of_the_inventory_is_written_once(store: Backend):
    """A second import from the same snapshot is refused, and nothing of it is written."""
    before = store.inventory.snapshot()
    assert (before.generation, before.entities) == (0, ())
    change = InventoryChange(1, date(2026, 3, 2), entities=(Entity("A", None),))
    store.inventory.apply(change)
    after = store.inventory.snapshot()
    assert (after.generation, after.entities) == (1, (Entity("A", None),))
    with pytest.raises(OvertakenImport):
        store.inventory.apply(InventoryChange(1, date(2026, 3, 2), entities=(Entity("B", None),)))
    assert store.inventory.snapshot() == after


def test_a_matching_links_assets_and_enrolled_machines(store: Backend):
    """Links replace earlier ones and changes are counted; a match replaces a decision on its machine."""
    host = enrol(store.registry)
    assert [one.host_id for one in store.inventory.candidates()] == [host]
    place = (Placement(date(2026, 1, 1), "A", "lyon"),)
    assets = tuple(AssetRecord(number, "s", "computer", str(number), placements=place) for number in (1, 2))
    store.inventory.apply(InventoryChange(1, date(2026, 3, 2), assets, (Entity("A", None),)))
    found = AssetMatches({1: host}, (Doubt(DoubtKind.MODEL_DISAGREES, 1, host),))
    assert store.inventory.put_matching(found) == 1
    assert store.inventory.put_matching(found) == 0
    first, second = (Decision(number, host, MatchVerdict.MATCHED) for number in (1, 2))
    store.inventory.decide([first])
    assert store.inventory.decisions() == (first,)
    store.inventory.decide([second])
    assert store.inventory.decisions() == (second,)
