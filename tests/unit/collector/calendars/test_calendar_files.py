# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Calendar files: their declarations, the texts of refusals, and the round trip of a written file."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilleuse.collector.calendars.files import read_calendar, write_calendar
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.calendars import Closure, Declaration, SchoolZone
from veilleuse.wire.bands import CalendarError, OpenSpan

FORMER = Declaration(tuple(OpenSpan(day, 480, 1_080) for day in range(1, 6)), school_zone=SchoolZone.B)
WHOLE = """
[open]
monday = ["08:00-12:00", "13:00-18:00"]
friday = ["20:00-04:00"]

[public_holidays]
country = "FR"
alsace_moselle = true

[school_holidays]
zone = "A"

[updates]
sunday = ["22:00-06:00"]
tuesday = ["22:00-00:00"]

[[closure]]
first = 2026-12-28
last = "2027-01-01"
name = "Fermeture"

[[closure]]
first = 2026-05-15
"""


def test_a_whole_calendar():
    """A span over midnight becomes two, and "00:00" ends a day as "24:00" does.
    Closures are sorted, and nothing of the former calendar remains."""
    assert read_calendar(WHOLE, "lyon.TOML", FORMER) == Declaration(
        (OpenSpan(1, 480, 720), OpenSpan(1, 780, 1_080), OpenSpan(5, 1_200, 1_440), OpenSpan(6, 0, 240)),
        (OpenSpan(1, 0, 360), OpenSpan(2, 1_320, 1_440), OpenSpan(7, 1_320, 1_440)),
        (
            Closure(date(2026, 5, 15), date(2026, 5, 15)),
            Closure(date(2026, 12, 28), date(2027, 1, 1), "Fermeture"),
        ),
        public_holidays=True,
        alsace_moselle=True,
        school_zone=SchoolZone.A,
    )


def test_what_is_left_out_is_none():
    """Missing tables declare nothing; an empty [open] means never open, and must be written."""
    assert read_calendar("[open]", "x.toml", FORMER) == Declaration(())


@pytest.mark.parametrize(
    "text",
    ["first,last,name\n2026-12-28,2027-01-01,Fermeture\n\n2026-05-15\n", "\ufeffDate;Name\n2026-05-15\n"],
)
def test_a_csv_replaces_the_closures_alone(text):
    """Comma and semicolon separate, `date` means `first`, and the rest of the calendar stays as declared."""
    found = read_calendar(text, "closures.csv", FORMER)
    assert found.open_spans == FORMER.open_spans
    assert found.school_zone is SchoolZone.B
    assert found.closures[0] == Closure(date(2026, 5, 15), date(2026, 5, 15))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.ics", "", "a.ics: it is neither .toml (a whole calendar) nor .csv (closures)"),
        ("a.toml", "[open", "a.toml: no TOML:"),
        ("a.toml", "", "no table [open]: write it, empty when the site never opens"),
        ("a.toml", "[opne]", "unknown table 'opne': did you mean 'open'?"),
        ("a.toml", "[open]\n[xyz]", "unknown table 'xyz': use open, updates"),
        ("a.toml", "open = 3", "'open' must be a table: write [open]"),
        ("a.toml", '[open]\nmondey = ["08:00-18:00"]', "[open]: unknown key 'mondey': did you mean 'monday'?"),
        ("a.toml", '[open]\nmonday = "08:00-18:00"', "[open] monday = '08:00-18:00': write a list such as"),
        ("a.toml", '[open]\nmonday = ["8h-18h"]', "[open] monday: '8h-18h' is no span: write HH:MM-HH:MM"),
        ("a.toml", '[open]\nmonday = ["08:61-18:00"]', "'08:61-18:00' is no span"),
        ("a.toml", '[open]\nmonday = ["08:00-25:00"]', "'08:00-25:00' is no span"),
        ("a.toml", '[open]\nmonday = ["08:00-08:00"]', "'08:00-08:00' is no span"),
        ("a.toml", '[open]\nmonday = ["08:00-10:59"]', "[open] monday 08:00-10:59 is open for 179 minutes only"),
        ("a.toml", '[open]\nmonday = ["22:00-06:00"]', "[open] monday 22:00-24:00 is open for 120 minutes only"),
        ("a.toml", '[open]\nmonday = ["08:00-12:00", "11:00-15:00"]', "monday 08:00-12:00 and monday 11:00-15:00 overlap"),
        ("a.toml", '[open]\nmonday = ["00:00-22:00"]', "[open]: weekday 1 leaves 120 minutes"),
        ("a.toml", '[open]\n[updates]\nmonday = ["01:00-02:00", "01:30-03:00"]', "[updates] monday 01:00-02:00 and"),
        ("a.toml", '[open]\n[public_holidays]\ncountry = "DE"', "[public_holidays] country = 'DE': write one of FR"),
        ("a.toml", '[open]\n[public_holidays]\nalsace = true', "[public_holidays]: unknown key 'alsace': did you mean 'alsace_moselle'?"),
        ("a.toml", '[open]\n[public_holidays]\nalsace_moselle = "yes"', "write true or false"),
        ("a.toml", "[open]\n[public_holidays]\nalsace_moselle = true", 'add country = "FR"'),
        ("a.toml", '[open]\n[school_holidays]\nzone = "D"', "[school_holidays] zone = 'D': write one of A, B, C"),
        ("a.toml", "[open]\n[school_holidays]\nzone = []", "[school_holidays] zone = []: write one of A, B, C"),
        ("a.toml", "closure = 3\n[open]", "'closure' must be tables: write [[closure]]"),
        ("a.toml", "[open]\n[[closure]]", "[[closure]] number 1: no key 'first': write first = 2026-12-24"),
        ("a.toml", "[open]\n[[closure]]\nfirst = 2026-12-24\nuntil = 2026-12-25", "[[closure]] number 1: unknown key 'until'"),
        ("a.toml", "[open]\n[[closure]]\nfirst = 2026-12-24T00:00:00", "[[closure]] number 1, first: '2026-12-24 00:00:00' is no date"),
        ("a.toml", "[open]\n[[closure]]\nfirst = 2026-12-24\nlast = 2026-12-23", "last: 2026-12-23 is before 2026-12-24: exchange them"),
        ("a.toml", '[open]\n[[closure]]\nfirst = 2026-12-24\nname = "a\\tb"', "name: write a printable text of at most 64"),
        ("a.toml", "[open]\n[[closure]]\nfirst = 2026-01-01\nlast = 2028-12-31", "it closes more than 1000 days"),
        ("a.csv", "", "line 1: no column 'first': write first,last,name"),
        ("a.csv", "first,lsat\n", "line 1: unknown column 'lsat': did you mean 'last'?"),
        ("a.csv", "first\n24/12/2026\n", "line 2, first: '24/12/2026' is no date: write YYYY-MM-DD"),
        ("a.csv", "first\n2026-12-24,2\n", "line 2 has more cells than columns"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place_and_the_remedy(name, text, words):
    """The error names file, table and key, and what to write."""
    with pytest.raises(UsageError) as refused:
        read_calendar(text, name, FORMER)
    assert words in str(refused.value)
    assert str(refused.value).startswith(f"{name}: ")


spans = st.builds(
    lambda found: tuple(OpenSpan(day, start, end) for day, (start, end) in sorted(found.items())),
    st.dictionaries(st.integers(1, 7), st.sampled_from([(0, 1_440), (180, 360), (7, 1_260), (1_260, 1_440)])),
)
dates = st.dates(date(2020, 1, 1), date(2030, 1, 1))
closures = st.builds(
    lambda first, days, name: Closure(first, first + timedelta(days=days), name.strip()),
    dates,
    st.integers(0, 40),
    st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters=["\x7f"]), max_size=64),
)


@given(
    spans,
    spans,
    st.lists(closures, max_size=5),
    st.booleans(),
    st.booleans(),
    st.sampled_from([*SchoolZone, None]),
)
def test_what_is_exported_is_read_back(opened, updates, closed, public, moselle, zone):
    """`import` reads what `export` writes, and the store reads its own text."""
    ordered = tuple(sorted(closed, key=lambda one: (one.first, one.last, one.name)))
    declared = Declaration(opened, updates, ordered, public, public and moselle, zone)
    assert read_calendar(write_calendar(declared, "Lyon"), "x.toml", FORMER) == declared
    assert Declaration.from_json(declared.to_json()) == declared


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"open_spans":[[1]]}'])
def test_a_damaged_declaration_is_said_to_be_one(text):
    """A damaged text raises CalendarError and no other exception."""
    with pytest.raises(CalendarError):
        Declaration.from_json(text)
