# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The causes of a difference between two revisions sum to it exactly, also where cells merged differently.
Terms survive a round trip through JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from tests.unit.collector.closed_years.test_keeping import fleet, keep
from veilleuse.collector.account.ghg_items import DEFAULT_MAPPING
from veilleuse.collector.closed_years.difference import difference
from veilleuse.collector.closed_years.document import FrozenTerms, terms_document, terms_from_document
from veilleuse.collector.closed_years.frozen import ClosedRevision, frozen_documents, is_same
from veilleuse.collector.closed_years.year_statistics import YearStatistics
from veilleuse.collector.errors import UnknownZone
from veilleuse.collector.factors.book import choose, factor_book
from veilleuse.collector.fleet.estimator import Assumptions
from veilleuse.collector.fleet.rooms import RoomFigure
from veilleuse.collector.fleet.samples import CalibratedWall
from veilleuse.collector.model.calibration import Fit
from veilleuse.collector.model.closed_years import ClosedYear, YearState, canonical
from veilleuse.collector.model.factors import ChosenFactor, Contract

YEAR = 2025
ROOM = RoomFigure("r1", "hq", "FR", 9 * 10**12, 2 * 10**12, 10**11, None, "not_included", 0)
CONTRACT = Contract(
    3,
    "green",
    "supplier",
    date(2025, 1, 1),
    date(2026, 1, 1),
    Decimal(1000),
    Decimal("0.01"),
    Decimal(10),
    True,
    "",
    "contract.pdf",
)


def terms(total: str | None = None, assumptions: Assumptions | None = None) -> FrozenTerms:
    """Return terms of France, with another factor (kgCO2e/kWh) where one is given."""
    chosen = choose("FR", YEAR)
    if total is not None:
        chosen = replace(chosen, factor=replace(chosen.factor, total_kgco2e_per_kwh=Decimal(total)))
    return FrozenTerms({"FR": chosen}, DEFAULT_MAPPING, [], assumptions or Assumptions(), "simulated")


def closed(kept: YearStatistics, with_terms: FrozenTerms) -> ClosedRevision:
    """Return a first revision."""
    closed_year = ClosedYear(YEAR, 1, YearState.CLOSED_PROVISIONAL, 0, "", "")
    return ClosedRevision(closed_year, {"figures": frozen_documents(kept, with_terms)}, kept, with_terms)


def effects(before: ClosedRevision, kept: YearStatistics, with_terms: FrozenTerms) -> dict[str, Fraction]:
    """Return cause → kWh, after checking the sums against the totals."""
    found = difference(before, kept, with_terms)
    old = before.report["figures"]["totals"][0]
    new = frozen_documents(kept, with_terms)["totals"][0]
    told: dict[str, dict[str, Fraction]] = {
        unit: {cause: Fraction(one["exact"]) for cause, one in found[unit].items()}
        for unit in ("kwh", "kgco2e")
    }
    assert sum(told["kwh"].values()) * 3_600_000_000 == new["energy_millijoules"] - old["energy_millijoules"]
    assert sum(told["kgco2e"].values()) == Fraction(new["kgco2e_total_exact"]) - Fraction(
        old["kgco2e_total_exact"]
    )
    assert all(
        told["kgco2e"][cause]
        == told["kwh"][cause] * Fraction(before.terms.factors["FR"].factor.total_kgco2e_per_kwh)
        for cause in ("perimeter", "late_data")
    )
    return told["kwh"]


def test_nothing_differs():
    """All effects are 0 for equal statistics and terms."""
    kept = keep(*fleet({"E1": 12, "E2": 12}))
    assert set(effects(closed(kept, terms()), kept, terms()).values()) == {0}


def test_more_machines_in_service_are_perimeter_alone():
    """With ten more assets in each entity and the same data, the difference is their share at the strata's
    means."""
    before, after = (keep(*fleet({"E1": 12, "E2": 12}, spare=spare)) for spare in (10, 20))
    found = effects(closed(before, terms()), after, terms("0.09"))
    assert found["perimeter"] > 0
    assert found["late_data"] == found["method"] == 0


def test_other_data_are_late_data_alone():
    """Other measurements of the same fleet change nothing but late data."""
    before, after = (keep(*fleet({"E1": 12, "E2": 12}, seed=seed)) for seed in (1, 2))
    found = effects(closed(before, terms()), after, terms())
    assert found["late_data"] != 0
    assert found["perimeter"] == found["method"] == 0


def test_cells_that_were_merged_otherwise():
    """E2 lost machines and is now in `autres`. The class's new machine time at its old mean power is
    perimeter; the rest is late data."""
    before = keep(*fleet({"E1": 30, "E2": 12, "E3": 12}))
    after = keep(*fleet({"E1": 30, "E2": 4, "E3": 12}))
    found = effects(closed(before, terms()), after, terms())
    assert found["perimeter"] < 0
    laptops = replace(
        after,
        cells=tuple(
            replace(cell, stratum=cell.stratum._replace(device_class="laptop")) for cell in after.cells
        ),
        fleet=tuple(replace(one, stratum=one.stratum._replace(device_class="laptop")) for one in after.fleet),
    )
    swapped = effects(closed(before, terms()), laptops, terms())
    assert swapped["late_data"] == 0  # a class that appears or disappears is perimeter


def test_rooms_and_assumptions():
    """A room's late meters are late data; another class default is method."""
    kept = keep(*fleet({"E1": 12}))
    found = effects(closed(kept, terms()), replace(kept, rooms=(ROOM,)), terms())
    assert found["late_data"] * 3_600_000_000 == 2 * 10**12 + 10**11
    with_default = terms(assumptions=Assumptions(class_microwatts={"switch": (10**7,) * 3}))
    switches = replace(
        kept,
        fleet=(
            *kept.fleet,
            replace(kept.fleet[0], stratum=kept.fleet[0].stratum._replace(device_class="switch")),
        ),
    )
    found = effects(closed(switches, terms()), switches, with_default)
    assert found["method"] > 0
    assert found["perimeter"] == found["late_data"] == 0
    moved = effects(closed(replace(kept, rooms=(ROOM,)), terms()), _in_strata(kept, "elsewhere"), terms())
    assert moved["late_data"] * 3_600_000_000 <= -2 * 10**12


def _in_strata(kept: YearStatistics, entity: str) -> YearStatistics:
    """Move every stratum of E1 to another entity, and drop the rooms."""
    named = {
        one.stratum: one.stratum._replace(entity=one.stratum.entity.replace("E1", entity))
        for one in kept.fleet
    }
    return replace(
        kept,
        cells=tuple(replace(cell, stratum=named[cell.stratum]) for cell in kept.cells),
        fleet=tuple(replace(one, stratum=named[one.stratum]) for one in kept.fleet),
    )


def test_terms_as_json_and_back():
    """Factors, mapping, contracts, calibrations and defaults come back equal, without a float."""
    fit = Fit("wall:package", 10**7, 1_300_000, 10**8, 0, 10**6, 1_100_000, 5_000, 10_000, 200_000)
    known = Assumptions(
        True,
        {"switch": (1, 2, 3)},
        {("tower", "acme"): CalibratedWall(fit, "plug")},
        frozenset({"switch"}),
    )
    chosen = choose("FR", YEAR)
    made = FrozenTerms(
        {
            "FR": replace(chosen, factor=replace(chosen.factor, version=7)),
            "DE": choose("DE", YEAR),
        },
        replace(DEFAULT_MAPPING, confirmed_unix_milliseconds=5, confirmed_by="me", why="so"),
        [CONTRACT],
        known,
        "real",
    )
    document = terms_document(made)
    assert canonical(document)
    again = terms_from_document(document)
    assert again == replace(made, factors=dict(sorted(made.factors.items())))
    assert again.choose("FR", YEAR).factor.version == 7
    plain = terms_document(replace(made, assumptions=replace(known, declared=frozenset())))
    assert "declared" not in plain["assumptions"], "a year without declared powers keeps its bytes"
    for zone, year in (("FR", 2020), ("XX", YEAR)):
        with pytest.raises(UnknownZone, match="the closed year has no factor"):
            again.choose(zone, year)
    assert isinstance(again.factors["DE"], ChosenFactor)
    assert factor_book()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": ["1.00000000001", 2]}, {"a": ["1.00000000002", 2]}, True),
        ({"a": ["1.00000000001"]}, {"a": ["1.00000000004"]}, False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ([1], [1, 2], False),
        (1, True, False),
        (5, 6, False),
        ("1/3", "1/4", False),
        ("E1", "E2", False),
        ("E1", "E1", True),
        ({"a": None}, {"a": "1"}, False),
    ],
)
def test_what_is_the_same(one: Mapping[str, Any], other: Mapping[str, Any], same: bool):
    """Values must be equal, but a decimal's last digit may be rounded differently by another machine."""
    assert is_same(one, other) is same
