# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of class defaults and equivalents: each figure agrees with its source; few equivalents are shown."""

from __future__ import annotations

from fractions import Fraction

import pytest

from veilleuse.collector.account.equivalences import DEFAULT, PUBLISHED, equivalences
from veilleuse.collector.errors import UsageError
from veilleuse.collector.fleet.estimator import Assumptions, Fleet, class_defaults, class_microwatts
from veilleuse.collector.fleet.samples import DAY_TYPES, InService, Stratum
from veilleuse.collector.model.inventory import InventoryClass
from veilleuse.collector.model.months import DayType
from veilleuse.collector.shipped_tables import STATE_POWERS, load_table
from veilleuse.wire.vocabulary import DeviceClass

HOURS = 8760
DUTY = {"laptop": (0.25, 0.35, 0.10, 0.30), "thin_client": (0.45, 0.05, 0.15, 0.35)}
"""ENERGY STAR 8.0: off, sleep, long idle, short idle (tec_mode_weights.csv of the method)."""
DESKTOP = (0.15, 0.45, 0.10, 0.30)


@pytest.mark.parametrize("name", ["laptop", "mini_pc", "sff", "tower", "all_in_one", "thin_client"])
def test_a_pc_that_nobody_measured(name: str):
    """The default is the mean of docs/methodology.md §2's state powers at the TEC duty, to the milliwatt."""
    powers = STATE_POWERS[DeviceClass(name)]
    states = (
        powers.off_microwatts,
        powers.sleep_microwatts or 0,
        powers.idle_microwatts,
        powers.light_microwatts,
    )
    mean = sum(share * power for share, power in zip(DUTY.get(name, DESKTOP), states, strict=True))
    assert class_defaults()[name].microwatts == pytest.approx((mean,) * 3, abs=1000)


@pytest.mark.parametrize(
    ("name", "kwh"),
    [("monitor", 40.9), ("wifi_access_point", 70), ("ip_phone", 40), ("printer", (19.2 * 71) ** 0.5)],
)
def test_published_figures(name: str, kwh: float):
    """A year at the mean power gives the published energy of a year."""
    for microwatts in class_defaults()[name].microwatts:
        assert microwatts / 1e6 * HOURS / 1000 == pytest.approx(kwh, abs=0.02)


def test_every_inventory_class_has_one_or_says_that_it_has_none():
    """Each class but `other` has a default with its origin, GSD² 2.0 and day types."""
    found = class_defaults()
    assert {one.value for one in InventoryClass} - set(found) == {"other"}
    assert {one.value for one in DeviceClass} - set(found) == {"virtual_machine"}
    for one in found.values():
        assert (len(one.microwatts), one.gsd2) == (len(DAY_TYPES), 2.0)
        assert one.origin in ("R", "C", "P")
        assert one.basis
        assert min(one.microwatts) > 0
    ours = {name for name, one in found.items() if one.origin == "P"}
    assert ours == {"switch", "storage", "unknown"}


def test_a_projector_rests_when_there_is_no_school():
    """A projector draws 310 W for two hours of an open day, and 0.5 W otherwise."""
    projector = dict(zip(DAY_TYPES, class_defaults()["projector"].microwatts, strict=True))
    assert projector[DayType.OPEN] * 24 == pytest.approx((310 * 2 + 0.5 * 22) * 1e6, rel=1e-4)
    assert projector[DayType.CLOSED] == projector[DayType.SCHOOL_HOLIDAY] == 500_000


def test_the_fleet_takes_them():
    """200 access points, none measured, draw 14,000 kWh a year at the class default."""
    year = 200 * 365 * 86_400_000
    fleet = Fleet(
        [],
        [InService(Stratum("wifi_access_point", "DSI"), 200, (year, 0, 0))],
        Assumptions(class_microwatts=class_microwatts()),
    )
    total = fleet.total()
    assert total.energy_millijoules / 3.6e9 == pytest.approx(14_000, rel=1e-3)
    assert total.default_millijoules == total.energy_millijoules
    assert not total.unestimated


# --------------------------------------------------------------------------------- equivalents


def test_at_most_three_with_source_and_date():
    """One tonne equals some 7,000 km by car, 227 return trips by train or 5 laptops made."""
    found = equivalences(Fraction(1000))
    assert [(one.slug, one.shown) for one in found] == [
        ("voiturethermique", "7000"),
        ("tgv-paris-marseille", "230"),
        ("ordinateurportable", "5.2"),
    ]
    assert found[0].number == pytest.approx(1e6 / 142.253)
    assert {(one.source, one.published) for one in found} == {("ADEME, Impact CO2", PUBLISHED)}
    assert found[1].unit == {
        "fr": "A/R Paris - Marseille en TGV",
        "en": "return trips Paris–Marseille by TGV",
    }
    assert PUBLISHED in load_table("equivalences_impactco2").attribution
    assert len(DEFAULT) == 3


def test_small_figures_have_few():
    """An equivalent below one unit is not shown."""
    assert [one.slug for one in equivalences(5)] == ["voiturethermique", "tgv-paris-marseille"]
    assert equivalences(0) == ()
    assert equivalences(0.1) == ()


@pytest.mark.parametrize("slugs", [("a",), ("tgv", "tgv"), ("tgv", "ter", "metro", "email"), ("francais",)])
def test_what_cannot_be_asked(slugs: tuple[str, ...]):
    """An unknown equivalent, one given twice, four of them, and a percentage are refused."""
    with pytest.raises(UsageError):
        equivalences(1000, slugs)
    with pytest.raises(ValueError, match="≥ 0"):
        equivalences(-1)
