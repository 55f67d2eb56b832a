# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The bilan carbone: the mapping of docs/methodology.md §8, the home share, and changes of factor."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilleuse.collector.account.emissions import emissions
from veilleuse.collector.account.ghg_items import (
    DEFAULT_MAPPING,
    bilan_lines,
    contexts_without_item,
    home_share,
    published_days,
    split_home,
    with_eple,
)
from veilleuse.collector.factors.book import choose
from veilleuse.collector.model.factors import BilanItem
from veilleuse.collector.model.inventory import Headcount, PowerContext

ADEME_2022 = emissions(Fraction(10_000), choose("FR", 2022).factor)
JANUARY, NEXT = date(2026, 1, 1), date(2027, 1, 1)


def test_ademe_2022_by_item():
    """10,000 kWh on an own site are 338 kg in 2.1, and 182.4 kg with a residual of −0.4 in 4.1: 520 in all
    (docs/methodology.md §13)."""
    found = bilan_lines(PowerContext.OWN_SITE, ADEME_2022, DEFAULT_MAPPING)
    assert [(one.part, one.item.beges_item, one.item.ghg_category, one.kgco2e) for one in found] == [
        ("combustion", "2.1", "2", 338),
        ("upstream_and_losses", "4.1", "3.3", Fraction("182.4")),
        ("split_residual", "4.1", "3.3", Fraction("-0.4")),
    ]
    assert sum(one.kgco2e for one in found) == 520
    assert all(one.in_beges_energie and one.in_bilan_numerique for one in found)


@pytest.mark.parametrize(
    ("context", "item", "category"),
    [
        (PowerContext.LEASED_SITE, "4.4", "3.8"),
        (PowerContext.HOSTED, "4.5", "3.1"),
        (PowerContext.HOME, "3.3", "3.7"),
        (PowerContext.EPLE, "", ""),
    ],
)
def test_other_contexts_are_one_line(context: PowerContext, item: str, category: str):
    """One line has all emissions, outside BEGES énergie and inside the bilan numérique.
    A college's item is unknown until it is entered."""
    (one,) = bilan_lines(context, ADEME_2022, DEFAULT_MAPPING)
    assert (one.item, one.kgco2e) == (BilanItem(item, category), Fraction(520))
    assert (one.in_beges_energie, one.in_bilan_numerique) == (False, True)


def test_every_context_has_its_line():
    """Lines have the enumeration's order; the default mapping is not confirmed."""
    assert [line.context for line in DEFAULT_MAPPING.lines] == list(PowerContext)
    assert not DEFAULT_MAPPING.confirmed
    assert contexts_without_item(DEFAULT_MAPPING) == (PowerContext.EPLE,)


def test_a_college_is_an_own_site_where_the_contract_is_the_authoritys():
    """Its emissions are split and in both ledgers; with its own contract they are scope 3, as entered."""
    own = with_eple(DEFAULT_MAPPING, True)
    assert [one.item.beges_item for one in bilan_lines(PowerContext.EPLE, ADEME_2022, own)] == [
        "2.1",
        "4.1",
        "4.1",
    ]
    assert own.of(PowerContext.EPLE).in_beges_energie
    other = with_eple(DEFAULT_MAPPING, False, BilanItem("4.4", "3.15"))
    (line,) = bilan_lines(PowerContext.EPLE, ADEME_2022, other)
    assert (line.item, line.in_beges_energie) == (BilanItem("4.4", "3.15"), False)
    assert contexts_without_item(other) == ()
    for entered in (None, BilanItem("", "3.1"), BilanItem("2.1", "2")):
        with pytest.raises(ValueError, match="scope 3"):
            with_eple(DEFAULT_MAPPING, False, entered)


def test_without_components_nothing_is_split():
    """OWID's Germany is all in the item of combustion, without ADEME's shares."""
    (one,) = bilan_lines(
        PowerContext.OWN_SITE, emissions(Fraction(10), choose("DE", 2023).factor), DEFAULT_MAPPING
    )
    assert (one.part, one.item.beges_item) == ("total", "2.1")


@given(st.integers(0, 10**12), st.sampled_from([2021, 2022, 2024, 2026]), st.sampled_from(list(PowerContext)))
def test_the_lines_sum_to_the_total(kwh: int, year: int, context: PowerContext):
    """The sum is exact for any year and context."""
    billed = emissions(Fraction(kwh), choose("FR", year).factor)
    found = bilan_lines(context, billed, with_eple(DEFAULT_MAPPING, True))
    assert sum((one.kgco2e for one in found), Fraction(0)) == billed.total_kgco2e


def telework(entity: str, day: date, days: str | None) -> Headcount:
    """Declare telework days a week from a day on."""
    return Headcount(entity, day, 10**8, None if days is None else Decimal(days))


def test_the_home_share_is_what_was_declared():
    """Two days of five are 0.4, rounded for many by less than a millionth. The nearest entity above counts,
    weighted by days where it changed. Without a declaration there is no share."""
    near = partial(pytest.approx, abs=1e-6)
    whole = [telework("M", date(2025, 1, 1), "2")]
    assert home_share(whole, "M > DSI > Réseau", JANUARY, NEXT) == near(0.4)
    own = [*whole, telework("M > DSI", date(2025, 1, 1), "0")]
    assert home_share(own, "M > DSI > Réseau", JANUARY, NEXT) == 0
    changed = [*whole, telework("M", date(2026, 7, 2), "3")]
    assert home_share(changed, "M", JANUARY, NEXT) == near((182 * 2 + 183 * 3) / (5 * 365))
    # earlier and later declarations do not apply
    replaced = [telework("M", date(2024, 1, 1), "5"), *whole, telework("M", NEXT, "5")]
    assert home_share(replaced, "M", JANUARY, NEXT) == near(0.4)
    assert home_share(whole, "N", JANUARY, NEXT) is None
    assert home_share([telework("M", date(2025, 1, 1), None)], "M", JANUARY, NEXT) is None
    assert home_share([telework("M", date(2026, 2, 1), "2")], "M", JANUARY, NEXT) is None
    assert home_share([telework("M", date(2025, 1, 1), "7")], "M", JANUARY, NEXT) == 1


def interval(published: Fraction, users: int) -> tuple[Fraction, Fraction]:
    """Return what an attacker knows of the person-days behind published days: their cell."""
    middle, most = published * users, Fraction(5 * users)
    if middle in (0, most):
        return middle, middle
    cells = [(Fraction(low), min(Fraction(low + 50), most)) for low in range(0, 5 * users, 50)]
    (cell,) = [one for one in cells if sum(one) == 2 * middle]
    return cell


PEOPLE = st.lists(st.integers(0, 5), min_size=10, max_size=40)
FEW = st.lists(st.integers(1, 5), min_size=1, max_size=9)


def declare(people: Sequence[int], day: int = 1) -> Headcount:
    """Return a declaration of the days of these people."""
    return Headcount("E", date(2025, 1, day), len(people), Decimal(sum(people)) / len(people))


@pytest.mark.promise("P15")
@given(st.lists(PEOPLE, min_size=1, max_size=3), FEW)
@settings(max_examples=300, deadline=None)
def test_the_days_of_few_beside_branches_may_be_any(branches: list[list[int]], few: list[int]):
    """An entity has branches and fewer than ten people besides. Whatever these do, the difference of the
    published days leaves all that they can do, from none to five days each, unless ten people or more show
    alone what they do: none at all, or all five days."""
    whole = [days for branch in branches for days in branch] + few
    (told,) = published_days([declare(whole)])
    low, high = interval(told, len(whole))
    for branch in branches:
        (days,) = published_days([declare(branch)])
        least, most = interval(days, len(branch))
        low, high = low - most, high - least
    if sum(whole) != 5 * len(whole):
        assert low <= 0
        assert high >= 5 * len(few)


@pytest.mark.promise("P15")
@given(PEOPLE, st.lists(st.tuples(st.integers(0, 8), st.integers(0, 5)), max_size=6))
@settings(max_examples=300, deadline=None)
def test_what_few_change_shows_no_days(people: list[int], changes: list[tuple[int, int]]):
    """Nine people change their days, one after the other, each time with a new declaration. The published
    days change only from or to none at all, and are then those of a cell of fifty person-days."""
    declared, now = [declare(people)], list(people)
    for number, (who, days) in enumerate(changes, 2):
        now[who] = days
        declared.append(declare(now, number))
    told = published_days(declared)
    some = [days for days, one in zip(told, declared, strict=True) if one.telework_days_per_week]
    assert all(days > 0 for days in some)
    if len(some) == len(told):
        assert len(set(told)) == 1


@given(st.integers(0, 10**15), st.integers(0, 50))
def test_home_and_site_sum_to_the_energy(energy: int, tenths: int):
    """The sum is exact in integers."""
    own, home = split_home(energy, Fraction(tenths, 50))
    assert own + home == energy
    assert min(own, home) >= 0


def test_a_home_share_is_between_none_and_all():
    """Another share is an error in the caller."""
    with pytest.raises(ValueError, match="home share"):
        split_home(10, Fraction(6, 5))
