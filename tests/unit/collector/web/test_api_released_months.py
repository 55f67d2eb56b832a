# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Answers of the API from months that a store holds: when a month is released, and what stays as it was."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from tests.support.filled import Filled, cell, civil
from tests.support.publishing import publish_months
from tests.support.reading import Reading
from tests.support.sources import opened
from veilleuse.collector.documents.document import SHOWN
from veilleuse.collector.model.accounts import Role
from veilleuse.collector.model.query import Query
from veilleuse.collector.model.records import HostId
from veilleuse.collector.reports.emissions import emissions_report_of
from veilleuse.collector.settings import ReportingSettings
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)
PUBLISHED = date(2026, 11, 4)


def a_laptop(data: Filled, entity: str) -> HostId:
    """Add a workstation that was enrolled on 1 October."""
    first = date(2026, 10, 1)
    return data.add_host(Population.WORKSTATION, DeviceClass.LAPTOP, entity=entity, enrolled_on=first)


def a_dozen(data: Filled, late: bool = False) -> list[HostId]:
    """Add twelve workstations with a past month, the last of them without records when `late`."""
    hosts = [a_laptop(data, "A") for _ in range(12)]
    for host in hosts[: 11 if late else 12]:
        days = [date(2026, 10, 1) + timedelta(days=n) for n in range(5)]
        data.push(host, [(civil(day), [cell(State.ASLEEP, 3_600_000, Band.NIGHT)]) for day in days])
    data.derive()
    return hosts


def rows(reading: Reading, token: str, query: str) -> list[dict[str, object]]:
    """Return rows of /coverage."""
    found: list[dict[str, object]] = reading.get(f"/api/v1/coverage?{query}", token).json()["rows"]
    return found


OCTOBER = "from=2026-10-01&to=2026-11-01"


def test_a_month_is_released_some_days_after_its_end(tmp_path):
    """October is published on 4 November, not on the 3rd; November is not."""
    moment = [NOW.timestamp()]
    with Filled(tmp_path / "data", clock=lambda: moment[0]) as data:
        a_dozen(data)
        assert publish_months(data, NOW.date()) == []
        with Reading(data, clock=lambda: moment[0]) as reading:
            token = reading.account(days=30)
            answer = reading.get(f"/api/v1/coverage?{OCTOBER}", token).json()
            (lacks,) = answer["withheld"]
            assert (answer["rows"], lacks["reason"], lacks["released_on"]) == ([], "period", "2026-11-04")
        moment[0] += 86_400
        assert publish_months(data, PUBLISHED) == []
        with Reading(data, clock=lambda: moment[0]) as reading:
            answer = reading.get("/api/v1/coverage?from=2026-10-01&to=2026-11-03", token).json()
            assert [row["n"] for row in answer["rows"]] == [12]
            assert {name: answer["report"][name] for name in ("figures", "basis", "released_until")} == {
                "figures": "fleet",
                "basis": "released",
                "released_until": "2026-11-01",
            }
            assert answer["withheld"] == [
                {
                    "period_from": "2026-11-01",
                    "period_to": "2026-11-03",
                    "reason": "period",
                    "released_on": "2026-12-04",
                }
            ]
            cut = reading.get("/api/v1/coverage?from=2026-10-02&to=2026-11-01", token).json()
            assert (cut["rows"], cut["withheld"][0]["reason"]) == ([], "period")
            by_site = reading.get(f"/api/v1/coverage?{OCTOBER}&group_by=site", token).json()
            assert (by_site["rows"], by_site["withheld"][0]["reason"]) == ([], "grouping")


def test_a_released_month_stays_as_it_was(tmp_path):
    """Late records of October change no released answer, months later or after a restart. An administrator
    sees them with basis=unreleased, and an operator can have the month computed again."""
    moment = [NOW.timestamp() + 86_400]
    with Filled(tmp_path / "data", clock=lambda: moment[0]) as data:
        hosts = a_dozen(data, late=True)
        publish_months(data, PUBLISHED)
        with Reading(data, clock=lambda: moment[0]) as reading:
            reader, admin = reading.account("one", days=90), reading.account("admin", Role.ADMIN, days=90)
            data.push(
                hosts[11], [(civil(date(2026, 10, 2)), [cell(State.ASLEEP, 12 * 3_600_000, Band.NIGHT)])]
            )
            data.derive()
            before = rows(reading, reader, OCTOBER)
            # One was silent: it counts as one of the others.
            assert [(row["n"], row["machine_days_observed"]) for row in before] == [(12, 12 * 5 / 24)]
            assert rows(reading, admin, OCTOBER) == before
            assert [row["n"] for row in rows(reading, admin, f"{OCTOBER}&basis=unreleased")] == [12]
            refused = reading.get(f"/api/v1/coverage?{OCTOBER}&basis=unreleased", reader)
            assert (refused.status_code, refused.json()["where"]) == (403, "query parameter basis")
        moment[0] += 28 * 86_400
        publish_months(data, PUBLISHED + timedelta(days=28))
        with Reading(data, clock=lambda: moment[0]) as restarted:
            assert rows(restarted, reader, OCTOBER) == before
        assert data.store.publications.take_back(date(2026, 10, 1), date(2026, 11, 1)) == 3
        publish_months(data, PUBLISHED + timedelta(days=28))
        with Reading(data, clock=lambda: moment[0]) as restarted:
            again = rows(restarted, reader, OCTOBER)
            assert [(row["n"], row["machine_days_observed"]) for row in again] == [(12, (11 * 5 + 12) / 24)]


def test_an_observed_answer_has_the_measured_part_of_the_released_one(tmp_path):
    """A thirteenth machine is silent: the fleet's energy counts it, the observed one does not."""
    with Filled(tmp_path / "data", clock=lambda: datetime(2026, 9, 1, tzinfo=UTC).timestamp()) as data:
        a_dozen(data)
        a_laptop(data, "A")
        publish_months(data, PUBLISHED)
        with Reading(data, clock=lambda: NOW.timestamp() + 86_400) as reading:
            token = reading.account(days=100)
            whole, seen = (
                reading.get(f"/api/v1/energy?{OCTOBER}&basis={basis}", token).json()
                for basis in ("released", "observed")
            )
    (fleet,), (measured,) = whole["rows"], seen["rows"]
    known = fleet["energy_millijoules"] - fleet["extrapolated_millijoules"]
    assert 0 < known == measured["energy_millijoules"] < fleet["energy_millijoules"]
    assert (measured["basis"], seen["report"]["figures"]) == ("observed", "observed")
    assert "kwh_extrapolated" not in measured


def test_who_may_see_all_gets_the_report(tmp_path):
    """Rows of a reader and of an administrator are those of `veilleuse report emissions`, digit by digit."""
    later = NOW + timedelta(days=1)
    with Filled(tmp_path / "data", clock=later.timestamp) as data:
        a_dozen(data)
        publish_months(data, PUBLISHED)
        question = Query(date(2026, 1, 1), date(2027, 1, 1), ("entity", "device_class"), 10, later.date())
        with opened(tmp_path / "data", ReportingSettings()) as sources:
            expected = emissions_report_of(sources, question).document.tables
        with Reading(data, clock=later.timestamp) as reading:
            for role in Role:
                answer = reading.get(
                    "/api/v1/emissions?from=2026-01-01&to=2027-01-01", reading.account(role.value, role)
                ).json()
                for table in ("rows", "totals", "memo", "withheld"):
                    told = [
                        {name: value for name, value in row.items() if name != SHOWN}
                        for row in expected[table]
                    ]
                    assert answer[table] == told
                assert answer["rows"]


def test_coverage_is_of_all_enrolled_machines(tmp_path):
    """I13 covers a whole population: its silent machines too, whether one was silent all month, or ten."""
    question = f"/api/v1/indicators?{OCTOBER}&group_by=population"

    def coverage(reading: Reading) -> list[object]:
        answer = reading.get(question, token).json()["rows"]
        return [row.get("value") for row in answer if row["indicator"] == "I13"]

    with Filled(tmp_path / "data", clock=lambda: datetime(2026, 9, 1, tzinfo=UTC).timestamp()) as data:
        a_dozen(data)
        a_laptop(data, "B")
        publish_months(data, PUBLISHED)
        with Reading(data, clock=lambda: NOW.timestamp() + 86_400) as reading:
            token = reading.account(days=100)
            assert coverage(reading) == [
                pytest.approx(5 / 745)
            ]  # one was silent: it counts as one of the others
        for _ in range(9):
            a_laptop(data, "C")
        data.store.publications.take_back(date(2026, 10, 1), date(2026, 11, 1))
        publish_months(data, PUBLISHED)
        with Reading(data, clock=lambda: NOW.timestamp() + 86_400) as reading:
            assert coverage(reading) == [pytest.approx(12 * 5 / (22 * 745))]
