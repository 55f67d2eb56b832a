# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the ranked recommendations: sums of the months, sentences, single servers, declared actions."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date
from fractions import Fraction
from typing import Any

import pytest

from tests.unit.collector.indicators.test_sobriety import DAY, load, server
from veilleuse.collector.documents.document import Row, read_columns
from veilleuse.collector.documents.text import words
from veilleuse.collector.model.actions import Action
from veilleuse.collector.model.indicators import BandUse, Figure, IndicatorMeta, Targets
from veilleuse.collector.model.inventory import ServerRole
from veilleuse.collector.model.query import AUTRES, GroupKey
from veilleuse.collector.reports.indicators_document import figure_of, key_of, row
from veilleuse.collector.reports.recommendations.document import (
    COLUMNS,
    RecommendationWriter,
    recommendations_document,
)
from veilleuse.collector.reports.recommendations.facts import DeclaredAction, FleetFacts
from veilleuse.collector.reports.recommendations.priorities import Recommendation, gather_servers, rank
from veilleuse.wire.vocabulary import Band, Population

COLLEGE, WATER = "Métropole > Collèges > Collège du Parc", "Métropole > Direction de l’eau"
NO_FACTS = FleetFacts({}, {}, ())
TARGETS = Targets()
U = 0.1
KWH = 3_600_000_000


def month(number: int, entity: str, kwh: float, **details: float) -> Row:
    """Return a row of I4 of twelve towers in a month of 2026."""
    interval = (kwh * math.exp(-1.96 * U), kwh * math.exp(1.96 * U))
    causes = {f"{name}_kwh": value for name, value in details.items()}
    return of_month(
        number, entity, "I4", Figure(kwh, 12, counted_in="kWh", details=causes, interval=interval)
    )


def nights(number: int, entity: str, count: int) -> Row:
    """Return a row of I1 of twelve towers with their nights on."""
    figure = Figure(0.2, 12, 20, 100, details={"nights_on": count, "nights_are": "evenings"})
    return of_month(number, entity, "I1", figure)


def of_month(number: int, entity: str, indicator: str, figure: Figure, **more: Any) -> Row:
    """Return a row of an indicator; an entity that ends with * is of merged groups below its branch."""
    values: dict[str, Any] = {"population": Population.WORKSTATION, "device_class": "tower"} | more
    key = GroupKey(date(2026, number, 1), date(2026, number + 1, 1), "FR")._replace(
        entity=entity.rstrip("*"), autres=entity.endswith("*"), **values
    )
    return row(IndicatorMeta(indicator, "name", "kWh", "lower", "team"), key, figure, data="real")


def written(rows: list[Row], facts: FleetFacts = NO_FACTS, language: str = "fr") -> list[str]:
    """Return the sentences of the recommendations, with ordinary spaces."""
    writer = RecommendationWriter(words(language), TARGETS)
    return [plain(writer.sentence(one)) for one in rank(rows, facts, TARGETS, 12)]


def plain(text: str) -> str:
    """Replace spaces that do not break."""
    return text.replace("\u00a0", " ").replace("\u202f", " ")


def test_a_row_gives_its_figure_back():
    """The figure that a row was written from is read from it, digit for digit."""
    for figure in (
        Figure(
            0.1, 7, 1.0, 3.0, "kWh", {"closed_bands_kwh": 0.1, "suspects": 2}, (0.05, 0.2), incomplete=True
        ),
        Figure(None, 3, withheld=True, threshold=0.05),
        Figure(1 / 3, 9, 10, 30, details={"nights_are": "dates", "nights_on": 4}),
    ):
        given = of_month(4, COLLEGE, "I4", figure)
        assert figure_of({**given, "method_version": "0.6", "under_way_until": "2026-04-30"}) == figure
        assert key_of(given) == GroupKey(
            zone="FR", population=Population.WORKSTATION, entity=COLLEGE, device_class="tower"
        )


def test_months_are_added_and_the_largest_comes_first():
    """The energy of two months is one sum with one interval, whose errors add linearly; so are the nights."""
    rows = [
        month(3, COLLEGE, 10.0, closed_bands=9.0, open_idle=1.0),
        month(4, COLLEGE, 20.0, closed_bands=15.0, open_idle=5.0),
        nights(3, COLLEGE, 24),
        nights(4, COLLEGE, 36),
        month(4, WATER, 40.0, open_idle=40.0),
    ]
    first, second = rank(rows, NO_FACTS, TARGETS, 12)
    assert (first.key.entity, first.figure.value, first.reason, first.months) == (WATER, 40.0, "open_idle", 1)
    assert (second.figure.value, second.reason, second.months) == (30.0, "closed_bands", 2)
    assert second.figure.interval == pytest.approx((30 * math.exp(-1.96 * U), 30 * math.exp(1.96 * U)))
    assert second.nights == 60
    assert second.nights_each == Fraction(5)


def test_groups_of_different_months_compare_by_the_year():
    """30 kWh in one month come before 60 in three; a server of two months too.

    Machines of merged groups have rows of their own in other months: their energy is not multiplied.
    """
    rows = [
        *(month(number, WATER, 20.0, mixed=20.0) for number in (3, 4, 5)),
        month(4, COLLEGE, 30.0, mixed=30.0),
        month(5, "Métropole > Collèges*", 35.0, mixed=35.0),
    ]
    new = idle_server(1, 50)
    bands = {Band.OPEN: new.bands[Band.OPEN]._replace(known_milliseconds=61 * DAY)}
    found = rank(rows, replace(NO_FACTS, servers=(replace(new, bands=bands),)), TARGETS, 12)
    assert [(one.key.entity, one.months, round(one.yearly.value or 0.0)) for one in found] == [
        (COLLEGE, 1, 360),
        ("E1", 2, 300),
        (WATER, 3, 240),
        ("Métropole > Collèges", 1, 35),
    ]
    assert found[0].yearly.interval == pytest.approx((360 * math.exp(-1.96 * U), 360 * math.exp(1.96 * U)))


def test_sentences_say_where_what_how_much_and_how():
    """One sentence each, in two languages; its hour is the closing hour of its sites."""
    rows = [month(3, COLLEGE, 30.0, closed_bands=28.0, open_idle=2.0), nights(3, COLLEGE, 36)]
    sites = {(COLLEGE, Population.WORKSTATION): frozenset({"parc"})}
    facts = FleetFacts(sites, {("parc", Population.WORKSTATION): 18 * 60 + 30}, ())
    assert written(rows, facts) == [
        (
            "Collège du Parc : 12 PC tours, chacun en marche 3 nuits ; 360 kWh évitables par an "
            "(entre 296 kWh et 438 kWh), d’après 1 mois : extinction programmée à 18 h 30."
        )
    ]
    assert written(rows, language="en") == [
        (
            "Collège du Parc: 12 towers, each on for 3 nights; 360 kWh avoidable a year "
            "(between 296 kWh and 438 kWh), by 1 month: scheduled shutdown after closing."
        )
    ]


def test_sites_that_close_at_different_hours_have_none():
    """Two sites with one hour share it; with two hours the sentence says: after closing."""
    place = (COLLEGE, Population.WORKSTATION)
    both = {place: frozenset({"a", "b"})}
    hours = {("a", Population.WORKSTATION): 1_080, ("b", Population.WORKSTATION): 1_080}
    rows = [month(3, COLLEGE, 30.0, closed_bands=30.0)]
    assert "à 18 h" in written(rows, FleetFacts(both, hours, ()))[0]
    for differing in ({**hours, ("b", Population.WORKSTATION): 1_140}, {("a", place[1]): 1_080}):
        assert "après la fermeture" in written(rows, FleetFacts(both, differing, ()))[0]


def test_merged_groups_and_causes_that_are_not_told():
    """Merged groups are named by their branch; without a told cause the remedy is both."""
    rows = [month(3, "Métropole > Collèges*", 30.0, mixed=30.0), month(3, f"{AUTRES}*", 20.0, mixed=20.0)]
    first, second = written(rows)
    assert first.startswith("Petits groupes de « Collèges » : 12 PC tours")
    assert first.endswith("extinction programmée après la fermeture et mise en veille.")
    assert second.startswith("Petits groupes de plusieurs entités :")


def test_what_is_withheld_or_nothing_is_no_recommendation():
    """A withheld month is left out of the sum; no avoidable energy is no line."""
    hidden = of_month(3, COLLEGE, "I4", Figure(None, 12, withheld=True))
    (one,) = rank([hidden, month(4, COLLEGE, 5.0, mixed=5.0)], NO_FACTS, TARGETS, 12)
    assert (one.figure.value, one.months) == (5.0, 1)
    assert rank([hidden, month(4, COLLEGE, 0.0)], NO_FACTS, TARGETS, 12) == ()


def idle_server(number: int, kwh: int, **more: Any) -> Any:
    """Return a server that drew so much in a year, comatose unless `more` says otherwise."""
    time = 365 * DAY
    use = BandUse(
        on_idle_milliseconds=time,
        known_milliseconds=time,
        on_idle_millijoules=kwh * KWH,
        derived_milliseconds=time,
        derived_millijoules=kwh * KWH,
        derived_uncertainty_millijoules=kwh * KWH // 10,
    )
    values = {"bands": {Band.OPEN: use}, "loads": {180: load(180), 30: load(30), 90: load(90)}} | more
    return server(number, **values)


def test_single_servers_replace_the_row_of_servers():
    """Who may see servers has a line each: comatose ones with their energy, then verdicts without one."""
    together = of_month(
        3, "E1", "I4", Figure(900.0, 3, details={"comatose_servers_kwh": 900.0}, counted_in="kWh"),
        population=Population.SERVER, device_class="server",
    )  # fmt: skip
    judged = of_month(
        3, "E1", "I6", Figure(0.5, 4, 2, 4), population=Population.SERVER, device_class="server"
    )
    assert written([together, judged]) == [
        (
            "E1 : 2 serveurs comateux sur 4 ; 10,8 MWh évitables par an, d’après 1 mois : "
            "confirmer avec son responsable, puis arrêter."
        )
    ]
    busy = {180: load(180, cpu_buckets=(0,) * 12 + (180 * DAY,)), 30: load(30)}
    servers = (
        idle_server(1, 500),
        idle_server(2, 700),
        idle_server(3, 400, loads=busy),
        idle_server(4, 300, role=ServerRole.BACKUP),
        idle_server(5, 200, loads={}),
    )
    facts = replace(NO_FACTS, servers=servers)
    assert written([together, judged], facts) == [
        (
            "Serveur 000000000002 (E1) : sans service utile depuis six mois ; 700 kWh évitables par an "
            "(entre 575 kWh et 852 kWh), d’après 12 mois : confirmer avec son responsable, puis arrêter."
        ),
        (
            "Serveur 000000000001 (E1) : sans service utile depuis six mois ; 500 kWh évitables par an "
            "(entre 411 kWh et 608 kWh), d’après 12 mois : confirmer avec son responsable, puis arrêter."
        ),
        (
            "Serveur 000000000003 (E1) : sans service utile depuis 30 jours ; 400 kWh consommés par an, "
            "d’après 12 mois : confirmer avec son responsable."
        ),
    ]
    ranked = rank([together, judged], facts, TARGETS, 12)
    (short,) = gather_servers(ranked, facts, TARGETS)
    assert (short.figure.value, short.comatose, short.server) == (1_200.0, (2, 3), "")


def document(found: tuple[Recommendation, ...], actions: tuple[DeclaredAction, ...], language: str) -> Any:
    """Return the document of recommendations."""
    writer = RecommendationWriter(words(language), TARGETS)
    return recommendations_document(found, actions, writer, {"data": "real"})


def test_declared_actions_stand_beside_their_sites():
    """An action is beside the groups of its sites, and in its own table with its saving."""
    action = Action("ext", ("parc", "x"), date(2026, 2, 1), "extinction")
    figure = Figure(54.0, 20, details={"claimed": "yes"}, interval=(10.0, 98.0))
    sites = {(COLLEGE, Population.WORKSTATION): frozenset({"parc"})}
    facts = FleetFacts(sites, {}, (DeclaredAction(action, figure),))
    rows = [month(3, COLLEGE, 30.0, mixed=30.0), month(3, WATER, 20.0, mixed=20.0)]
    first, second = found = rank(rows, facts, TARGETS, 12)
    assert (first.actions, second.actions) == (facts.actions, ())
    made = document(found, facts.actions, "fr")
    assert [row.get("declared_actions") for row in made.tables["rows"]] == ["ext", None]
    (declared,) = made.tables["declared"]
    assert (declared["saving_kwh"], declared["saving_lo95_kwh"], declared["claimed"]) == (54.0, 10.0, "yes")
    writer = RecommendationWriter(words("fr"), TARGETS)
    assert "54,0 kWh" not in plain(writer.declared(first.actions[0], is_admin=True)), "it is of two sites"
    assert "dans 2 sites" in plain(writer.declared(first.actions[0], is_admin=True))
    assert {*COLUMNS} <= {*read_columns()}
    assert all(row.keys() <= {*COLUMNS} for table in made.tables.values() for row in table)


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        (
            Figure(54.0, 9, details={"claimed": "yes"}, interval=(10.0, 98.0)),
            "54,0 kWh économisés, entre 10,0",
        ),
        (
            Figure(-5.0, 9, details={"claimed": "no"}, interval=(-9.0, 1.0)),
            "−5,00 kWh, entre −9,00 kWh et 1,00",
        ),
        (Figure(5.0, 9, details={"claimed": "no"}), "5,00 kWh, pas démontré"),
        (Figure(None, 9, withheld=True), "non diffusé"),
        (None, "pas encore mesurable"),
    ],
)
def test_a_saving_says_whether_it_is_demonstrated(figure: Figure | None, said: str):
    """A saving is claimed only with all of its interval above zero; without a value the reason is given."""
    one = DeclaredAction(Action("a", ("s",), date(2026, 1, 1), "what"), figure)
    writer = RecommendationWriter(words("fr"), TARGETS)
    assert plain(writer.saving(one, is_admin=True)).startswith(said)
    assert "compte d’administrateur" in writer.saving(one, is_admin=False)
