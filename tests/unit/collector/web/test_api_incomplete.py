# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests that readers' answers mark incomplete rows, and withheld ones in CSV. docs/api.md."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import UTC, date, datetime

from tests.support.filled import Filled, cell, civil
from tests.support.publishing import publish_months
from tests.support.reading import Reading
from tests.unit.collector.web.test_api_release import Fleet, Seen, release
from tests.unit.collector.web.test_api_released_months import NOW, OCTOBER, PUBLISHED, a_dozen
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.documents.document import Row
from veilleuse.collector.model.indicators import Targets
from veilleuse.collector.model.query import GroupKey, Query
from veilleuse.collector.model.sums import Detail, Group, GroupSums, StateSums
from veilleuse.collector.release.answer import sum_uses
from veilleuse.collector.release.format import FORM
from veilleuse.collector.release.tables import Month
from veilleuse.collector.reports.indicators import IndicatorSums, indicator_rows
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State


def of_places(*places: tuple[str, str], months: int = 1) -> list[Month]:
    """Return the release of one machine in each place."""
    seen = frozenset(Seen(host, month) for host in range(len(places)) for month in range(months))
    return release(Fleet(places, seen))[:months]


def incomplete(months: Sequence[Month], dimensions: Sequence[str], entities: Sequence[str] = ()) -> set[str]:
    """Return the names of incomplete rows; `total` for the whole."""
    first, end = months[0].part.first, months[-1].part.end
    rows, whole = (
        sum_uses(months, Query(first, end, tuple(asked), entities=tuple(entities)))
        for asked in (dimensions, ())
    )
    named = {
        f"{group.key.entity or ''}/{group.key.device_class or ''}" for group in rows if group.sums.incomplete
    }
    return named | {"total" for group in whole if group.sums.incomplete}


def test_a_row_says_what_it_lacks():
    """A and B have three laptops each and few towers, which are in `autres`. Row `A` is of its laptops alone;
    it once read as the whole entity."""
    laptops = [("A", "laptop")] * 3 + [("B", "laptop")] * 3
    months = of_places(*laptops, ("A", "tower"), ("B", "tower"), ("B", "tower"), *[("B > 1", "laptop")] * 3)
    assert incomplete(months, ("entity",)) == {"A/", "B/"}
    assert incomplete(months, ("device_class",)) == set()  # no tower has a row of its own
    assert incomplete(months, ("entity", "device_class")) == set()
    assert incomplete(months, ()) == set()
    assert incomplete(months, (), ("A",)) == {"/", "total"}
    assert incomplete(months, ("entity",), ("B",)) == {"B/", "total"}
    assert incomplete(months, ("entity",), ("B > 1",)) == set()
    (month,) = months
    assert FORM.decode(FORM.encode(month), month.part.first, month.part.end) == month
    whole = of_places(*laptops)
    assert incomplete(whole, ("entity",)) == incomplete(whole, (), ("A",)) == set()


def test_a_class_of_which_some_entities_are_in_autres_says_so():
    """B's four towers have a row, A's three are with the one laptop: the class is incomplete."""
    places = [("A", "tower")] * 3 + [("B", "tower")] * 4 + [("B > 1", "laptop")]
    assert incomplete(of_places(*places), ("device_class",)) == {"/tower"}


def test_an_answer_says_which_rows_are_incomplete(tmp_path):
    """JSON and CSV of indicators mark incomplete rows, with a note that explains the mark."""
    moment = NOW.timestamp() + 86_400
    with (
        Filled(tmp_path / "data", clock=lambda: moment) as data,
        Reading(data, clock=lambda: moment) as reading,
    ):
        for entity, device_class, number in (
            ("A", DeviceClass.LAPTOP, 12),
            ("A", DeviceClass.TOWER, 2),
            ("B", DeviceClass.TOWER, 9),
            ("C", DeviceClass.LAPTOP, 12),
        ):
            for _ in range(number):
                host = data.add_host(
                    Population.WORKSTATION, device_class, entity=entity, enrolled_on=date(2026, 9, 30)
                )
                data.push(host, [(civil(date(2026, 10, 5)), [cell(State.ASLEEP, 3_600_000, Band.NIGHT)])])
        data.derive()
        publish_months(data, PUBLISHED)
        token = reading.account(days=30)
        question = f"/api/v1/indicators?{OCTOBER}&group_by=entity"
        answer = reading.get(question, token).json()
        found = {row["entity"]: row.get("incomplete") for row in answer["rows"]}
        assert found == {"A": True, "C": None, "autres": None}
        assert any(str(note).startswith("incomplet") for note in answer["assumptions"])
        table = list(csv.DictReader(io.StringIO(reading.get(f"{question}&format=csv", token).text)))
        told = {row["entity"]: row["incomplete"] for row in table}
        assert told == {"A": "true", "C": "", "autres": ""}


def test_a_csv_says_what_it_lacks(tmp_path):
    """CSV has `withheld` rows: October to December once read as if November had no energy."""
    moment = datetime(2026, 12, 2, 12, tzinfo=UTC).timestamp()
    with (
        Filled(tmp_path / "data", clock=lambda: moment) as data,
        Reading(data, clock=lambda: moment) as reading,
    ):
        a_dozen(data)
        publish_months(data, PUBLISHED)
        token = reading.account(days=30)
        question = "/api/v1/energy?from=2026-10-01&to=2027-01-01&group_by=entity,month&format=csv"
        answer = reading.get(question, token)
        lines = list(csv.DictReader(io.StringIO(answer.text)))
        assert [(one["level"], one["n"], one["reason"], one["released_on"]) for one in lines] == [
            ("row", "12", "", ""),
            ("total", "12", "", ""),
            ("withheld", "", "period", "2026-12-04"),
        ]
        assert answer.headers["x-total-count"] == "3"
        whole = reading.get(f"/api/v1/energy?{OCTOBER}&format=csv", token)
        assert "withheld" not in whole.text


def month_of(number: int, on: int, *, hidden: bool = False) -> Month:
    """Return a month of twelve PCs: hours on of 100 h outside opening hours; `hidden`: not to be told."""
    key = GroupKey(date(2026, number, 1), date(2026, number + 1, 1), "FR", Population.WORKSTATION)
    states = {
        (Band.NIGHT, State.ON_IDLE): StateSums(on),
        (Band.NIGHT, State.OFF): StateSums(100 - on),
        (Band.OPEN, State.ON_ACTIVE): StateSums(100),
    }
    withheld = frozenset({Detail.OUTSIDE} if hidden else ())
    group = Group(key, GroupSums(12, 200, states, withheld=withheld))
    return Month(Slice(key.period_from, key.period_to), (), (group,), (), ())


def rows_of(*months: Month) -> dict[str, Row]:
    """Return the rows of the indicators of these months together."""
    query = Query(months[0].part.first, months[-1].part.end, ("population",))
    sums = IndicatorSums(sum_uses(months, query), (), {"basis": "released"})
    return {str(row["indicator"]): row for row in indicator_rows(sums, Targets(), "real")}


def test_a_withheld_month_leaves_the_others_of_a_period():
    """I1 of three months, of which one withholds it, is that of the two others, and says so; it was empty."""
    rows = rows_of(month_of(1, 10), month_of(2, 90, hidden=True), month_of(3, 30))
    assert (rows["I1"]["value"], rows["I1"]["incomplete"]) == (0.2, True)
    assert (rows["I1"]["numerator_milliseconds"], rows["I1"]["denominator_milliseconds"]) == (40, 200)
    assert rows["I2"]["value"] == 130 / 430
    assert "incomplete" not in rows["I2"]


def test_without_a_month_that_tells_it_a_figure_stays_withheld():
    """I1 of months that all withhold it has no value; of months that all tell it, it is not incomplete."""
    rows = rows_of(month_of(1, 10, hidden=True), month_of(2, 90, hidden=True))
    assert ("value" in rows["I1"], rows["I1"]["withheld"]) == (False, True)
    rows = rows_of(month_of(1, 10), month_of(2, 20))
    assert (rows["I1"]["value"], "incomplete" in rows["I1"]) == (0.15, False)
