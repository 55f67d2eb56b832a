# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of which factor a zone and a year get."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from importlib import import_module
from pkgutil import iter_modules

import pytest

from veilleuse.collector import factors
from veilleuse.collector.errors import UnknownZone, UsageError
from veilleuse.collector.factors import BUILTIN, load
from veilleuse.collector.factors.book import FactorBook, choose, factor_book
from veilleuse.collector.factors.static import AdemeFactors, OwidFactors
from veilleuse.collector.model.factors import Factor
from veilleuse.collector.ports.imports import FactorSource


@pytest.mark.parametrize(
    ("year", "value", "series"),
    [
        (2021, "0.0569", "annual"),
        (2022, "0.0520", "annual"),
        (2023, "0.0580", "annual"),
        (2024, "0.0519", "smoothed-4y"),
        (2025, "0.0461", "smoothed-4y"),
    ],
)
def test_france_year_by_year(year: int, value: str, series: str):
    """Each year has ADEME's own value, not provisional (docs/methodology.md §8)."""
    chosen = choose("FR", year)
    assert chosen.factor.total_kgco2e_per_kwh == Decimal(value)
    assert chosen.factor.series == series
    assert chosen.factor.factor_id == f"ADEME-FR-{year}-MOY"
    assert not chosen.provisional


def test_a_year_not_published_yet_takes_the_last_one():
    """2026 takes the factor of 2025, flagged provisional."""
    chosen = choose("FR", 2026)
    assert (chosen.factor.factor_id, chosen.year, chosen.provisional) == ("ADEME-FR-2025-MOY", 2026, True)
    assert chosen.factor.published == "2026-05-18"


def test_before_the_first_year_there_is_none():
    """No factor is carried backwards."""
    with pytest.raises(UnknownZone, match="the first is of 2021"):
        choose("FR", 2020)


def test_a_blank_uncertainty_inherits_ten_percent_flagged():
    """Only 2022 publishes its own uncertainty."""
    assert not choose("FR", 2022).factor.uncertainty_inherited
    inherited = choose("FR", 2023).factor
    assert inherited.uncertainty_percent == 10
    assert inherited.uncertainty_inherited


def test_the_production_mix_of_rte_is_never_a_factor():
    """The production mix of 21.7 g is in no list: it would be 2.4 times too little."""
    assert not [one for one in factor_book().factors() if "RTE" in one.factor_id]
    assert Decimal("0.0217") not in {one.total_kgco2e_per_kwh for one in AdemeFactors().factors()}


@pytest.mark.parametrize("zone", ["DE", "de", "DEU", "deu", "Germany", " germany "])
def test_a_zone_by_any_of_its_names(zone: str):
    """A zone is found by ISO 3166 alpha-2, alpha-3 or English name."""
    assert choose(zone, 2023).factor.factor_id == "OWID-DEU-2023"


def test_france_is_ademes_alone():
    """FR, FRA and France give ADEME's factor; the other provider's value is found by its name only."""
    book = factor_book()
    for zone in ("FR", "FRA", "France"):
        assert book.choose(zone, 2023).factor.factor_id == "ADEME-FR-2023-MOY"
    named = book.named("OWID-FRA-2023")
    assert named.total_kgco2e_per_kwh == Decimal("0.055275")
    assert not book.is_official(named)
    assert book.is_official(book.named("ADEME-FR-2023-MOY"))


def test_elsewhere_the_last_year_before():
    """2025 takes the factor of 2024, flagged provisional."""
    chosen = choose("BE", 2025)
    assert (chosen.factor.valid_from.year, chosen.provisional) == (2024, True)


@pytest.mark.parametrize(
    ("zone", "near"),
    [
        ("Frnace", r"the nearest are FR \(France\)$"),
        ("Germny", r"the nearest are DE \(Germany\)$"),
        ("United Kingdm", r"the nearest are GB \(United Kingdom\)$"),
        ("la réunionn", r"RE \(Reunion\)"),
        ("ZZ", r"ZA \(South Africa\)"),
        ("World", "; use an ISO 3166 code"),  # was: the nearest are PL, JO, CH
        ("", "; use an ISO 3166 code"),
    ],
)
def test_an_unknown_zone_is_an_error_that_helps(zone: str, near: str):
    """A misspelt name gives the nearest country by code and name; the world mean is never applied, nor near a
    country."""
    with pytest.raises(UnknownZone, match=near):
        choose(zone, 2024)


@pytest.mark.parametrize(("zone", "last"), [("DE", 2024), ("FR", 2025), ("AR", 2024)])
def test_a_factor_stands_in_for_two_years_at_most(zone: str, last: int):
    """A factor serves two later years, provisional; before, 2024's value served every later year."""
    for year in (last + 1, last + 2):
        chosen = choose(zone, year)
        assert (chosen.factor.valid_to.year, chosen.provisional) == (last, True)
    with pytest.raises(
        UnknownZone, match=f"'{zone}' in {last + 3}: the last before is of {last}, and stands in for 2 years"
    ):
        choose(zone, last + 3)


def test_a_shipped_factor_says_of_which_edition_it_is_and_when_it_was_read():
    """Without edition and day of reading nobody finds the value again; a factor that lacks them is
    flagged."""
    owid = factor_book().named("OWID-DEU-2024")
    assert (owid.published, owid.accessed, owid.sourced) == ("2025-05", "2026-11-28", True)
    assert owid.source.endswith("(carbon-intensity-electricity, edition of 2025-05, read on 2026-11-28)")
    ademe = {one.valid_from.year: one for one in AdemeFactors().factors()}
    assert {year for year, one in ademe.items() if not one.sourced} == {2021, 2023, 2024, 2025}
    assert (ademe[2022].element_id, ademe[2022].accessed) == ("42513", "2026-11-28")


def test_an_unknown_name_is_a_usage_error_that_helps():
    """The error names the nearest names, or else the command that lists them."""
    with pytest.raises(UsageError, match="did you mean ADEME-FR-202"):
        factor_book().named("ADEME-FR-2029-MOY")
    with pytest.raises(UsageError, match="factors list"):
        factor_book().named("?")


def test_no_country_is_free_of_emissions():
    """Zero grams is a missing value in the source's table: such rows are not shipped."""
    assert all(one.total_kgco2e_per_kwh > 0 for one in OwidFactors().factors())


class FakeFactors:
    """Another source."""

    name = "fake"

    def factors(self) -> Iterable[Factor]:
        day = date(2030, 1, 1)
        yield Factor("X", "FR", day, day, "s", Decimal(9), (), Decimal(1), False, "s", "", "l")
        yield Factor("Y", "XX", day, day, "s", Decimal(9), (), Decimal(1), False, "s", "", "l")


def test_the_first_source_that_knows_a_zone_serves_it():
    """A second source adds zones, and never replaces a known one."""
    sources: list[FactorSource] = [AdemeFactors(), FakeFactors()]
    book = FactorBook(sources)
    assert book.choose("FR", 2027).factor.factor_id == "ADEME-FR-2025-MOY"
    assert book.choose("XX", 2030).factor.factor_id == "Y"


def test_each_provider_is_in_the_table():
    """A provider without its line in BUILTIN would never be used."""
    modules = [
        import_module(module.name) for module in iter_modules(factors.__path__, f"{factors.__name__}.")
    ]
    found = {
        f"{made.__module__}:{made.__name__}"
        for module in modules
        for made in vars(module).values()
        if isinstance(made, type) and made.__module__ == module.__name__
        if hasattr(made, "name") and hasattr(made, "factors")
    }
    differing = found ^ set(BUILTIN.values())
    assert not differing, f"add to BUILTIN in factors/__init__.py, or remove from it: {sorted(differing)}"


@pytest.mark.parametrize("source", [load(name) for name in BUILTIN])
def test_every_source_serves_a_zone(source: FactorSource):
    """The first source of BUILTIN that knows a zone serves it: one that stands behind the source of all its
    zones would never be chosen."""
    assert any(map(factor_book().is_official, source.factors())), (
        f"in BUILTIN of factors/__init__.py, list {source.name!r} before the source that knows its zones"
    )


@pytest.mark.parametrize("source", [load(name) for name in BUILTIN])
def test_every_factor_says_where_it_comes_from(source: FactorSource):
    """Each factor has a source, a licence, an uncertainty and a validity of one civil year; grams taken as
    kilograms are found."""
    assert source.name in BUILTIN
    for factor in source.factors():
        assert 0 < factor.total_kgco2e_per_kwh < 3, (
            f"{factor.factor_id}: {factor.total_kgco2e_per_kwh} kgCO2e/kWh is no mix; convert grams to kilograms"
        )
        assert factor.source
        assert factor.licence
        assert factor.uncertainty_percent > 0
        assert (factor.valid_from.month, factor.valid_to.month) == (1, 12)
