# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of polls of a fake ODRÉ and a fake Electricity Maps into a real store: requests and failures."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support import clock
from tests.support.fakes.devices import FakeDevice, reply
from tests.support.fakes.grid import TOKEN, FakeGrid
from tests.support.machines import served, settings_in
from tests.support.processes import HANGS, ran
from tests.support.waiting import until
from veilleuse.collector.app.data_directory import Collector, initialise, open_collector
from veilleuse.collector.app.schedule import PollSchedule
from veilleuse.collector.grid.electricity_maps import read_token
from veilleuse.collector.grid.poll import PollResult, RemoteLedger, enabled_connectors, is_due, poll, window
from veilleuse.collector.http_client import FetchError
from veilleuse.collector.model.grid import BY_DATASET, CONNECTORS, PollState
from veilleuse.collector.settings import CollectorSettings, IntensitySettings, child_environment

NOON = datetime(2026, 3, 10, 12, 7, tzinfo=UTC)
NOW = round(NOON.timestamp() * 1000)
HOUR = 3_600_000
DAY = 24 * HOUR
PATHS = ("part-enr-intensite-ges-conso-tr", "eco2mix-national-tr", "eco2mix-national-cons-def")


def quarters(since: datetime, until: datetime, value: Any, minutes: int = 15) -> list[tuple[str, Any]]:
    """Return rows as published."""
    number = (until - since) // timedelta(minutes=minutes)
    return [((since + timedelta(minutes=minutes * n)).isoformat(), value) for n in range(number)]


@pytest.fixture
def grid() -> FakeGrid:
    """Return two days of both real-time tables up to noon, and rows ahead without values."""
    made = FakeGrid()
    since = NOON.replace(minute=0) - timedelta(days=2)
    for name, value in ((PATHS[0], 50), (PATHS[1], "20")):
        made.rows[name] = quarters(since, NOON.replace(minute=0), value)
        made.rows[name] += quarters(NOON.replace(minute=0), NOON.replace(hour=20, minute=0), None)
    made.history = [
        {
            "zone": "FR",
            "carbonIntensity": 61,
            "datetime": f"2026-03-10T{hour:02}:00:00.000Z",
            "isEstimated": hour == 10,
        }
        for hour in range(11)
    ]
    return made


@pytest.fixture
def device(grid: FakeGrid) -> Iterator[FakeDevice]:
    """Serve both on a port of this machine."""
    with FakeDevice(grid) as made:
        yield made


@pytest.fixture
def token(tmp_path: Path) -> Path:
    """Return a file with the token."""
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def place(tmp_path: Path, device: FakeDevice, token: Path) -> CollectorSettings:
    """Return the settings of a data directory with both connectors on."""
    url = f"http://{device.address}"
    settings = settings_in(
        tmp_path,
        **{
            "intensity.odre": "true",
            "intensity.odre_url": url,
            "intensity.electricity_maps_token_file": str(token),
            "intensity.electricity_maps_url": url,
            "intensity.timeout_seconds": "60",
        },
    )
    initialise(settings, site="Lyon")
    return settings


@pytest.fixture
def collector(place: CollectorSettings) -> Iterator[Collector]:
    """Open the collector."""
    with open_collector(place) as made:
        yield made


def ledger(collector: Collector) -> RemoteLedger:
    """Return a ledger over the operations, through JSON as over the socket."""

    def ask(operation: str, **arguments: Any) -> Any:
        said = json.loads(json.dumps(arguments))
        return json.loads(json.dumps(collector.operations.perform(operation, said)))

    return RemoteLedger(ask)


def polled(
    collector: Collector, now: int = NOW, settings: IntensitySettings | None = None, *connectors: str
) -> dict[str, PollResult]:
    """Poll once, and return the results by connector."""
    of = settings or collector.settings.intensity
    found = poll(of, ledger(collector), connectors or CONNECTORS, lambda: now)
    return {one.connector: one for one in found}


def test_a_first_poll(collector: Collector, device: FakeDevice):
    """Each dataset is requested once; rows without a value are gaps, rows ahead are left out, and each
    connector notes its outcome."""
    done = polled(collector)
    assert {name: one.outcome for name, one in done.items()} == dict.fromkeys(CONNECTORS, "done")
    assert done["odre"].stored.new == 2 * 2 * 96
    assert done["electricity_maps"].stored.new == 11
    states = {(one.series, one.status.value): one for one in ledger(collector).states()}
    assert set(states) == {
        ("odre_consumption", "realtime"),
        ("eco2mix_combustion", "realtime"),
        ("electricity_maps", "realtime"),
        ("electricity_maps", "estimated"),
    }
    assert states["odre_consumption", "realtime"].newest_unix_milliseconds == NOW - 7 * 60_000
    assert states["eco2mix_combustion", "realtime"].newest_milligrams_per_kwh == 20_000
    polls = {one.connector: one for one in ledger(collector).polls()}
    assert {name: one.failures for name, one in polls.items()} == dict.fromkeys(CONNECTORS, 0)
    assert (
        polls["odre"].calls_this_month == len([one for one in device.asked if "/datasets/" in one.path]) == 3
    )
    assert all("exports/json" in one.path for one in device.asked if "/datasets/" in one.path)


def test_the_next_poll_asks_for_one_page(collector: Collector, device: FakeDevice, grid: FakeGrid):
    """The new hour and the last 20 need one call of at most 100 rows a dataset; a correction replaces."""
    polled(collector)
    hour = NOON.replace(minute=0)
    grid.rows[PATHS[0]] = [row for row in grid.rows[PATHS[0]] if row[1]] + quarters(
        hour, hour + timedelta(hours=1), 55
    )
    grid.rows[PATHS[0]][-5] = (grid.rows[PATHS[0]][-5][0], 51)
    device.asked.clear()
    done = polled(collector, NOW + HOUR, None, "odre")
    assert (done["odre"].stored.new, done["odre"].stored.replacing) == (4, 1)
    assert [("records" in one.path, "offset=0" in one.path) for one in device.asked] == [(True, True)] * 2
    assert done["odre"].stored.same == 2 * 80 - 1


def test_more_rows_than_a_page(collector: Collector, device: FakeDevice, grid: FakeGrid):
    """A table of more than 100 rows needs a second page; one without end is not understood."""
    polled(collector)
    grid.rows[PATHS[0]] += grid.rows[PATHS[0]]
    device.asked.clear()
    done = polled(collector, NOW + HOUR, None, "odre")
    assert done["odre"].outcome == "done"
    assert [one.path for one in device.asked if "offset=100" in one.path]
    grid.rows[PATHS[0]] *= 4
    assert polled(collector, NOW + HOUR, None, "odre")["odre"].outcome == "not_understood"


def test_consolidated_comes_later(collector: Collector, grid: FakeGrid):
    """Consolidated values replace real-time ones of their window, in the combustion series alone."""
    polled(collector)
    since = NOON.replace(minute=0) - timedelta(days=2)
    grid.rows[PATHS[2]] = quarters(since, since + timedelta(hours=12), 30, 30)
    done = polled(collector, NOW + DAY, None, "odre_consolidated")
    assert done["odre_consolidated"].stored.replacing == 24
    (state,) = [one for one in ledger(collector).states() if one.status == "consolidated"]
    assert (state.series, state.newest_milligrams_per_kwh) == ("eco2mix_combustion", 30_000)
    first = round(since.timestamp() * 1000)
    replaced = list(collector.store.intensities.replaced("FR", "eco2mix_combustion", first, NOW))
    assert len(replaced) == 48
    assert not list(collector.store.intensities.replaced("FR", "odre_consumption", 0, NOW))


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (reply(500, {"error_code": "x"}), "refused"),
        (reply(302, {}, {"Location": "http://127.0.0.1:1/"}), "refused"),
        (reply(429, {"error_code": "QuotaError"}), "quota"),
        (reply(200, text=b"<html>"), "not_understood"),
        (reply(200, {"error_code": "ODSQLError"}), "not_understood"),
        (reply(200, [{"date_heure": 3}]), "not_understood"),
        (reply(200, text=b"[" * 100_000), "not_understood"),
        (b"", "unreachable"),
    ],
)
def test_a_failing_dataset_stops_no_other(collector: Collector, grid: FakeGrid, answer: bytes, outcome: str):
    """The other table of the same connector and the other connectors are kept."""
    grid.failing[PATHS[1]] = answer
    done = polled(collector)
    assert done["odre"].outcome == outcome
    assert done["odre"].stored.new == 2 * 96
    assert done["electricity_maps"].outcome == "done"
    assert {one.series for one in ledger(collector).states()} == {"odre_consumption", "electricity_maps"}
    (state,) = [one for one in ledger(collector).polls() if one.connector == "odre"]
    assert (state.failures, state.outcome, state.succeeded_unix_milliseconds) == (1, outcome, None)


def test_the_months_calls_are_bounded(collector: Collector, device: FakeDevice):
    """At the bound a connector makes no more calls and says so; each connector has its own bound."""
    settings = collector.settings.intensity
    months = clock.now()
    for _ in range(99):
        assert collector.store.intensities.count_call("odre", months.year * 12 + months.month - 1, 100)
    object.__setattr__(settings, "odre_calls_per_month", 100)
    done = polled(collector)
    assert (done["odre"].outcome, done["odre_consolidated"].outcome) == ("quota", "quota")
    assert "until the next" in done["odre"].text
    assert len([one for one in device.asked if "/datasets/" in one.path]) == 1
    assert done["electricity_maps"].outcome == "done"


def test_electricity_maps_token(collector: Collector, token: Path, device: FakeDevice):
    """The token's file must be its owner's alone; only Electricity Maps gets it, and no error holds it."""
    polled(collector)
    assert [TOKEN in str(one) for one in device.asked] == ["/v3/" in one.path for one in device.asked]
    token.chmod(0o640)
    done = polled(collector, NOW, None, "electricity_maps")["electricity_maps"]
    assert (done.outcome, "chmod 600" in done.text, TOKEN in done.text) == ("not_configured", True, False)
    token.chmod(0o600)
    token.write_text("another")
    done = polled(collector, NOW, None, "electricity_maps")["electricity_maps"]
    assert (done.outcome, "another" in done.text) == ("refused", False)
    for text in ("", "two words", "é", "x" * 5000):
        token.write_text(text)
        with pytest.raises(FetchError, match="does not hold a token"):
            read_token(str(token))


def test_when_it_is_due():
    """The consolidated table is due once a day; after failures the delay grows up to a day, at random."""
    minute = 60_000
    fine, failing = PollState("odre", NOW, NOW, 0, "done"), PollState("odre", NOW, None, 2, "timeout")
    assert is_due(None, "odre", 60, NOW, 0)
    assert is_due(fine, "odre", 60, NOW + minute, 0)
    assert not is_due(fine, "odre_consolidated", 60, NOW + 19 * HOUR, 0)
    assert is_due(fine, "odre_consolidated", 60, NOW + 20 * HOUR, 0)
    assert [is_due(failing, "odre", 60, NOW + hours * HOUR, 0) for hours in (2, 3)] == [False, True]
    assert [is_due(failing, "odre", 60, NOW + hours * HOUR, 1) for hours in (4, 5)] == [False, True]
    assert is_due(replace(failing, failures=40), "odre", 60, NOW + 24 * HOUR, 0.4)
    assert not is_due(replace(failing, failures=40), "odre", 60, NOW + 17 * HOUR, 0)
    assert is_due(fine, "odre_consolidated", 60, NOW - 5 * DAY, 0), "a clock that was set back"


def test_windows(collector: Collector):
    """Windows are whole quarters, from the last value less 20 hours, else from `days` back; consolidated ones
    from the oldest real time."""
    realtime, late = BY_DATASET[PATHS[1]], BY_DATASET[PATHS[2]]
    end = NOW - 7 * 60_000
    assert window(realtime, [], 30, NOW) == (end - 30 * DAY, end)
    polled(collector, NOW, None, "odre")
    states = ledger(collector).states()
    assert window(realtime, states, 30, NOW + HOUR) == (end - 20 * HOUR, end + HOUR)
    assert window(late, states, 1, NOW) == (end - 2 * DAY, end)


def test_off_by_default(tmp_path: Path):
    """No connector is enabled by default."""
    assert not settings_in(tmp_path).intensity.polled
    assert enabled_connectors(IntensitySettings()) == ()


def test_the_process_that_polls(place: CollectorSettings, device: FakeDevice):
    """The process polls over the socket; a second poll at once finds only real time due."""
    command = [sys.executable, "-m", "veilleuse.collector.grid"]
    with served(place) as one:
        for _ in range(2):
            done = ran(command, env=child_environment(place))
            assert done.returncode == 0, done.stderr
        asked = [path for path in PATHS for said in device.asked if path in said.path]
        assert asked.count(PATHS[2]) == 1
        assert asked.count(PATHS[1]) >= 2
        device.refuse()
        done = ran(command, env=child_environment(place))
        assert done.returncode == 3
        assert one.collector.operations.perform("ping", {})["pid"]
    done = subprocess.run(command, env=child_environment(place), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no collector runs" in done.stderr


def test_the_thread_that_starts_it(tmp_path: Path):
    """A program that hangs is ended and started again, and it is ended when the schedule stops."""
    log = tmp_path / "log"
    text = f"import os; open({str(log)!r}, 'a').write(f'{{os.getpid()}}\\n')\n{HANGS}"
    made = PollSchedule(
        [sys.executable, "-c", text], {}, interval_seconds=0.05, first_seconds=0.0, longest_seconds=2.0
    )
    made.start()
    until(lambda: log.exists() and len(log.read_text().splitlines()) >= 2)
    made.stop()
    until(lambda: not any(psutil.pid_exists(int(pid)) for pid in log.read_text().split()))
    missing = PollSchedule([str(tmp_path / "none")], {}, interval_seconds=60, first_seconds=0.0)
    missing.start()
    missing.stop()
