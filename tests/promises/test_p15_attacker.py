# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""P15: the numbers that one role can read together over months isolate k machines or none.
Each role's numbers from the API and from /metrics over time become one linear system
(explaining.py). Every real combination of it is searched (isolating.py). The stories are the leaks that an
attacker found. Random fleets have machines that come late, move, retire, are forgotten and are derived again
between the looks. A closed year beside its months is measured here too, and not promised.

Limits of the system: sums of whole cells (entity × class) are an assumption, which the values confirm;
amounts that only rounding reveals are left out, and so are half-widths of ratios, which are squares. A power
plan is an unknown of each month. Each answer to an administrator is checked alone, not combined.
"""

from __future__ import annotations

import html
import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import pytest

from tests.promises.support import telework_days
from tests.promises.support.closing_beside import FILE, ROWS, TOTALS, closed_year, published_year
from tests.promises.support.explaining import Explained
from tests.promises.support.fleet_answers import contents, unexplained_answers, unexplained_rows
from tests.promises.support.hours import NIGHT, OFF, OFFICE
from tests.promises.support.indicator_answers import rows_without_counts, unexplained_indicators
from tests.promises.support.indicator_equations import causes_at, tell_indicators
from tests.promises.support.isolating import Column, Equation, Isolated, dominated, smallest
from tests.promises.support.read_together import Key, Row, Watched, What
from tests.promises.support.silent_month import LAPTOPS, PILOT, PLACES, Places, compared
from tests.promises.support.stories import (
    ATTACKED,
    AUG,
    BUSY,
    IN_OCTOBER,
    JUL,
    OCT,
    READERS,
    SEP,
    STORIES,
    YEARS,
    entities,
    late_install,
)
from tests.support.reading import DOOR_TOKEN, Reading
from veilleuse.collector.account import group_sums
from veilleuse.collector.disclosure.parts import ScreenRule
from veilleuse.collector.documents.text import Words, words
from veilleuse.collector.factors.book import book_of
from veilleuse.collector.model.accounts import Role
from veilleuse.collector.model.query import AUTRES
from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.release import tables as release_tables
from veilleuse.wire.units import MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

K: Final = 10
QUESTIONS: Final = (
    "population",
    "population,month",
    "entity,population",
    "entity",
    "perimeter",
    "device_class",
    "entity,device_class,month",
    "month",
)
PAGES: Final = ("/?", "/sobriete?", "/bilan?by=entity&", "/bilan?by=class&", "/bilan?by=month&")
"""Pages of every reader with figures, whose answers are to QUESTIONS."""
ROLES: Final = ("door", "reader", "reader of A", "reader of B", "reader of A > 1")


def solved(watched: Watched) -> Explained:
    """Return all published numbers as equations."""
    book = book_of()
    grams = {zone: Fraction(book.choose(zone, 2026).factor.total_kgco2e_per_kwh) for zone in ("FR", "DE")}
    causes = [causes_at(months) for months in watched.fleets]
    found = Explained(watched.versions, watched.months, grams, causes, watched.publications.released)
    found.add([*rows_without_counts(watched), *contents(watched)])
    tell_indicators(watched, found)
    found.unexplained += unexplained_indicators(watched)
    found.unexplained += unexplained_answers(watched, watched.rows)
    assert [one for months in watched.fleets for one in unexplained_rows(months)] == []
    return found


def of(equations: Iterable[Equation], role: str, outlets: Sequence[str]) -> list[Equation]:
    """Return the equations that a role gets at some outlets."""
    return [one for one in equations if role in one.row.roles and one.row.outlet in outlets]


def weakest(equations: Sequence[Equation]) -> Isolated | None:
    """Return the fewest isolated machines, or the one machine that is almost all of a sum."""
    alone = dominated(equations)
    if alone:
        return Isolated(frozenset({0}), tuple(alone[0][0].values))
    return smallest(equations, K) or smallest((one.at_rest_known() for one in equations), K)


def systems(equations: Sequence[Equation]) -> dict[tuple[str, str], list[Equation]]:
    """Return (role, outlets) → equations read together; for an administrator, those of each answer."""
    found = {}
    for role in ROLES:
        for outlets in (("api",), ("metrics",), ("api", "metrics")):
            found[role, " + ".join(outlets)] = of(equations, role, outlets)
    for one in equations:
        if "admin" in one.row.roles:
            found.setdefault(("admin", f"{one.row.answer}, look {one.row.version}"), []).append(one)
    return {key: told for key, told in found.items() if told}


def explained(found: Explained) -> None:
    """Assert that every number is explained."""
    assert not found.unexplained, "\n".join(
        f"{row.answer} {row.table} {name} = {value}" for row, name, value in found.unexplained
    )


def leaks(found: Explained) -> dict[tuple[str, str], Isolated]:
    """Return (role, outlets) → fewer than k machines that it isolates there."""
    judged = {key: weakest(told) for key, told in systems(found.equations).items()}
    return {key: isolated for key, isolated in judged.items() if isolated is not None}


@pytest.mark.promise("P15")
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_leak_that_was_found_stays_closed(
    story: Callable[[Watched], object], tmp_path: Path, figure: Callable[[str], None]
) -> None:
    """No role isolates fewer than k machines in a story, and both outlets publish numbers all the same."""
    with Watched(tmp_path, 1, READERS.get(story, ())) as data:
        story(data)
        found = solved(data)
    explained(found)
    assert leaks(found) == {}
    assert {one.row.outlet for one in found.equations} == {"api", "metrics"}
    figure(f"0 of {len(STORIES)} leaks that were found earlier still open")


@pytest.mark.promise("P15")
@pytest.mark.parametrize(("story", "case"), YEARS.items(), ids=[one.__name__ for one in YEARS])
def test_a_closed_year_beside_its_months_is_measured(
    story: Callable[[Watched], object], case: str, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    """Figures of a year and of its months are two partitions of one time: not promised. docs/closing.md."""
    with Watched(tmp_path, 1) as data:
        story(data)
        found = solved(data)
        closed = closed_year(data, found, date(2027, 1, 5))
    explained(found)
    months = of(found.equations, "reader", ("api",))
    assert smallest(months, K) is None
    cells = []
    for outlet in (FILE, ROWS, TOTALS):
        year = of(closed, "auditor", (outlet,))
        alone, beside = (fewest(smallest(told, K)) for told in (year, year + months))
        cells.append(f"{alone} by the {outlet}, {beside} with the months of the API")
    figure(f"fewest machines that a closed year isolates ({case}): {', '.join(cells)}")


@pytest.mark.promise("P15")
def test_a_published_year_is_the_sum_of_its_months(tmp_path: Path, figure: Callable[[str], None]) -> None:
    """Every number of `--public` follows from the released months: it tells nothing beside them."""
    with Watched(tmp_path, 1) as data:
        late_install(data)
        rows = published_year(data, date(2027, 1, 5))
        data.rows += rows
        found = solved(data)
    explained(found)
    assert leaks(found) == {}
    numbers = sum(len(row.numbers) for row in rows)
    assert numbers
    figure(f"{numbers} numbers of a published year, all sums of its released months")


def fewest(isolated: Isolated | None) -> str:
    """Return the number of isolated machines, as text."""
    return f"≥ {K}" if isolated is None else str(len(isolated.machines))


def drawn(data: Watched, entities: Sequence[str], months: Sequence[date]) -> None:
    """Draw machines of several entities, classes and zones over months, and classroom PCs of one entity.
    Between the looks some come late, move, retire, are forgotten, or report their facts again."""
    chance = data.chance
    hosts: list[HostId] = []
    for _ in range(chance.randint(60, 90)):
        entity = chance.choice(entities)
        site = chance.choice(
            ("lyon", "lyon", "nancy", "köln") if entity == entities[-1] else ("lyon", "nancy")
        )
        hosts += data.machines(1, entity, chance.choice(CLASSES), site=site)
    for _ in range(chance.randint(18, 30)):
        hosts += data.machines(1, entities[0], chance.choice(CLASSES), population=Population.CLASSROOM)
    usual = {host: chance.choice((OFF, OFFICE, OFFICE, NIGHT, BUSY)) for host in hosts}
    unmetered = {host for host in hosts if chance.random() < 0.5}
    late: list[tuple[date, HostId]] = []
    for number, month in enumerate(months):
        there = [host for host in hosts if chance.random() > 0.1]
        slow = set(chance.sample(there, 2))
        data.month(month, [(host, usual[host]) for host in there if host not in slow], unmetered=unmetered)
        data.day(month.replace(day=20), [(host, {State.ON_IDLE: 5}) for host in chance.sample(there, 3)])
        data.look(month.replace(day=14))
        data.look((month + timedelta(days=31)).replace(day=5), months[: number + 1])
        for former, host in late:
            data.month(former, [(host, usual[host])], unmetered=unmetered)
        late = [(month, host) for host in slow]
        moved, retired, learned, forgotten = chance.sample(sorted(set(hosts) - slow), 4)
        data.move(moved, chance.choice(entities))
        data.retire(retired)
        data.say_again(learned, chance.choice(CLASSES))
        data.forget(forgotten)
        hosts.remove(forgotten)
        hosts.remove(retired)
    data.look((months[-1] + timedelta(days=31)).replace(day=15), months)


CLASSES: Final = (DeviceClass.LAPTOP, DeviceClass.LAPTOP, DeviceClass.TOWER)


def seeds(*numbers: int) -> pytest.MarkDecorator:
    """Return a mark with one fleet per seed."""
    return pytest.mark.parametrize("seed", numbers)


def hold_together(
    folder: Path, seed: int, entities: Sequence[str], months: Sequence[date], figure: Callable[[str], None]
) -> None:
    """Check all that is read of a random fleet."""
    with Watched(folder, seed, ("A", "B")) as data:
        drawn(data, entities, months)
        found = solved(data)
    explained(found)
    assert leaks(found) == {}
    figure(f"0 combinations of fewer than {K} machines over {len(months)} months: {table(found)}")


def table(found: Explained) -> str:
    """Return how many numbers each role reads in all outlets together."""
    read = systems(found.equations)
    cells = [
        f"{len(told):,} numbers for a {role.replace('door', 'holder of the HTTP token')}"
        for (role, outlets), told in read.items()
        if outlets == "api + metrics"
    ]
    cells.append(f"{sum(role == 'admin' for role, _ in read)} answers for an administrator, each alone")
    return ", ".join(cells)


@pytest.mark.promise("P15")
@seeds(1)
def test_what_is_read_together_over_months(seed: int, tmp_path: Path, figure: Callable[[str], None]) -> None:
    """Over two months, four looks and all roles, every combination isolates k machines or none."""
    hold_together(tmp_path, seed, ("A", "B"), (SEP, OCT), figure)


@pytest.mark.long
@pytest.mark.promise("P15")
@seeds(*range(2, 12))
def test_what_is_read_together_over_a_season(
    seed: int, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    """Over four months, ten fleets hold the same promise."""
    hold_together(tmp_path, seed, ("A", "A > 1", "B"), (JUL, AUG, SEP, OCT), figure)


@pytest.mark.promise("P15")
@pytest.mark.parametrize(("few", "hours", "usual_hours"), [(1, 20, 24), (2, 22, 23)])
def test_the_silence_of_few_is_in_no_number(few: int, hours: int, usual_hours: int, tmp_path: Path) -> None:
    """No published number contains the unknown time of one or two machines of twelve.

    Three numbers revealed the 120 h of one: enrolled less observed time, machines × days of the month less
    observed time, and energy at the other machines' watts. These are no sums of the records, so that the
    system does not contain them. Where all lack an hour a day, they revealed two: twelve were silent.
    """
    with Watched(tmp_path, 1) as data:
        hosts, others = data.machines(12), data.machines(12, "B")
        data.whole_days(SEP, {host: hours if host in hosts[:few] else usual_hours for host in hosts + others})
        data.look(IN_OCTOBER, [SEP])
        rows = [row.numbers for row in data.rows]
    days = [(row["n"], row["machine_days_observed"]) for row in rows if "machine_days_observed" in row]
    assert {known / n for n, known in days} == {30 * usual_hours / 24}
    energies = {(row["n"], row["energy_millijoules"]) for row in rows if "energy_millijoules" in row}
    # The fleet's figure is for whole days.
    assert {energy / n for n, energy in energies} == {
        0.4 * 30 * each * 3_600_000 for each in (usual_hours, 24)
    }
    assert not any("enrolled" in name for row in rows for name in row)


@pytest.mark.promise("P15")
@pytest.mark.parametrize(
    ("places", "silent", "days", "listed", "odd"),
    [
        (PLACES, ("alone", "class", "zone"), 30, False, ""),
        (PILOT, ("alone",), 30, False, ""),
        (LAPTOPS, ("twelve",), 30, False, "twelve"),
        pytest.param(PLACES, ("twelve", "small", "population"), 30, False, "", marks=pytest.mark.long),
        pytest.param(PLACES, ("alone", "small", "class"), 30, True, "", marks=pytest.mark.long),
        pytest.param(PLACES, ("alone", "twelve", "class"), 12, False, "", marks=pytest.mark.long),
        pytest.param(PLACES, ("small", "branch"), 12, True, "", marks=pytest.mark.long),
        pytest.param(PLACES, ("alone",), 30, True, "alone", marks=pytest.mark.long),
    ],
    ids=("alone", "pilot", "odd", "places", "listed", "partly", "partly and listed", "odd and alone"),
)
def test_the_silent_month_of_one_is_at_no_outlet(
    places: Places, silent: Sequence[str], days: int, listed: bool, odd: str, tmp_path: Path
) -> None:
    """Two fleets, equal but for one PC's silent month, differ in sums over k machines or more alone.

    Rows of an entity with fewer than k PCs have no n, coverage or machine-days. n is never above n_fleet."""
    found = compared(tmp_path, places, silent, days=days, listed=listed, odd=odd)
    assert not found, "\n".join([str(len(found)), *found[:20]])


@pytest.mark.promise("P15")
def test_the_pages_tell_nothing_more_than_the_api(tmp_path: Path) -> None:
    """Each energy, emission and share on a page is of the API's answers to the same reader, or to that of a
    branch: a row rounded, a sum of rows by entity, or their share of the whole."""
    year = "from=2026-01-01&to=2027-01-01"
    asked = [(kind, group) for kind in ("emissions", "indicators") for group in QUESTIONS]
    with Watched(tmp_path, 1) as data:
        entities(data)
        with Reading(data.data, door_token=DOOR_TOKEN, clock=lambda: data.now[0]) as reading:
            token = reading.account("reader of pages")
            answers = [
                reading.get(f"/api/v1/{kind}?{year}&group_by={group}", token).json() for kind, group in asked
            ]
            entities_told = (str(row.get("entity", "")) for answer in answers for row in answer["rows"])
            for branch in sorted({name.partition(" > ")[0] for name in entities_told} - {"", AUTRES}):
                own = reading.account(f"reader of {branch}", Role.READER, branch)
                question = f"/api/v1/emissions?{year}&group_by=device_class"
                answers.append(reading.get(question, own).json())
            pages = {path: reading.get(f"{path}lang=en", token).text for path in PAGES}
    w, texts = words("en"), set[str]()
    for answer in answers:
        texts |= told_in(answer, w)
    for path, page in pages.items():
        main = re.sub(
            r'<svg.*?</svg>|<p class="quiet">.*?</p>', "", page.partition("<main")[2], flags=re.DOTALL
        )
        text = html.unescape(re.sub(r"<[^>]+>", " ", main))
        shown = set(re.findall(r"[\d,.]+\s?(?:[kM]?Wh\b|[mk]?gCO₂e(?! per)|tCO₂e|%)", text))
        assert shown - texts <= {"95%"}, path
        assert len(shown & texts) >= 6, path


def told_in(answer: Mapping[str, Any], w: Words) -> set[str]:
    """Return the numbers of an answer, of its branches and of their merged groups, and shares, in words."""
    rows = [*answer["rows"], *answer.get("totals", ())]
    whole = sum(row["kgco2e_total"] for row in answer.get("totals", ()))
    sums: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for number, row in enumerate(rows):
        branch, indicator = str(row.get("entity", "")).partition(" > ")[0], str(row.get("indicator", ""))
        level, month = str(row["level"]), str(row.get("month", ""))
        for name, value in row.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                for group in ((str(number),), (branch,), (branch, level), (month, level)):
                    sums[name, indicator, *group] += value
    found = set[str]()
    for (name, indicator, *_), value in sums.items():
        found |= in_words(name, value, indicator, w)
        if name == "kgco2e_total":
            found.add(w.percent(value / whole))
    return found


def in_words(name: str, value: float, indicator: str, w: Words) -> set[str]:
    """Return what a page may write of a number: avoidable energy also by year, of one month or of nine."""
    if name.startswith("kgco2e"):
        return {w.grams(Fraction(repr(float(value))) * 1000)}
    if name.startswith("kwh"):
        return {w.energy(round(value * MILLIJOULES_PER_KWH))}
    if indicator == "I4" and name.startswith("value"):
        return {w.energy(round(value * times * MILLIJOULES_PER_KWH)) for times in (1, 12, 12 / 9)}
    return {w.percent(value)} if 0 <= value <= 1 else set()


@pytest.mark.promise("P15")
def test_nobody_s_telework_days_are_a_difference(tmp_path: Path, figure: Callable[[str], None]) -> None:
    """Eleven people are declared, ten of them also as a branch, twice: each outlet says the same whatever the
    eleventh does."""
    told = telework_days.different(tmp_path)
    assert set(told.values()) == {1}, told
    figure(f"0 of {len(told)} answers depend on the telework days of one person beside ten of a branch")


def test_the_attacker_finds_a_month_that_is_told_twice(tmp_path: Path) -> None:
    """The search finds the machine that is added to a month between two publications of it."""
    with Watched(tmp_path, 1) as data:
        hosts = data.machines(14)
        data.month(SEP, [(host, NIGHT) for host in hosts[:13]])
        data.look(IN_OCTOBER, [SEP])
        data.month(SEP, [(hosts[13], NIGHT)])
        data.take_back(SEP)
        data.look(IN_OCTOBER, [SEP])
        found = solved(data)
    explained(found)
    isolated = smallest(of(found.equations, "reader", ("api",)), K)
    assert isolated is not None
    assert isolated.machines == {hosts[13]}


@pytest.mark.parametrize("story", ATTACKED, ids=lambda story: story.__name__)
def test_the_attacker_takes_out_watts_that_everybody_knows(
    story: Callable[[Watched], list[HostId]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machines of a story are isolated where the product does not know the public watts."""
    for module in (group_sums, release_tables):
        monkeypatch.setattr(module, "rates_of", lambda _: ())
    monkeypatch.setattr(ScreenRule, "allows", lambda *_: True)
    with Watched(tmp_path, 1) as data:
        isolated = story(data)
        found = solved(data)
    explained(found)
    smallest_found = smallest(of(found.equations, "reader", ("api",)), K)
    assert smallest_found is not None
    assert smallest_found.machines == set(isolated)


def test_the_attacker_solves_more_than_pairs() -> None:
    """Only all four of a + b + c, a + d, b + d and c + 2d isolate d, of four groups of five."""
    groups = [range(5 * number, 5 * number + 5) for number in range(4)]
    weights = ((1, 1, 1, 0), (1, 0, 0, 1), (0, 1, 0, 1), (0, 0, 1, 2))
    equations = [sum_of(groups, row) for row in weights]
    found = smallest(equations, K)
    assert found is not None
    assert len(found.machines) == 5
    assert all(smallest(pair, K) is None for pair in itertools.combinations(equations, 2))
    assert smallest(equations, 5) is None


def sum_of(groups: Sequence[range], weights: Sequence[int]) -> Equation:
    """Return the equation of a sum of the groups' machines, each with its group's weight."""
    row = Row(0, "api", "", frozenset(), "", {}, {})
    what = What("ms", Band.OPEN, State.ON_IDLE)
    coefficients = {
        Column(Key(host, Grain.DAY, 0, what), 0): weight
        for group, weight in zip(groups, weights, strict=True)
        for host in group
        if weight
    }
    return Equation(row, "", coefficients, coefficients, dict.fromkeys(coefficients, 1))
