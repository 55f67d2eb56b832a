# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Readers get a month's whole figures from kept months once its days are deleted. Decisions 0031 and 0035."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest

from tests.support.filled import RAPL, Filled, cell, civil
from tests.support.publishing import publish_months
from tests.support.reading import Reading
from tests.support.rolled import HOUR, days_of, retention, roll
from veilleuse.collector.model.accounts import Role
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

NOW = datetime(2026, 11, 25, 10, 30, tzinfo=UTC)
MAY = "from=2026-05-01&to=2026-06-01"
KINDS = ("emissions", "energy", "coverage", "indicators")


def day_of_work(day: date, number: int) -> list[Any]:
    """Return one machine's day: idle for part of the night, active and asleep by day, off for the rest."""
    night, work = (2 + number % 5) * HOUR, 6 * HOUR
    return [
        cell(State.ON_IDLE, night, Band.NIGHT, energy_millijoules=(15 + number) * night),
        cell(State.OFF, 8 * HOUR - night, Band.NIGHT),
        cell(State.ON_ACTIVE, work, energy_millijoules=(30 + number) * work),
        cell(State.ASLEEP, 10 * HOUR - work, energy_millijoules=2 * (10 * HOUR - work)),
        cell(State.OFF, 6 * HOUR, Band.CLOSED),
    ]


@pytest.fixture
def data(tmp_path) -> Iterator[Filled]:
    """Open a store with the days of May and June of 12 workstations and 11 classroom PCs; months are kept."""
    with Filled(tmp_path / "data", clock=NOW.timestamp) as filled:
        for population, entity, many in (
            (Population.WORKSTATION, "A", 12),
            (Population.CLASSROOM, "B", 11),
        ):
            for number in range(many):
                host = filled.add_host(
                    population, DeviceClass.TOWER, entity=entity, enrolled_on=date(2026, 5, 1)
                )
                days = days_of(date(2026, 5, 1), date(2026, 7, 1))
                filled.push(host, [(civil(day), day_of_work(day, number)) for day in days], RAPL)
        filled.derive()
        roll(filled, NOW.date())
        yield filled


def answers(data: Filled, query: str, role: Role = Role.READER, *names: str) -> dict[str, Any]:
    """Return the tables of each kind from a newly started service, without earlier publications."""
    data.store.publications.take_back(date(2026, 1, 1), date(2027, 1, 1))
    publish_months(data, NOW.date())
    with Reading(data, clock=NOW.timestamp) as reading:
        token = reading.account(f"of-{len(data.store.accounts.accounts())}", role, *names)
        found = {}
        for kind in KINDS:
            answer = reading.get(f"/api/v1/{kind}?{query}", token).json()
            found[kind] = {name: answer.get(name) for name in ("rows", "totals", "memo", "withheld")}
        return found


def test_a_month_says_the_same_when_its_days_are_gone(data):
    """Every number is equal, for readers and in an administrator's indicators."""
    before = answers(data, MAY)
    assert {row["n"] for row in before["emissions"]["rows"]} == {11, 12}
    assert all(row["kwh_total"] > 10 for row in before["emissions"]["rows"])
    indicators = answers(data, MAY, Role.ADMIN)["indicators"]
    assert retention(data).run(NOW.date()).whole
    assert answers(data, MAY) == before
    assert answers(data, MAY, Role.ADMIN)["indicators"] == indicators


def test_a_month_that_is_being_taken_apart_is_whole(data):
    """With half of its days deleted, the month is not replaced by the other half."""
    before = answers(data, MAY)
    retention(data).run(date(2026, 7, 16))  # until 15 May
    assert (
        data.store.data.connection.execute("SELECT min(start) FROM sums").fetchone()[0]
        == date(2026, 5, 15).toordinal()
    )
    assert answers(data, MAY) == before


def test_months_that_are_gone_are_withheld(data):
    """After 18 months there is no row without a figure, but the reason."""
    late = datetime(2028, 1, 5, tzinfo=UTC)
    with Reading(data, clock=late.timestamp) as reading:
        answer = reading.get(f"/api/v1/indicators?{MAY}", reading.account("late")).json()
    assert answer["rows"] == []
    assert {(row["population"], row["reason"]) for row in answer["withheld"]} == {
        ("classroom", "period"),
        ("workstation", "period"),
    }
