# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests that a server in a metered room counts once: in its class, and not again in the remainder of its
room.

One UPS of 1,000 W over March is 744 kWh of IT, whatever agents and inventory report of the servers behind it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.support.closed_years import TODAY, lead_commands_to, put
from tests.support.machines import settings_in
from tests.support.rooms import END, FIRST, HOUR, HOURS, SINCE, Room, stands
from tests.support.sources import opened
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.cli.doctor.meters import check_meters
from veilleuse.collector.cli.main import run
from veilleuse.collector.model.meters import (
    FOR_EVER,
    DeclaredMeter,
    MeterBoundary,
    MeterDeclarations,
    MeterShare,
    Pue,
    RoomServer,
    SharePart,
    rooms_without_meter,
)
from veilleuse.collector.reports.close_year import ClosingOrder, propose
from veilleuse.collector.reports.fleet_publication import compute_servers
from veilleuse.wire.vocabulary import DeviceClass, Population

pytestmark = pytest.mark.any_date


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    """Return a room whose settings are in the environment."""
    settings = settings_in(tmp_path, **{"closing.coverage_minimum_ratio": "0"})
    lead_commands_to(settings, monkeypatch)
    return Room(settings)


Report = Callable[..., dict[str, Any]]


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Report:
    """Return a function that runs `veilleuse report emissions`: its JSON, and its messages as `errors`."""

    def make(first: date = FIRST, end: date = END, by: str = "site,device_class") -> dict[str, Any]:
        words = ["report", "emissions", "--from", f"{first}", "--to", f"{end}", "--group-by", by, "--format"]
        code = run([*words, "json"])
        out, errors = capsys.readouterr()
        assert code == 0, errors
        found: dict[str, Any] = json.loads(out)
        return {**found, "errors": errors}

    return make


def kwh(made: dict[str, Any]) -> dict[str, float]:
    """Return kWh of each class, of IT and of the meters."""
    (total,) = made["totals"]
    found: dict[str, float] = {"it": total["kwh_it"], "top_down": total["top_down_kwh"]}
    for row in made["rows"]:
        found[row["device_class"]] = found.get(row["device_class"], 0) + row["kwh_total"]
    whole = sum(row["energy_millijoules"] for row in made["rows"])
    assert whole == total["energy_millijoules"]
    return found


def test_a_server_of_the_room_counts_once(room: Room, report: Report):
    """372 kWh are measured, a third server is estimated at 186, and 186 of 744 remain. IT was 1,302 kWh."""
    room.server(300), room.server(200)
    room.inventory(others=1)
    room.meter(1_000)
    room.declare(stands())
    found = report()
    assert kwh(found) == {"it": 744, "top_down": 744, "server": 558, "other_room": 186}
    assert "servers_in_no_room" not in found["report"]
    assert found["errors"] == ""


def test_a_room_of_measured_servers(room: Room, report: Report):
    """Two servers read by their BMC leave the other half of the meter's energy. The total was 1,116 kWh."""
    room.server(300), room.server(200)
    room.meter(1_000)
    room.declare(*(stands(host) for host in room.servers))
    assert kwh(report()) == {"it": 744, "top_down": 744, "server": 372, "other_room": 372}


def test_what_nobody_measured_gives_way(room: Room, report: Report):
    """Three unmeasured servers take the 372 kWh that the meter leaves, not the 558 of their estimate."""
    room.server(300), room.server(200)
    room.inventory(others=3)
    room.meter(1_000)
    room.declare(stands())
    found = report()
    assert kwh(found) == {"it": 744, "top_down": 744, "server": 744, "other_room": 0}
    (servers,) = [row for row in found["rows"] if row["device_class"] == "server"]
    assert (servers["kwh_measured"], servers["kwh_extrapolated"]) == (372, 372)
    assert servers["kwh_lo_sample"] < 744 < servers["kwh_hi_sample"]


def test_a_room_with_a_pue(room: Room, report: Report):
    """With IT at the UPS's output, no loss and 50 % more for cooling, the total is 1,116 kWh."""
    room.server(300), room.server(200)
    room.inventory(others=1)
    room.meter(1_000)
    pue = Pue("DC1", date(2025, 1, 1), date(2025, 12, 31), 1_500_000, MeterBoundary.UPS_OUTPUT)
    room.declare(stands(), pues=[pue])
    found = report()
    assert kwh(found) == {"it": 744, "top_down": 744, "server": 558, "other_room": 186 + 372}
    (total,) = found["totals"]
    assert (total["kwh_ups_loss"], total["kwh_overhead"], total["overhead"], total["kwh_total"]) == (
        0,
        372,
        "pue",
        1_116,
    )


def test_servers_above_their_meter_are_an_error(
    room: Room, report: Report, capsys: pytest.CaptureFixture[str]
):
    """BMCs of 372 kWh exceed their meter of 297.6 kWh by more than ± 10 %. The error names the room, and
    `meters show` exits 3."""
    room.server(300), room.server(200)
    room.meter(400)
    room.declare(stands())
    found = report()
    assert kwh(found) == {"it": 372, "top_down": 297.6, "server": 372, "other_room": 0}
    error = "ERROR: room DC1, 2025-03-01 to 2025-04-01: its servers count 372.0 kWh and its meters 297.6 kWh"
    assert found["errors"].startswith(error)
    assert any("ERREUR : salle DC1, 2025-03-01 à 2025-04-01" in text for text in found["assumptions"])
    assert run(["meters", "show", "DC1", "--from", f"{FIRST}", "--to", f"{END}"]) == 3
    assert error in capsys.readouterr().out


def test_servers_a_little_above_their_meter(room: Room, report: Report):
    """2 % above the meter lies within the BMCs' error, and gives a warning instead of an error."""
    room.server(300), room.server(200)
    room.meter(490)
    room.declare(stands())
    errors = report()["errors"]
    assert errors.startswith("Warning: room DC1")
    assert "within their 95 % interval" in errors


def test_two_rooms_without_a_default(room: Room, report: Report, capsys: pytest.CaptureFixture[str]):
    """Servers declared in no room are named by the report, the doctor and an import."""
    first, second = room.server(300), room.server(200)
    room.inventory(others=1)
    room.meter(600)
    room.meter(400, "ups-2", "DC2")
    agents = {host.host_id: host.agent_id.hex()[:12] for host in room.filled.store.registry.hosts()}
    room.declare()
    found = report()
    assert kwh(found)["it"] == 1_302
    assert found["report"]["servers_in_no_room"] == sorted(["#3", agents[first], agents[second]])
    assert "in other_room: #3, " in found["errors"]
    assert any(agents[first] in text for text in found["assumptions"])
    run(["doctor"])
    assert "3 server(s) of a site with a metered room are declared in no room" in capsys.readouterr().out
    file = room.settings.data_dir.parent / "meters.csv"
    file.write_text("meter,site,room,boundary\nups,dc,DC1,ups_output\n")
    assert run(["meters", "import", str(file)]) == 0
    text = "3 servers of a site with a metered room declared in no room, may count twice: #3, "
    assert text in capsys.readouterr().err


def test_a_declared_server_and_the_default_room(room: Room, report: Report):
    """A server and an asset are in DC2 by declaration, the others in DC1, the site's default."""
    room.server(300), room.server(200)
    room.inventory(others=2)
    room.meter(600)
    room.meter(600, "ups-2", "DC2")
    room.declare(stands(), stands(room.servers[1], room="DC2"), stands(asset=4, room="DC2"))
    found = report()
    assert kwh(found) == {"it": 892.8, "top_down": 892.8, "server": 744, "other_room": pytest.approx(148.8)}
    assert found["errors"] == ""


def test_a_server_moves(room: Room, report: Report):
    """A server that moves on 17 March has half of its energy in either room, and both rooms are complete."""
    room.server(300)
    room.meter(300)
    room.meter(300, "ups-2", "DC2")
    host = room.servers[0]
    moved = RoomServer("DC1", "dc", host, None, SINCE, date(2025, 3, 16))
    room.declare(moved, stands(host, room="DC2", first=date(2025, 3, 17)))
    found = report()
    assert kwh(found) == {"it": 446.4, "top_down": 446.4, "server": 223.2, "other_room": 223.2}
    assert found["errors"] == ""


def test_a_meter_that_was_read_for_half_of_the_month(room: Room, report: Report):
    """Energy of servers before the meter's first reading on 17 March takes nothing from later readings."""
    room.server(300), room.server(200)
    room.inventory(others=1)
    room.meter(1_000, first=date(2025, 3, 17))
    room.declare(stands())
    found = kwh(report())
    assert found["top_down"] == 360
    assert (found["server"], found["other_room"]) == (558, 90)


def test_a_meter_that_covers_half_of_each_hour(room: Room, report: Report):
    """A meter that covers half of each hour has half of the servers' energy: 372 − 186 − 93 remain."""
    room.server(300), room.server(200)
    room.inventory(others=1)
    room.meter(1_000, covered=HOUR // 2)
    room.declare(stands())
    assert kwh(report()) == {"it": 651, "top_down": 372, "server": 558, "other_room": 93}


def test_a_feed_that_was_not_read(room: Room, report: Report):
    """While one of two feeds is silent, the servers' share of the other one is unknown. These 360 h are in no
    figure of the room, and the report says so."""
    room.server(300), room.server(200)
    room.meter(500)
    room.meter(500, "ups-2", end=date(2025, 3, 17))
    room.declare(stands())
    found = report()
    assert kwh(found)["top_down"] == 384
    assert kwh(found)["other_room"] == 192
    assert "room DC1, 2025-03-01 to 2025-04-01: 360 h without one of its meters " in found["errors"]


def test_months_sum_to_the_year(room: Room, report: Report):
    """February and March have the same energy of meters and room in months and as a whole, in millijoules."""
    since = date(2025, 2, 1)
    room.server(300, since), room.server(200, since)
    room.inventory(others=2)
    room.meter(1_000, first=since)
    room.declare(stands())
    months, whole = report(since, END, "month,site,device_class"), report(since, END)
    (total,) = whole["totals"]
    assert sum(row["energy_millijoules"] for row in months["rows"]) == total["energy_millijoules"]
    for made in (*months["totals"], total):
        assert made["kwh_it"] == made["top_down_kwh"]
    assert total["kwh_it"] == sum(row["kwh_it"] for row in months["totals"]) == 1_416


def test_a_classroom_on_a_plug_is_in_no_rooms_figure(room: Room, report: Report):
    """A PC's share of a plug is in no column of a room, since rooms have no rule of ten machines."""
    room.server(300)
    room.meter(300)
    pc = room.filled.add_host(Population.CLASSROOM, DeviceClass.TOWER, site="dc", enrolled_on=SINCE)
    room.meter(80, "plug", "R204")
    share = MeterShare("plug", pc, SharePart.MACHINE, 1_000_000, SINCE, FOR_EVER)
    room.declare(stands(), shares=[share])
    made = report()
    (other,) = [row for row in made["rows"] if row["device_class"] == "other_room"]
    assert (other["top_down_kwh"], other["kwh_total"]) == (223.2, 0)
    assert "servers_in_no_room" not in made["report"]


def test_a_room_with_a_share_of_a_pc_is_not_released(room: Room):
    """The overhead of a room with a PUE is of its PC's energy too: readers get the other rooms alone."""
    room.server(300)
    room.meter(1_000)
    pc = room.filled.add_host(Population.CLASSROOM, DeviceClass.TOWER, site="dc", enrolled_on=SINCE)
    room.meter(80, "plug", "R204")
    share = MeterShare("plug", pc, SharePart.MACHINE, 1_000_000, SINCE, FOR_EVER)
    pue = Pue("R204", date(2025, 1, 1), date(2025, 12, 31), 1_500_000, MeterBoundary.UPS_OUTPUT)
    room.declare(stands(), shares=[share], pues=[pue])
    with opened(room.settings.data_dir, room.settings.reporting) as sources:
        (other,) = compute_servers(sources, Slice(FIRST, END)).rooms
    assert (other.room, other.overhead_millijoules) == ("DC1", None)
    assert (other.other_millijoules, other.it_millijoules) == (700 * HOURS * HOUR, 1_000 * HOURS * HOUR)


def test_a_closed_year_says_the_same(room: Room, report: Report):
    """A year with March alone has the same figures open and closed; closing again changes nothing."""
    year = (date(2025, 1, 1), date(2026, 1, 1))
    room.server(300), room.server(200)
    room.inventory(others=1)
    room.meter(1_000)
    room.declare(stands())
    open_year = report(*year)
    (other,) = [row for row in open_year["rows"] if row["device_class"] == "other_room"]
    assert (other["top_down_kwh"], other["kwh_total"]) == (744, pytest.approx(186))
    order = ClosingOrder(2025, False, "me", "", 0, TODAY)
    with opened(room.settings.data_dir, room.settings.reporting) as sources:
        made = propose(sources, room.settings, order)
    put(room.settings, dict(made.report), made.file.statistics)
    closed = report(*year)
    assert closed["report"]["state"] == "closed_provisional"
    for one, other in zip(open_year["rows"], closed["rows"], strict=True):
        assert {name: other.get(name) for name in one} == {
            **one,
            "not_compared": "open",
        }  # 2024 is not closed
    with opened(room.settings.data_dir, room.settings.reporting) as sources:
        again = propose(sources, room.settings, order)
    assert not again.changed


def test_a_misspelt_room_is_named(room: Room, capsys: pytest.CaptureFixture[str]):
    """A misspelt room without a meter is named: its servers counted twice. An intended one is not."""
    room.server(300)
    room.inventory(others=1)
    room.meter(300, room="Salle serveurs")
    room.declare()
    file = room.settings.data_dir.parent / "rooms.csv"
    file.write_text("site,room,host,from\ndc,Salle serveur,*,2025-01-01\ndc,Hors onduleur,#1,2025-01-01\n")
    assert run(["meters", "import", str(file)]) == 0
    errors = capsys.readouterr().err
    text = "room 'Salle serveur' of dc has no meter: servers placed there are behind none ('Salle serveurs' of dc has one"
    assert f"warning: {text}: is it meant?)\n" in errors
    assert (
        "warning: room 'Hors onduleur' of dc has no meter: servers placed there are behind none\n" in errors
    )
    outcomes = {one.text: one.outcome for one in check_meters(room.settings) if "has no meter" in one.text}
    assert list(outcomes.values()) == ["good", "warning"]
    period = ("--from", f"{FIRST}", "--to", f"{END}")
    assert run(["meters", "show", "Hors onduleur", *period]) == 2
    assert "room 'Hors onduleur' is declared without a meter" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "likely"),
    [
        ("salle serveurs 1", "Salle serveurs 1"),
        ("Salle serveurs 01", "Salle serveurs 1"),
        ("Salle serveurs 2", None),
        ("Lab", None),
    ],
)
def test_a_room_of_another_number_is_not_misspelt(name: str, likely: str | None):
    """A room with another number is no misspelling, and a room of another site is not suggested."""
    meters = tuple(
        DeclaredMeter(site, site, room, MeterBoundary.ROOM)
        for site, room in (("dc", "Salle serveurs 1"), ("annex", "Lab 3"), ("annex", "Labo"))
    )
    servers = (RoomServer(name, "dc", None, None, SINCE, FOR_EVER),)
    ((text, is_misspelt),) = rooms_without_meter(MeterDeclarations(meters, servers=servers), SINCE)
    assert (is_misspelt, f"'{likely}' of dc has one" in text) == (likely is not None, likely is not None)
    assert (
        list(
            rooms_without_meter(
                MeterDeclarations(meters, servers=(replace(servers[0], valid_to=SINCE),)), END
            )
        )
        == []
    )
