# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of what Veilleuse itself uses at its outlets: the same numbers, once published, and never of few."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.filled import Filled, cell, civil, clock
from tests.support.publishing import Publishing, publish_months
from tests.support.reading import Reading
from veilleuse.collector.exposition.prometheus import Exposition
from veilleuse.collector.model.accounts import Role
from veilleuse.collector.model.publications import PublicationKind
from veilleuse.collector.model.records import HostId
from veilleuse.collector.release.own_rows import COLUMNS
from veilleuse.collector.web.metrics.own_use import add_own_use
from veilleuse.collector.web.metrics.snapshot import SnapshotCache
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

OCTOBER, END = date(2026, 10, 1), date(2026, 11, 1)
RELEASED_ON = END + timedelta(days=3)
HOUR = 3_600_000


def noon(day: date) -> float:
    """Return Unix seconds of 12:00 UTC."""
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp()


def fill(data: Filled, pcs: int, own: int | None) -> None:
    """Add a server and PCs, on for an hour of each day of October; each hour's agent used `own` ms of CPU."""
    for number in range(pcs + 1):
        population = Population.WORKSTATION if number else Population.SERVER
        form = DeviceClass.TOWER if number else DeviceClass.SERVER
        host = data.add_host(population, form, enrolled_on=OCTOBER)
        records = []
        for day in range(31):
            on = cell(State.ON_IDLE, HOUR, Band.NIGHT, busy_ratio=0.01)
            if own is not None:
                on.own_cpu_milliseconds = own
            at = OCTOBER + timedelta(days=day)
            start = round(noon(at)) * 1000 + 11 * HOUR  # 23:00 UTC, midnight in Paris
            records.append((civil(at), [on]) if number else (clock(start, HOUR), [on]))
        data.push(host, records)
    data.derive()


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Filled]:
    """Return an empty directory, as of the day October is released."""
    with Filled(tmp_path / "data", clock=lambda: noon(RELEASED_ON)) as store:
        yield store


def counted(data: Filled, first: date = OCTOBER) -> None:
    """Note what the collector used on each day."""
    for day in range((END - first).days):
        used = {"own_cpu_milliseconds": 60_000, "server_received_bytes": 100_000, "server_sent_bytes": 10}
        data.store.note_own_use(first + timedelta(days=day), used)


ASKED = "/api/v1/emissions?from=2026-10-01&to=2026-11-01"


def metrics(data: Filled, reading: Reading) -> dict[str, float]:
    """Return the samples of own use: name and labels → value."""
    facts, clock = reading.indicators.month_facts, reading.clock
    with closing(data.reader()) as reader:
        look = SnapshotCache(reader, reading.settings, clock, month_facts=facts).take_snapshot()
    out = Exposition()
    add_own_use(out, look, 10)
    return {
        "/".join([sample.name.removeprefix("veilleuse_own_"), *sample.labels.values()]): sample.value
        for family in out.collect()
        for sample in family.samples
    }


def test_report_metrics_and_page_tell_the_same(data: Filled):
    """Twelve towers of 8 CPUs, at 13 W a CPU, for 31 s each; readers of one entity get no line."""
    fill(data, 12, 1_000)
    counted(data)
    publish_months(data, RELEASED_ON)
    with Reading(data, clock=lambda: noon(RELEASED_ON)) as reading:
        reading.indicators.refresh()
        token = reading.account()
        rows = json.loads(reading.get(ASKED, token).text)["own_use"]
        csv = reading.get(ASKED, token, accept="text/csv").text.splitlines()
        page, told = reading.get("/qualite?year=2026&lang=fr").text, metrics(data, reading)
        of_one = reading.get(ASKED, reading.account("one", Role.READER, "E1"))
    assert of_one.status_code == 200
    assert "own_use" not in json.loads(of_one.text)
    parts = {(row["own_part"], row.get("population", "")): row for row in rows}
    pcs, whole = parts["agents", "workstation"], parts.pop(("whole", ""))
    assert (pcs["n"], "own_received_bytes" in pcs, "own_sent_bytes" in pcs) == (12, False, False)
    servers = parts["agents", "server"]
    assert (servers["own_received_bytes"], servers["own_sent_bytes"]) == (3_100_000, 310)
    assert {name: value for name, value in told.items() if "wire" in name} == {
        "month_wire_bytes/server/received": 3_100_000,
        "month_wire_bytes/server/sent": 310,
    }
    assert pcs["kwh_own"] == pytest.approx(12 * 31 * 13 / 3.6e6)
    assert pcs["own_cpu_hours"] == pytest.approx(12 * 31 / 3_600)
    assert whole["kwh_own"] == pytest.approx(sum(row["kwh_own"] for row in parts.values()))
    assert len(parts) == 3
    for (part, population), row in parts.items():
        joules = told[f"month_energy_joules/{part}/{population}"]
        assert joules == pytest.approx(row["kwh_own"] * 3.6e6, rel=1e-12)
    assert (
        told["month_avoidable_ratio"]
        == whole["own_avoidable_ratio"]
        == whole["kwh_avoidable"] / whole["kwh_own"]
    )
    assert sum(",own_use," in line for line in csv) == len(rows)
    assert csv[0].endswith(",".join(COLUMNS))
    lines = [re.findall(r"<t[dh][^>]*>([^<]*)", line) for line in page[page.index("own-h") :].split("<tr>")]
    shown = {cells[0]: cells[1:] for cells in lines if cells}
    assert [shown["agents, postes de travail"][place] for place in (0, -2)] == ["12", "–"]
    assert shown["agents, serveurs"][-2] == "3,10\u00a0Mo"
    assert "un seul poste a été en contact" in page
    assert "Pour chaque kWh" in page


@pytest.mark.parametrize(
    ("pcs", "own", "since", "untold"),
    [
        (12, None, OCTOBER, {"agents": "own_not_reported", "whole": "own_not_reported"}),  # older agents
        (
            12,
            1_000,
            OCTOBER + timedelta(days=1),  # counting began on the 2nd
            {"collector": "own_not_counted", "whole": "own_not_counted"},
        ),
        (9, 1_000, OCTOBER, {}),  # PCs are in no row: the server alone
    ],
)
def test_what_is_not_known_has_its_reason(
    data: Filled, pcs: int, own: int | None, since: date, untold: dict[str, str]
):
    """No figure is no zero; of nine PCs nothing is told, also no bytes."""
    fill(data, pcs, own)
    counted(data, since)
    publish_months(data, RELEASED_ON)
    with Reading(data, clock=lambda: noon(RELEASED_ON)) as reading:
        reading.indicators.refresh()
        rows = json.loads(reading.get(ASKED, reading.account()).text)["own_use"]
        told = metrics(data, reading)
    assert {row["own_part"]: row["reason"] for row in rows if "reason" in row} == untold
    assert {row["own_part"] for row in rows if "kwh_own" not in row} == set(untold)
    assert {row["own_part"] for row in rows} == {"agents", "collector", "whole"}
    assert "month_avoidable_ratio" not in told or "whole" not in untold
    if pcs < 10:
        assert "workstation" not in " ".join(told)
        assert not any(row.get("population") == "workstation" for row in rows)


@pytest.mark.parametrize(
    ("published_on", "is_known"),
    [
        (date(2026, 12, 2), True),
        (date(2026, 12, 3), True),
        (date(2027, 1, 1), True),
        (date(2027, 1, 4), False),
    ],
)
def test_a_month_that_is_first_published_late(data: Filled, published_on: date, is_known: bool):
    """October is the last released month until 3 December, and a collector that was off publishes it later
    still: its days wait until 92 days after its first one. Then every outlet says that it is not known."""
    fill(data, 12, 1_000)
    counted(data)
    data.store.note_own_use(published_on, {})  # the collector's first task of a day: old days go
    publish_months(data, published_on)
    with Reading(data, clock=lambda: noon(published_on)) as reading:
        token = reading.account()
        rows = json.loads(reading.get(ASKED, token).text)["own_use"]
        csv = reading.get(ASKED, token, accept="text/csv").text.splitlines()
        page = reading.get("/qualite?year=2026&lang=fr").text
    whole = rows[-1]
    if is_known:
        assert {row["own_months"] for row in rows} == {1}
        assert "reason" not in whole
        return
    assert [one for one in rows if "kwh_own" in one] == []
    assert (whole["own_part"], whole["own_months"], whole["reason"]) == ("whole", 0, "own_not_published")
    assert sum("own_not_published" in line for line in csv) == 1
    assert "un mois a été publié sans" in page


def test_a_published_month_stays_when_a_machine_is_forgotten_and_when_the_others_go(data: Filled):
    """Published once: a second number without one PC would tell that PC. It outlives the month's other
    publications, because nothing can compute it again."""
    fill(data, 12, 1_000)
    counted(data)
    publish_months(data, RELEASED_ON)
    published = Publishing(data)
    before = published.find(PublicationKind.OWN_USE, OCTOBER, END)
    assert before is not None
    data.push(HostId(2), [(civil(OCTOBER), [_late()])])
    data.derive()
    publish_months(data, RELEASED_ON + timedelta(days=20))
    assert published.find(PublicationKind.OWN_USE, OCTOBER, END) == before
    data.store.publications.expire(END + timedelta(days=600), [2026])
    assert [one.kind for one in data.store.publications.summaries()] == [PublicationKind.OWN_USE]
    assert published.years() == frozenset()


def _late() -> object:
    """Return a late cell with much own CPU time."""
    late = cell(State.ON_ACTIVE, HOUR, Band.CLOSED, busy_ratio=0.5)
    late.own_cpu_milliseconds = 900_000
    return late
