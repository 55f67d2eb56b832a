# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of what the sheet must not claim: half a year as a year, ages as lifetimes, unobserved machines."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from tests.support.closed_years import Command, told
from tests.support.filled import Filled
from tests.support.publishing import publish_months
from tests.support.rolled import server_day, workstation, workstation_days
from tests.unit.collector.cli.test_reen_command import (
    HALF_YEAR,
    filled_once,
    fleet,
    report,
    sheet_rows,
    written,
)
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.model.indicators import Figure, Targets
from veilleuse.collector.model.query import GroupKey, Query
from veilleuse.collector.release.indicator_rows import HalfWidth, IndicatorMonth
from veilleuse.collector.reports.indicators import IndicatorSums
from veilleuse.collector.reports.reen import why_no_trend
from veilleuse.collector.reports.reen_values import SheetValue, YearValues
from veilleuse.collector.settings import CollectorSettings
from veilleuse.wire.vocabulary import DeviceClass, Population

pytestmark = pytest.mark.any_date

__all__ = ["filled_once", "fleet"]
OBJECTIVES = """objective;indicator;baseline_year;baseline_value;target_year;target_value
3;server_kwh;2024;3000;2027;2500
2;I6;2024;0,5;2027;0,2
"""


@pytest.fixture
def server_of_2025(lyon: CollectorSettings) -> None:
    """Add a server at 180 W at the wall, all of 2025: 1,577 kWh."""
    with Filled(lyon.data_dir) as filled:
        server = filled.add_host(
            Population.SERVER, DeviceClass.SERVER, site="Lyon", enrolled_on=date(2025, 1, 1)
        )
        for month in range(1, 13):
            server_day(filled, server, date(2025, month, 10), watts=100)
        filled.derive()
        publish_months(filled, date(2026, 2, 1))


@pytest.mark.parametrize(
    ("period", "is_year"),
    [(("2025-01-01", "2026-01-01"), True), (("2025-01-01", "2025-07-01"), False)],
    ids=["a year", "half of it"],
)
@pytest.mark.usefixtures("server_of_2025")
def test_half_a_year_is_not_compared_with_a_whole_one(
    period: tuple[str, str], is_year: bool, veilleuse: Command, tmp_path: Path
):
    """788 kWh of six months are shown, and compared with neither 3,000 nor 2,500 kWh a year."""
    assert veilleuse("reen", "import", written(tmp_path, "objectives.csv", OBJECTIVES))[0] == 0
    found = sheet_rows(veilleuse, "--from", period[0], "--to", period[1])["server_kwh"]
    assert found["value"] == pytest.approx(1577 if is_year else 1577 * 181 / 365, rel=0.02)
    assert (found["baseline_value"], found["target_value"]) == (3000, 2500)
    # 3,000 kWh lie in the interval of a year seen for twelve days: no trend
    assert "trend_ratio" not in found
    assert found.get("not_demonstrated") == ("intervals" if is_year else None)
    assert found.get("reached") is (True if is_year else None)


@pytest.mark.parametrize(
    ("interval", "coverage", "restated", "reason"),
    [
        ((76.0, 84.0), 0.4, (95.0, 105.0, 0.5), None),
        ((76.0, 84.0), 0.4, (95.0, 105.0, 0.03), "coverage"),
        ((70.0, 98.0), 0.4, (95.0, 105.0, 0.5), "intervals"),
        ((76.0, 84.0), 0.4, None, None),
        ((70.0, 104.0), 0.4, None, "intervals"),
        (None, 0.4, None, "intervals"),
        (None, None, None, None),
    ],
)
def test_a_trend_is_told_where_it_is_demonstrated(
    interval: tuple[float, float] | None,
    coverage: float | None,
    restated: tuple[float, float, float] | None,
    reason: str | None,
):
    """80 against 100: by the restated year, with its interval and coverage, or outside the value's interval.
    A count of the inventory is exact.
    """
    value = SheetValue("", "", "", 80.0, interval, coverage)
    earlier = None if restated is None else SheetValue("", "", "", 100.0, restated[:2], restated[2])
    assert why_no_trend("server_kwh", value, 100.0, earlier) == reason


@pytest.mark.usefixtures("server_of_2025")
def test_a_period_over_two_years_has_no_year(veilleuse: Command):
    """March 2025 to April 2026 is no civil year; 2025 is."""
    rows = sheet_rows(veilleuse, "--from", "2025-03-01", "--to", "2026-05-01")
    assert "current_year" not in rows["server_kwh"]
    assert (
        sheet_rows(veilleuse, "--from", "2025-01-01", "--to", "2026-01-01")["server_kwh"]["current_year"]
        == 2025
    )


def test_shares_that_are_all_alike_say_nothing_of_the_others():
    """Ten idle machines in a thousand do not prove that the others are idle."""
    first, end = date(2025, 1, 1), date(2025, 2, 1)
    key = GroupKey(first, end, "FR", Population.WORKSTATION)
    width = HalfWidth("I1", key.over(), 0)
    months = (IndicatorMonth(Slice(first, end), (), (), (width,), ()),)
    sums = IndicatorSums((), (), {}, months=months)
    values = YearValues(Query(first, end, ()), Targets(), (), (), (), sums, frozenset())
    found = [(key, Figure(0.5, 10, 5, 10))]
    assert values._ratio_interval("I1", found, 0.5, 0.01) is None
    assert values._ratio_interval("I1", found, 0.5, 1.0) == (0.5, 0.5)


INVENTORY = "key,device_class,entity,site,in_service_on\n" + "".join(
    f"pc-{n},laptop,DSI,Lyon,{2025 - n}-01-01\n" for n in range(12)
)
"""Twelve laptops, one bought each year: the median age is 6.5 years."""
AGE = """objective;indicator;target_year;target_value
2;I9;2027;{}
"""


@pytest.mark.parametrize(("target", "reached"), [(None, None), ("5", True), ("7", False)])
def test_an_age_is_not_a_lifetime(
    lyon: CollectorSettings,
    veilleuse: Command,
    tmp_path: Path,
    target: str | None,
    reached: bool | None,
):
    """A fleet kept for twelve years has a median age of 6.5, which does not miss a lifetime of 8 years. A
    target of the organisation is about the median, and is compared."""
    assert veilleuse("inventory", "import", written(tmp_path, "assets.csv", INVENTORY))[0] == 0
    if target:
        lines = AGE.format(target)
        assert veilleuse("reen", "import", written(tmp_path, "objectives.csv", lines))[0] == 0
    found = sheet_rows(veilleuse, "--from", "2025-01-01", "--to", "2026-01-01")["I9"]
    assert found["value"] == pytest.approx(6.5, abs=0.01)
    assert found["threshold"] == 8.0
    assert found.get("reached") is reached


SERVERS = """key,device_class,entity,site,population,power_context,in_service_on
a,server,DSI,Lyon,server,own_site,2025-01-01
b,server,DSI,Lyon,server,hosted,2025-01-01
"""


def test_servers_are_one_figure_wherever_they_stand(
    lyon: CollectorSettings, veilleuse: Command, tmp_path: Path
):
    """Two servers of 180 W, one of them hosted, are one line of 3,154 kWh beside the one target."""
    with Filled(lyon.data_dir) as filled:
        hosts = [
            filled.add_host(Population.SERVER, DeviceClass.SERVER, site="Lyon", enrolled_on=date(2025, 1, 1))
            for _ in range(2)
        ]
        for host in hosts:
            for month in range(1, 13):
                server_day(filled, host, date(2025, month, 10), watts=100)
        filled.derive()
        publish_months(filled, date(2026, 2, 1))
    assert veilleuse("inventory", "import", written(tmp_path, "assets.csv", SERVERS))[0] in (0, 3)
    agents = [row["agent_id"] for row in told(veilleuse, "hosts", "list")]
    for key, agent in zip("ab", agents, strict=True):
        assert veilleuse("inventory", "review", "match", key, agent)[0] == 0
    assert veilleuse("reen", "import", written(tmp_path, "objectives.csv", OBJECTIVES))[0] == 0
    rows = report(veilleuse, "reen", "--from", "2025-01-01", "--to", "2026-01-01")["rows"]
    (found,) = [row for row in rows if row.get("indicator") == "server_kwh"]
    assert found["value"] == pytest.approx(2 * 1577, rel=0.02)
    assert found["interval"] == "sample only"
    assert found["value_lo_sensitivity"] <= found["value_lo_sample"] < found["value"]
    assert found["value"] < found["value_hi_sample"] <= found["value_hi_sensitivity"]
    assert (found["coverage_states"], found["reached"]) == (pytest.approx(12 / 365), False)


NEVER_MEASURED = "key,device_class,entity,site,population,in_service_on\n" + "".join(
    f"pc-{n},tower,DSI,lyon,workstation,2025-01-01\n" for n in range(24)
)


@pytest.mark.parametrize("random", [False, True])
def test_a_value_of_volunteers_is_not_called_95_percent(
    fleet: Path, veilleuse: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random: bool
):
    """Thirteen of 37 towers were measured. I1 has a 95 % interval after a random roll-out, else the sample's.
    Energy has the sample's and its sensitivity: its server was seen on 28 of 184 days. I4 has 95 %."""
    with Filled(fleet) as filled:
        workstation_days(filled, workstation(filled, "lyon"), date(2025, 6, 30), date(2026, 1, 5))
        filled.derive()
    assert veilleuse("inventory", "import", written(tmp_path, "assets.csv", NEVER_MEASURED))[0] in (0, 3)
    with Filled(fleet) as filled:
        filled.store.publications.take_back(date(2025, 1, 1), date(2026, 1, 1))
        publish_months(filled, date(2026, 2, 1))
    monkeypatch.setenv("VEILLEUSE__REPORTING__RANDOM_ROLL_OUT", str(random).lower())
    lines = "objective;indicator;target_year;target_value\n3;use_phase_kgco2e;2027;1\n"
    assert veilleuse("reen", "import", written(tmp_path, "objectives.csv", lines))[0] == 0
    found = report(veilleuse, "reen", *HALF_YEAR)
    rows = {row.get("indicator"): row for row in found["rows"]}
    for name, is_energy in (("I1", False), ("use_phase_kgco2e", True)):
        bounds = {key for key in rows[name] if key.startswith(("value_lo", "value_hi", "interval"))}
        sample = {"value_lo_sample", "value_hi_sample"}
        sensitivity = {"value_lo_sensitivity", "value_hi_sensitivity"} if is_energy else set()
        is_full = random and not is_energy
        assert bounds == {"interval"} | ({"value_lo95", "value_hi95"} if is_full else sample | sensitivity)
        assert rows[name]["interval"] == ("95 %" if is_full else "sample only")
    assert rows["I4"]["interval"] == "95 %"
    assert any(str(note).startswith("Sample interval only") for note in found["assumptions"])
