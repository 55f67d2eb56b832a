# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The market-based line: contracts cover energy once, the rest has the grid's factor, and sums are exact."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilleuse.collector.account.market_based import Consumption, MarketLine, market
from veilleuse.collector.factors.book import factor_book
from veilleuse.collector.model.factors import Contract

FR_2022 = factor_book().named("ADEME-FR-2022-MOY")
YEAR = (date(2022, 1, 1), date(2023, 1, 1))


def contract(number: int = 1, kwh: str = "400", factor: str = "0.01", **more: object) -> Contract:
    """Return a contract of the year 2022 for any entity and site."""
    made = Contract(
        contract_id=number,
        label="c",
        supplier="s",
        valid_from=YEAR[0],
        valid_to=YEAR[1],
        kwh=Decimal(kwh),
        factor_kgco2e_per_kwh=Decimal(factor),
        uncertainty_percent=Decimal(10),
        uncertainty_inherited=True,
        guarantees_of_origin="",
        source="d",
    )
    return replace(made, **more)  # type: ignore[arg-type]


def used(
    kwh: int, entity: str = "Métropole > DSI", site: str = "Lyon", period: tuple[date, date] = YEAR
) -> Consumption:
    """Return consumption at the mainland's factor of 2022."""
    return Consumption(entity, site, *period, Fraction(kwh), FR_2022)


def lines(consumptions: list[Consumption], *contracts: Contract) -> tuple[MarketLine, ...]:
    """Return the market lines, which must exist."""
    found = market(consumptions, contracts)
    assert found is not None
    return found


def test_covered_at_the_contract_the_rest_at_the_grid():
    """1,000 kWh with 400 under a contract at 10 g are 4 + 31.2 = 35.2 kg; the location's figure is 52."""
    (one,) = lines([used(1000)], contract())
    assert (one.kwh_covered, one.kwh_rest) == (Fraction(400), Fraction(600))
    assert one.kgco2e_market == Fraction("35.2")
    assert (one.coverage, one.by_contract) == ("mixed", ((1, Fraction(400)),))


def test_without_a_contract_there_is_no_market_line():
    """The line is absent, not the location's figure, also where no energy matches a contract."""
    assert market([used(1000)], []) is None
    assert market([used(1000)], [contract(site="Villeurbanne")]) is None
    late = contract(valid_from=date(2023, 1, 1), valid_to=date(2024, 1, 1))
    assert market([used(1000)], [late]) is None


def test_guarantees_of_origin_may_state_zero_and_never_less_energy():
    """Covered energy emits 0 kg; a contract larger than the energy covers the energy and no more."""
    (one,) = lines([used(1000)], contract(kwh="5000", factor="0"))
    assert (one.kwh_covered, one.kwh_rest, one.kgco2e_market) == (Fraction(1000), Fraction(0), Fraction(0))
    assert one.coverage == "contract"


def test_a_contract_is_shared_in_proportion_and_never_twice():
    """400 kWh over 300 + 900 are 100 and 300."""
    first, second = lines([used(300), used(900, "Métropole > DRH")], contract())
    assert (first.kwh_covered, second.kwh_covered) == (Fraction(100), Fraction(300))


def test_entities_cover_what_is_below_them_and_no_namesake():
    """Métropole > DSI covers Métropole > DSI > Réseau, not Métropole > DSI bis."""
    below, beside = lines(
        [used(100, "Métropole > DSI > Réseau"), used(100, "Métropole > DSI bis")],
        contract(entity="Métropole > DSI"),
    )
    assert (below.coverage, beside.coverage) == ("contract", "location")
    assert beside.kgco2e_market == Fraction("5.2")


def test_the_narrowest_contract_gives_first():
    """The site's own contract applies first, then the deepest entity's, then any."""
    anywhere, entity, site = (
        contract(1, "1000", "0.03"),
        contract(2, "50", "0.02", entity="Métropole > DSI"),
        contract(3, "50", "0.01", site="Lyon"),
    )
    (one,) = lines([used(200)], anywhere, entity, site)
    assert one.by_contract == ((1, Fraction(100)), (2, Fraction(50)), (3, Fraction(50)))
    assert one.kgco2e_market == 3 + 1 + Fraction("0.5")


def test_days_in_common_alone_count():
    """A contract of 2022-2023 gives 2022 its 365 of 730 days; one from July on covers July to December."""
    both = contract(kwh="730", valid_to=date(2024, 1, 1))
    assert lines([used(1000)], both)[0].kwh_covered == 365
    half = contract(kwh="100000", valid_from=date(2022, 7, 2), valid_to=date(2023, 7, 2))
    assert lines([used(365)], half)[0].kwh_covered == 183


def test_contracts_of_the_same_days_cover_these_days_alone():
    """Two contracts of January to June, each larger than the energy, cover half of the year.
    A third of the whole year covers July to December, because it applies last.
    """
    half = contract(kwh="100000", valid_to=date(2022, 7, 2))
    (one,) = lines([used(365)], half, replace(half, contract_id=2))
    assert one.by_contract == ((1, Fraction(182)),)
    (one,) = lines([used(365)], half, replace(half, contract_id=2), contract(3, "100000"))
    assert one.by_contract == ((1, Fraction(182)), (3, Fraction(183)))


def test_months_of_a_year_share_a_contract_by_their_days():
    """January takes at most 31/365 of it; the year takes no more than all of it."""
    months = [(date(2022, month, 1), date(2022 + month // 12, month % 12 + 1, 1)) for month in range(1, 13)]
    found = lines([used(1000, period=month) for month in months], contract(kwh="365"))
    assert found[0].kwh_covered == 31
    assert sum(one.kwh_covered for one in found) == 365


def test_periods_that_overlap_are_refused():
    """Beside a year and one of its months the contract would count twice."""
    month = (date(2022, 1, 1), date(2022, 2, 1))
    with pytest.raises(ValueError, match="overlap"):
        market([used(1), used(1, period=month)], [contract()])
    with pytest.raises(ValueError, match="consumption"):
        market([used(-1)], [contract()])


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**9), st.sampled_from(["M > A", "M > A > B", "M > C"]), st.sampled_from("xy")
        ),
        min_size=1,
        max_size=6,
    ),
    st.lists(
        st.tuples(
            st.integers(1, 10**9),
            st.sampled_from(["", "M", "M > A", "M > A > B"]),
            st.sampled_from(["", "x", "y"]),
            st.integers(0, 500),
        ),
        min_size=1,
        max_size=5,
    ),
)
def test_nothing_is_made_or_lost(energies, bought):
    """Covered + rest is each energy, no contract exceeds its kWh, and emissions are exact sums of parts."""
    consumptions = [used(kwh, entity, site) for kwh, entity, site in energies]
    contracts = [
        contract(number, str(kwh), f"0.{factor:03d}", entity=entity, site=site)
        for number, (kwh, entity, site, factor) in enumerate(bought, 1)
    ]
    found = market(consumptions, contracts)
    if found is None:
        return
    given_by = dict.fromkeys(range(1, len(contracts) + 1), Fraction(0))
    for one, line in zip(consumptions, found, strict=True):
        assert line.kwh_covered + line.kwh_rest == one.kwh
        assert sum((kwh for _, kwh in line.by_contract), Fraction(0)) == line.kwh_covered
        assert line.kwh_rest >= 0
        whole = line.kwh_rest * Fraction(one.factor.total_kgco2e_per_kwh)
        for number, kwh in line.by_contract:
            assert kwh > 0
            given_by[number] += kwh
            whole += kwh * Fraction(contracts[number - 1].factor_kgco2e_per_kwh)
        assert line.kgco2e_market == whole
    for made in contracts:
        assert given_by[made.contract_id] <= Fraction(made.kwh)
