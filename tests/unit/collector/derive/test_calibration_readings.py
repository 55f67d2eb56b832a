# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Files of meter readings: accepted forms, and refusals with row and column."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilleuse.collector.derive.calibration import readings
from veilleuse.collector.derive.calibration.readings import Reading, parse_readings
from veilleuse.collector.errors import UsageError

PARIS = ZoneInfo("Europe/Paris")


def at(text: str) -> int:
    """Return Unix milliseconds."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


NOW = at("2026-06-01T00:00:00Z")
HEAD = "unit,time,watts\n"


def parse(text: str | bytes, zone: ZoneInfo | None = None) -> dict[str, list[Reading]]:
    """Return the readings of a file by unit."""
    content = text.encode() if isinstance(text, str) else text
    return parse_readings(content, zone=zone, now_unix_milliseconds=NOW)


def test_moments_are_read():
    """Units are separate, in order of time, with their rows. Columns may have any order and case.
    Blank lines do not count."""
    found = parse(
        "State,Watts,unit,TIME\n"
        "on,42.5,lab-1,2026-03-02T10:00:10Z\n\n"
        ",40,lab-2,2026-03-02T11:00:00+01:00\n"
        "asleep,1.25,lab-1,2026-03-02T10:00:00Z\n"
    )
    ten = at("2026-03-02T10:00:00Z")
    assert found == {
        "lab-1": [
            Reading(ten, ten, 1250, "asleep", 5),
            Reading(ten + 10_000, ten + 10_000, 42_500, "on", 2),
        ],
        "lab-2": [Reading(ten, ten, 40_000, "", 4)],
    }


def test_a_french_spreadsheet_is_read():
    """Semicolons, decimal commas, a byte order mark, energy over stretches of time, and civil times with
    --time-zone are read."""
    text = "\ufeffunit;start;end;watt_hours\r\nposte 7;2026-03-02 10:00;2026-03-02 10:15;12,5\r\n"
    start = at("2026-03-02T09:00:00Z")
    assert parse(text, PARIS) == {"poste 7": [Reading(start, start + 900_000, 50_000, "", 2)]}


def test_counters_are_subtracted():
    """Notes of a plug's counter, in any order, give the energy between them."""
    found = parse(
        "unit;time;counter_kwh\n"
        "3;2026-03-09 08:00;12,42\n"
        "3;2026-03-02 08:00;10,74\n"
        "4;2026-03-02 08:05;0,5\n"
        "3;2026-03-16 08:00;12,42\n",
        PARIS,
    )
    first, second, third = (at(f"2026-03-{day:02}T07:00:00Z") for day in (2, 9, 16))
    assert found == {"3": [Reading(first, second, 10_000, "", 2), Reading(second, third, 0, "", 5)]}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "row 1: it needs the column unit"),
        ("unit,time,watts\n", "it has no readings"),
        ("unit,time,power\nx,2026-03-02T10:00Z,3\n", "row 1, column 3: 'power' is no column"),
        ("unit,time,wats\n", "did you mean 'watts'?"),
        ("unit,time,watts,watts\n", "row 1, column 4: 'watts' stands there twice"),
        ("time,watts\n", "row 1: it needs the column unit"),
        ("unit,start,watts\n", "either time, or start and end"),
        ("unit,time,start,end,watts\n", "either time, or start and end"),
        ("unit,time\n", "one of the columns watts, watt_hours, counter_kwh"),
        ("unit,start,end,counter_kwh\n", "counter_kwh goes with the columns unit and time only"),
        ("unit,time,counter_kwh,state\n", "counter_kwh goes with the columns unit and time only"),
        ("unit,time,counter_kwh\nx,2026-03-02T10:00Z,3\n", "a counter gives one from its second row on"),
        (
            "unit,time,counter_kwh\nx,2026-03-02T10:00Z,3\nx,2026-03-09T10:00Z,2.9\n",
            "row 3, column counter_kwh: the counter of unit 'x' is lower than in row 2",
        ),
        (
            "unit,time,counter_kwh\nx,2026-03-02T10:00Z,3\nx,2026-03-02T11:00Z,9\n",
            "the counter of unit 'x' makes 6,000 W, more than one machine draws",
        ),
        ("unit,time,watt_hours\n", "give start and end instead of time"),
        (HEAD + "x,2026-03-02T10:00Z,NaN\n", "row 2, column watts: 'NaN' is no plain number"),
        (HEAD + "x,2026-03-02T10:00Z,inf\n", "row 2, column watts: 'inf' is no plain number"),
        (HEAD + "x,2026-03-02T10:00Z,-3\n", "row 2, column watts: '-3' is negative"),
        (HEAD + "x,2026-03-02T10:00Z,1e3\n", "row 2, column watts: '1e3' is no plain number"),
        (HEAD + "x,2026-03-02T10:00Z,\n", "row 2, column watts: '' is no plain number"),
        (HEAD + "x,2026-03-02T10:00Z,٣\n", "row 2, column watts: '٣' is no plain number"),
        (HEAD + "x,2026-03-02T10:00Z,42500\n", "makes 42,500 W, more than one machine draws (5,000 W)"),
        (HEAD + 'x,2026-03-02T10:00Z,"4,2"\n', "row 2, column watts: '4,2' is no plain number"),
        (HEAD + "x,2026-03-02T10:00Z\n", "row 2: 2 columns instead of 3"),
        (HEAD + "x,2026-03-02T10:00Z,3,4\n", "row 2: 4 columns instead of 3"),
        (HEAD + "x,yesterday,3\n", "row 2, column time: 'yesterday' is no time such as"),
        (HEAD + "x,2026-03-02T10:00,3\n", "has no offset: write +01:00 or Z behind it, or give --time-zone"),
        (HEAD + "x,1970-01-01T00:00Z,3\n", "is not between the year 2000 and now"),
        (HEAD + "x,2999-01-01T00:00Z,3\n", "is not between the year 2000 and now"),
        (HEAD + "x,9999-12-31T23:59:59-23:59,3\n", "is not between the year 2000 and now"),
        (HEAD + "x,0001-01-01T00:00:00+23:59,3\n", "is not between the year 2000 and now"),
        (HEAD + ",2026-03-02T10:00Z,3\n", "row 2, column unit: use 1 to 128 printable characters"),
        (HEAD + "a\tb,2026-03-02T10:00Z,3\n", "row 2, column unit: use 1 to 128"),
        (HEAD + "x" * 129 + ",2026-03-02T10:00Z,3\n", "row 2, column unit: use 1 to 128"),
        (
            HEAD + "x,2026-03-02T10:00Z,3\ny,2026-03-02T10:00Z,3\nx,2026-03-02T11:00+01:00,4\n",
            "row 4: unit 'x' has this time already in row 2",
        ),
        ("unit,time,watts,state\nx,2026-03-02T10:00Z,3,dozing\n", "row 2, column state: 'dozing' is not on"),
        (
            "unit,start,end,watts\nx,2026-03-02T10:00Z,2026-03-02T10:00Z,3\n",
            "row 2, column end: it is not within the day after the start",
        ),
        (
            "unit,start,end,watts\nx,2026-03-02T10:00Z,2026-03-04T10:00Z,3\n",
            "row 2, column end: it is not within",
        ),
        (
            "unit,start,end,watts" + 2 * "\nx,2026-03-02T10:00Z,2026-03-02T10:10Z,3",
            "row 3: unit 'x' has this time already in row 2",
        ),
        (
            "unit,start,end,watt_hours\nx,2026-03-02T10:00Z,2026-03-02T10:01Z,150\n",
            "column watt_hours: '150' makes 9,000 W",
        ),
        (HEAD + 'x,2026-03-02T10:00Z,"3\n', "row 2: unexpected end of data"),
        (HEAD + "x,2026-03-02T10:00Z,3\0\n", "it holds a null character"),
        (HEAD.encode() + b"x\xff,2026-03-02T10:00Z,3\n", "byte 17 is not UTF-8"),
        (b"\x1f\x8b\x08\x00\x00\x00", "is not UTF-8"),
    ],
)
def test_what_is_no_reading_is_refused_with_its_place(text, why):
    """The refusal names the place in printable text."""
    with pytest.raises(UsageError) as refused:
        parse(text)
    assert why in str(refused.value)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("time", ["2026-10-25 02:30", "2026-03-29 02:30"])
def test_the_hour_of_the_change_needs_an_offset(time):
    """02:30 happens twice or not at all, so a reading could be an hour off."""
    late = at("2026-12-01T00:00:00Z")
    with pytest.raises(UsageError, match="the hour that the clocks were changed"):
        parse_readings((HEAD + f"x,{time},3\n").encode(), zone=PARIS, now_unix_milliseconds=late)
    assert parse_readings((HEAD + f"x,{time}+02:00,3\n").encode(), zone=PARIS, now_unix_milliseconds=late)


def test_sizes_are_bounded(monkeypatch):
    """Bytes, rows and units have limits, each with its own message."""
    row = "x,2026-03-02T10:0{}:00Z,3\n"
    monkeypatch.setattr(readings, "MAX_ROWS", 3)
    assert len(parse(HEAD + "".join(row.format(n) for n in range(3)))["x"]) == 3
    with pytest.raises(UsageError, match="more than 3 rows"):
        parse(HEAD + "".join(row.format(n) for n in range(4)))
    monkeypatch.setattr(readings, "MAX_UNITS", 1)
    with pytest.raises(UsageError, match="row 3, column unit: more than 1 units"):
        parse(HEAD + "x,2026-03-02T10:00Z,3\ny,2026-03-02T10:00Z,3\n")
    monkeypatch.setattr(readings, "MAX_BYTES", 20)
    with pytest.raises(UsageError, match="larger than 0 MiB"):
        parse(HEAD + row.format(0))


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_no_content_does_worse_than_be_refused(content):
    """Any content is refused or gives possible readings, without another exception."""
    for head in (b"", HEAD.encode(), b"unit;start;end;watt_hours;state\n"):
        try:
            found = parse_readings(head + content, zone=UTC, now_unix_milliseconds=NOW)
        except UsageError:
            continue
        assert all(0 <= one.milliwatts <= 5_000_000 for many in found.values() for one in many)
