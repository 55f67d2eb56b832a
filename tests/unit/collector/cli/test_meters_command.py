# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse meters import|list|show`: whole imports, and the balance of a room."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support import clock
from tests.support.closed_years import Command, command, lead_commands_to
from tests.support.machines import Served, make, served, settings_in
from tests.support.memory_store import host as memory_host
from tests.support.pushes import HOUR, enrol
from tests.support.steps import counted
from tests.support.waiting import PATIENCE_SECONDS
from veilleuse.collector.admin.meter_rows import MeterDeclaration, check_rows
from veilleuse.collector.admin.meters import rows_of
from veilleuse.collector.app.data_directory import open_collector
from veilleuse.collector.cli.doctor.meters import check_meters
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.hosts import Host, HostStatus
from veilleuse.collector.model.inventory import AssetRecord, Placement
from veilleuse.collector.model.meters import MeterDeclarations, MeterReading, RoomServer
from veilleuse.collector.model.records import AgentId, Grain, HostId
from veilleuse.collector.model.sums import DirtyPeriod
from veilleuse.collector.settings import CollectorSettings
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import DeviceClass, PointKind, Population

MIDNIGHT = 1_772_406_000_000  # 2026-03-01T23:00Z: 2 March begins in Lyon
TREE = """\
meter,site,room,boundary,parent,host,share,from
ups,Lyon,DC1,ups_output,,,,
pdu-1,Lyon,DC1,outlet,ups,{one},0.5,2026-01-01
pdu-1,,,,,{two},0.25,2026-01-01
"""


class Place:
    """Holds a data directory with machines, for the commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings: CollectorSettings = settings_in(folder)
        make(self.settings, "Lyon")
        with open_collector(self.settings) as collector:
            registry = collector.store.registry

            def job() -> list[HostId]:
                made = [enrol(registry, population, "Lyon") for population in Population]
                virtual = pb.Facts(device_class=pb.DEVICE_CLASS_VIRTUAL_MACHINE).SerializeToString()
                token = registry.tokens()[0].token_id
                made.append(
                    registry.insert_host(
                        agent_id=AgentId(b"\xee" * 16),
                        token_id=token,
                        org_entity="DSI",
                        site="Lyon",
                        population=Population.SERVER,
                        status=HostStatus.ACTIVE,
                        enrolled_on=date(2026, 1, 1),
                        facts_wire=virtual,
                    )
                )
                return made

            collector.writer.submit(job).result(PATIENCE_SECONDS)
            self.agents = {host.population: host.agent_id.hex() for host in registry.hosts()[:3]}
            self.host_ids = {host.population: host.host_id for host in registry.hosts()[:3]}

    def file(self, text: str, name: str = "meters.csv") -> str:
        """Write a file and return its path; {one}, {two} and {desk} become agent ids."""
        path = self.folder / name
        names = {
            "one": self.agents[Population.SERVER],
            "two": self.agents[Population.CLASSROOM],
            "desk": self.agents[Population.WORKSTATION],
        }
        for key, value in names.items():
            text = text.replace("{" + key + "}", value)
        path.write_text(text, encoding="utf-8")
        return str(path)

    def read(self, meter: str, energy: int, hour: int = MIDNIGHT) -> None:
        """Store an hour of a meter, in millijoules."""
        with open_collector(self.settings) as collector:
            period = DirtyPeriod(self.host_ids[Population.SERVER], Grain.HOUR, hour)
            reading = MeterReading(meter, PointKind.PDU, energy, HOUR)
            collector.writer.submit(lambda: collector.store.metering.put_readings(period, [reading])).result(
                PATIENCE_SECONDS
            )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Make a place with one machine of each population, and a virtual machine."""
    made = Place(tmp_path)
    lead_commands_to(made.settings, monkeypatch)
    return made


@pytest.fixture
def veilleuse(capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function: `veilleuse("meters", "list")` → (exit code, output, errors)."""
    return command(capsys, "meters")


def listed(veilleuse: Command) -> list[dict[str, Any]]:
    """Return the declared meters and rooms."""
    code, out, _ = veilleuse("list", "--json")
    assert code == 0
    found: list[dict[str, Any]] = json.loads(out)
    return found


def test_a_dry_run_then_the_import_then_again(place: Place, veilleuse: Command):
    """The dry run lists the changes, the import makes them, and a second import changes nothing."""
    file = place.file(TREE)
    code, out, _ = veilleuse("import", file, "--dry-run")
    assert (code, "would change: ups, pdu-1" in out) == (0, True)
    assert listed(veilleuse) == []
    code, out, _ = veilleuse("import", file)
    assert (code, "changed: ups, pdu-1" in out) == (0, True)
    pdu, ups = listed(veilleuse)
    assert (ups["boundary"], pdu["parent"]) == ("ups_output", "ups")
    assert {(share["host"], share["share"], share["to"]) for share in pdu["shares"]} == {
        (place.agents[Population.CLASSROOM], 0.25, None),
        (place.agents[Population.SERVER], 0.5, None),
    }
    code, out, _ = veilleuse("import", file)
    assert (code, "changed: nothing" in out) == (0, True)


def test_one_refused_row_and_nothing_is_imported(place: Place, veilleuse: Command):
    """Each refused row has its place and reason, and the good rows are not imported."""
    bad = TREE + "pdu-2,Lyon,DC1,outlet,nowhere,{desk},1,2026-01-01\npdu-1,,,,,{one},0.5,2026-02-30\n"
    code, out, err = veilleuse("import", place.file(bad))
    assert code == 1
    assert "line 5: there is no meter 'nowhere', which is its parent" in out
    assert "line 5: a workstation sends days and weeks" in out
    assert "line 6: 'from' 2026-02-30 is not a date" in out
    assert "3 rows of meters.csv refused: nothing was imported" in err
    assert listed(veilleuse) == []


def with_hosts(text: str) -> tuple[str, list[Host]]:
    """Replace {one} and {two} by agent ids; return hosts: a server, a classroom PC and a virtual machine."""
    hosts = [
        memory_host(1, population=Population.SERVER, place="Lyon"),
        memory_host(2, population=Population.CLASSROOM),
        replace(
            memory_host(3, DeviceClass.VIRTUAL_MACHINE, Population.SERVER), agent_id=AgentId(b"\xee" * 16)
        ),
    ]
    one, two = (host.agent_id.hex() for host in hosts[:2])
    return text.replace("{one}", one).replace("{two}", two), hosts


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("m,Paris,R,outlet,,,,", "no site 'Paris'"),
        ("m,Lyon,R,socket,,,,", "'boundary' socket: use"),
        ("m,Lyon,R<,outlet,,,,", "not a name of a room"),
        ("m/1,Lyon,R,outlet,,,,", "not a name of a meter"),
        ("m,Lyon,R,outlet,m,,,", "the meter is below itself"),
        ("m,Lyon,R,outlet,,{one},1.5,2026-01-01", "must be 0 to 1"),
        ("m,Lyon,R,outlet,,{one},0.1234567,2026-01-01", "at most six decimals"),
        ("m,Lyon,R,outlet,,{one},0,2026-01-01", "must be 0 to 1"),
        ("m,Lyon,R,outlet,,{one},,2026-01-01", "'share' is missing"),
        ("m,Lyon,R,outlet,,{one},1,", "'from' is missing"),
        ("m,Lyon,R,outlet,,ffffff,1,2026-01-01", "no host 'ffffff'"),
        ("m,Lyon,R,outlet,,eeeeeee,1,2026-01-01", "'eeeeeee' is too short to name a host"),
        ("m,Lyon,R,outlet,,eeeeeeee,1,2026-01-01", "a virtual machine has no outlet"),
        ("m,Lyon,R,outlet,,{one},0.6,2026-01-01\nm,,,,,{two},0.5,2026-06-01", "more than 1 on 2026-06-01"),
        (
            "m,Lyon,R,outlet,,{one},0.1,2026-01-01\nm,,,,,{one},0.1,2026-06-01",
            "two shares of m on 2026-06-01",
        ),
        ("m,Lyon,R,outlet,,,,\nm,Lyon,S,outlet,,,,", "'room' of m is 'R' on line 2"),
        ("m,Lyon,R,outlet,,,,\nn,Lyon,S,outlet,m,,,", "m is in room R, not S"),
        ("m,Lyon,R,outlet,,,,\nn,Lyon,R,ups_input,m,,,", "cannot be below one at outlet"),
        ("m,Lyon,R,outlet,,,,\nn,Oullins,R,outlet,,,,", "room R is at Lyon and at Oullins"),
        ("m,Lyon,R,overhead,,{one},1,2026-01-01", "only cooling and lighting: no machine has a share"),
        ("m,Lyon,R,outlet,,{one},nan,2026-01-01", "'share' nan must be 0 to 1"),
        ("m,Lyon,R,outlet,,{one},sNaN,2026-01-01", "'share' sNaN must be 0 to 1"),
        ("m,Lyon,R,outlet,,{one},-inf,2026-01-01", "'share' -inf must be 0 to 1"),
        ("m,Lyon,R,outlet,,{one},1e999999,2026-01-01", "'share' 1e999999 must be 0 to 1"),
        ("m,Lyon,R,outlet,,{one},1e-999999,2026-01-01", "'share' 1e-999999 must be 0 to 1"),
        ("m,Lyon,R,outlet,,{one},1,1999-12-31", "'from' 1999-12-31 is not between 2000-01-01 and"),
        ("m,Lyon,R,outlet,,{one},1,9999-12-31", "'from' 9999-12-31 is not a date: write YYYY-MM-DD"),
    ],
)
def test_what_is_refused_and_why(line: str, why: str):
    """The reason is in the words of the file."""
    line, hosts = with_hosts(line)
    rows = rows_of("meter,site,room,boundary,parent,host,share,from\n" + line + "\n", "m.csv")
    refused = check_rows(rows, MeterDeclarations(), hosts, frozenset({"Lyon", "Oullins"})).refused
    assert any(why in reason for _, reason in refused), refused


def test_a_pue_that_is_refused_is_named_by_its_place_in_the_file():
    """The second PUE overlaps the third; the refused first one does not change their numbers."""
    text = "".join(
        f'[[pue]]\nroom = "{room}"\npue = 1.4\nfrom = 2026-0{month}-01\nto = 2026-12-31\n'
        for room, month in (("R<", 1), ("R", 1), ("R", 6))
    )
    refused = check_rows(rows_of(text, "m.toml"), MeterDeclarations(), [], frozenset({"Lyon"})).refused
    assert [where for where, _ in refused] == ["pue 1", "pue 3"]
    assert refused[1][1] == "R has two PUEs on 2026-06-01"


def test_a_large_file_takes_few_steps():
    """Ten thousand shares, half of them on one meter, and as many PUEs are fast, because the writer waits: no
    row is compared with all others."""
    hosts = [memory_host(number, population=Population.SERVER) for number in range(13_000)]
    lines = ["meter,site,room,boundary,parent,host,share,from,to"]
    for number in range(10_000):
        meter = "big" if number % 2 else f"m{number}"
        day = date(2026, 1, 1) + timedelta(days=number // 2)
        lines.append(f"{meter},Lyon,R,,,{hosts[number].agent_id.hex()},0.0001,{day},{day}")
    rows = rows_of("\n".join(lines) + "\n", "m.csv")
    first = date(2026, 1, 1)
    for number in range(10_000):
        text = (first + timedelta(days=number)).isoformat()
        rows.append(
            MeterDeclaration("pue", f"pue {number}", {"room": "R", "pue": "1.4", "from": text, "to": text})
        )
    checked, steps = counted(lambda: check_rows(rows, MeterDeclarations(), hosts, frozenset({"Lyon"})))
    assert steps < 20_000 * 200
    assert (checked.refused, len(checked.shares), len(checked.pues)) == ([], 10_000, 10_000)


def test_shares_may_follow_each_other_and_fill_the_meter(place: Place, veilleuse: Command):
    """Shares of a half each until May and the whole from June are at most 1 on any day."""
    text = (
        "meter;site;room;host;share;from;to\n"
        "m;Lyon;R;{one};0,5;2026-01-01;2026-05-31\n"
        "m;Lyon;R;{two};0,5;2026-01-01;2026-05-31\n"
        "m;Lyon;R;{two};1;2026-06-01;\n"
    )
    code, out, err = veilleuse("import", place.file(text))
    assert (code, err) == (0, ""), out
    assert len(listed(veilleuse)[0]["shares"]) == 3


def test_a_toml_file_with_a_plug_and_a_pue(place: Place, veilleuse: Command):
    """A plug shared with a screen, a UPS with its efficiency, and a room's PUE are imported."""
    text = """
[[meter]]
meter = "ups"
site = "Lyon"
room = "DC1"
boundary = "ups_output"
efficiency = 0.94

[[meter]]
meter = "plug-7"
site = "Lyon"
room = "R7"
share = [
  { host = "{two}", share = 0.8, from = 2026-01-01 },
  { host = "{two}", part = "monitor", share = 0.2, from = 2026-01-01 },
]

[[pue]]
room = "DC1"
pue = 1.4
from = 2026-01-01
to = 2026-12-31
"""
    code, out, _ = veilleuse("import", place.file(text, "meters.toml"))
    assert code == 0, out
    assert "2 meters, 2 shares, 1 PUE; changed: ups, plug-7, DC1" in out
    plug, ups = listed(veilleuse)
    assert [share["part"] for share in plug["shares"]] == ["machine", "monitor"]
    assert ups["efficiency"] == 0.94


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("m.txt", "x", "neither .csv nor .toml"),
        ("m.csv", "meter,wat\n", "unknown column 'wat'"),
        ("m.csv", "site\nLyon\n", "no column 'meter'"),
        ("m.csv", "meter\n", "declares nothing"),
        ("m.csv", "meter\na,b\n", "m.csv: line 2 has more cells than columns: a decimal comma needs ;"),
        ("m.csv", " \n", "m.csv: it is empty"),
        ("m.csv", "meter,from,to,from\n", "line 1: column 'from' is there twice"),
        ("m.csv", f"meter\n{'x' * 200_000}\n", "line 2: field larger than field limit"),
        ("m.toml", "meter = 1", "must be tables"),
        ("m.toml", "[[meter]]\nwat = 1", "meter 1: unknown key 'wat'"),
        ("m.toml", "[[meter", "it is not TOML"),
        ("m.toml", "[[meters]]", "unknown table 'meters'"),
        (
            "m.csv",
            "room,site,host,share\nR,Lyon,ab,0.5\n",
            "line 2: 'share' belongs to a meter, and the line names none",
        ),
    ],
)
def test_a_file_without_form(name: str, text: str, why: str):
    """A malformed file is wrong use, before any row is checked."""
    with pytest.raises(UsageError, match=re.escape(why)):
        rows_of(text, name)


SERVERS = """\
meter,site,room,boundary,host,from,to
ups,Lyon,DC1,ups_output,,,
,Lyon,DC1,,*,2026-01-01,
,Lyon,bench,,{one},2026-01-01,2026-05-31
"""


def test_servers_that_stand_in_rooms(place: Place, veilleuse: Command):
    """A site has a default room, and one server another room until May; a second import changes nothing."""
    file = place.file(SERVERS)
    code, out, err = veilleuse("import", file)
    assert (code, err) == (0, "")  # the placement ends in May, which is over
    assert "1 meter, 0 shares, 0 PUEs, 2 placed servers; changed: ups, DC1, bench" in out
    _, default, bench = listed(veilleuse)
    assert default == {
        "room": "DC1",
        "site": "Lyon",
        "servers": [{"host": "*", "from": "2026-01-01", "to": None}],
    }
    assert bench["servers"] == [
        {"host": place.agents[Population.SERVER], "from": "2026-01-01", "to": "2026-05-31"}
    ]
    out = veilleuse("list")[1]
    assert "* from 2026-01-01\n" in out
    assert "from 2026-01-01 to 2026-05-31\n" in out
    assert "changed: nothing" in veilleuse("import", file)[1]
    toml = '[[server]]\nroom = "DC1"\nsite = "Lyon"\nhost = "{one}"\nfrom = 2026-06-01\n'
    assert "changed: DC1" in veilleuse("import", place.file(toml, "servers.toml"))[1]
    assert listed(veilleuse)[1]["servers"][0]["host"] == place.agents[Population.SERVER]


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (",Lyon,R<,,{one},2026-01-01,", "not a name of a room"),
        (",Paris,R,,{one},2026-01-01,", "no site 'Paris'"),
        (",Lyon,R,,{one},,", "'from' is missing"),
        (",Lyon,R,,{two},2026-01-01,", "only a server can be in a room without a share"),
        (",Lyon,R,,eeeeeeee,2026-01-01,", "a virtual machine is in no room"),
        (",Lyon,R,,#7,2026-01-01,", "no server of the inventory has the number '#7'"),
        (",Oullins,R,,*,2026-01-01,\nm,Lyon,R,outlet,,,", "room R is at Lyon, not Oullins"),
        (",Oullins,S,,{one},2026-01-01,", "is at Lyon, and room S at Oullins: name a room of its site"),
        (",Lyon,R,,#8,2026-01-01,", "server '#8' is at Oullins, and room R at Lyon"),
        (
            ",Lyon,R,,{one},2026-01-01,\n,Lyon,S,,{one},2026-06-01,",
            "the same server is in R and in S on 2026-06-01",
        ),
        (",Lyon,R,,*,2026-01-01,\n,Lyon,S,,*,2026-06-01,", "every other server of Lyon is in R and in S"),
        (",Lyon,R,,*,2026-01-01,", "every other server of Lyon is in known and in R on 2026-01-01"),
    ],
)
def test_servers_that_are_refused(lines: str, why: str):
    """A server is in one room on any day; a site has one default room, from this file or an earlier one."""
    lines, hosts = with_hosts(lines)
    rows = rows_of("meter,site,room,boundary,host,from,to\n" + lines + "\n", "m.csv")
    before = RoomServer("known", "Lyon", None, None, date(2025, 1, 1), date(2026, 1, 1))
    asset = AssetRecord(
        8,
        "s",
        "computer",
        "8",
        device_class="server",
        placements=(Placement(before.valid_from, "DSI", "Oullins"),),
    )
    refused = check_rows(
        rows, MeterDeclarations(servers=(before,)), hosts, frozenset({"Lyon", "Oullins"}), [asset]
    ).refused
    assert any(why in reason for _, reason in refused), refused


def test_the_balance_of_a_room(place: Place, veilleuse: Command):
    """Only the period's hours count; exit code 3 means that the children count too much."""
    assert veilleuse("import", place.file(TREE))[0] == 0
    for hour, energies in ((MIDNIGHT, (4_000, 3_000)), (MIDNIGHT - HOUR, (9_000, 1_000))):
        place.read("ups", energies[0], hour)
        place.read("pdu-1", energies[1], hour)
    code, out, _ = veilleuse("show", "DC1", "--from", "2026-03-02", "--to", "2026-03-03", "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["machines_millijoules"], found["other_room_millijoules"]) == (2_250, 1_750)
    assert (found["overhead"], found["kwh_ups_loss"], found["kwh_overhead"]) == ("not_included", None, None)
    assert found["notes"] == ["ups: the loss of the UPS is not known"]
    place.read("pdu-1", 4_300, MIDNIGHT)
    code, out, _ = veilleuse("show", "DC1", "--from", "2026-03-02", "--to", "2026-03-03")
    assert code == 3
    assert "ERROR: below -5 %" in out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("DC9", "--from", "2026-03-02", "--to", "2026-03-03"), "no room 'DC9': none is declared"),
        (("DC1", "--from", "2026-03-02", "--to", "2026-03-02"), "must be before"),
        (("DC1", "--from", "yesterday", "--to", "2026-03-02"), "is not a date"),
    ],
)
def test_what_cannot_be_shown(place: Place, veilleuse: Command, words: tuple[str, ...], why: str):
    """Wrong use gives exit code 2."""
    code, _, err = veilleuse("show", *words)
    assert (code, why in err) == (2, True)


def test_a_long_file_through_the_running_collector(place: Place, veilleuse: Command):
    """Three thousand meters, more than the socket accepted before, are imported in one job."""
    lines = [f"outlet-{number:04},Lyon,DC1,outlet,,,," for number in range(3_000)]
    file = place.file("meter,site,room,boundary,parent,host,share,from\n" + "\n".join(lines) + "\n")
    with served(place.settings) as running:
        assert isinstance(running, Served)
        code, out, err = veilleuse("import", file)
    assert code == 0, err
    assert "3000 meters" in out
    assert len(listed(veilleuse)) == 3_000


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("meter,room\nm,Bâtiment\n".encode("latin-1"), "is not UTF-8: save it as UTF-8"),
        ("meter,room\n".encode("utf-16"), "is not UTF-8"),
        (b"\0\0\0", "holds a null character"),
        (b"m" * 800_000, "it has 800,000 bytes, at most 786,432 are read; import it in parts"),
        (None, "it is a directory, no regular file; name a file in it"),
    ],
)
def test_what_is_no_file_of_meters(place: Place, veilleuse: Command, content: bytes | None, why: str):
    """The line names the file and the remedy, the exit code is 2, and nothing is imported."""
    path = place.folder / "m.csv"
    path.mkdir() if content is None else path.write_bytes(content)
    code, out, err = veilleuse("import", str(path))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert str(path) in err
    assert why in err
    assert listed(veilleuse) == []


def test_a_tab_between_the_columns(place: Place, veilleuse: Command):
    """Tabs, as copied from a spreadsheet, allow decimal commas."""
    text = "meter\tsite\troom\thost\tshare\tfrom\nm\tLyon\tR\t{one}\t0,5\t2026-01-01\n"
    assert veilleuse("import", place.file(text))[0] == 0
    assert listed(veilleuse)[0]["shares"][0]["share"] == 0.5


def test_a_meter_that_nobody_declared_and_one_that_nobody_reads(place: Place, veilleuse: Command):
    """When a name is written in two ways, the list has both with their last reading."""
    assert veilleuse("import", place.file(TREE))[0] == 0
    place.read("ups", 1)
    place.read("pdu_1", 1)
    assert {one["meter"]: one["last_read"] for one in listed(veilleuse)} == {
        "ups": "2026-03-01T23:00:00+00:00",
        "pdu-1": None,
        "pdu_1": "2026-03-01T23:00:00+00:00",
    }
    _, out, _ = veilleuse("list")
    assert "pdu_1\tnot declared\t\t\t2026-03-01T23:00\t\n" in out
    found = list(check_meters(place.settings))
    assert [one.outcome for one in found] == ["warning", "warning"]
    assert "2 of 2 declared meter(s) not read for 2 days: pdu-1, ups" in found[0].text
    assert "1 meter(s) are read, and nobody has declared them: pdu_1" in found[1].text
    this_hour = clock.unix_milliseconds() // HOUR * HOUR
    for meter in ("ups", "pdu-1"):
        place.read(meter, 1, this_hour)
    assert next(check_meters(place.settings)).outcome == "good"


def test_what_was_not_read_is_not_known(place: Place, veilleuse: Command):
    """Absent is never zero: a meter without a reading has no energy, a room without any no balance."""
    assert veilleuse("import", place.file(TREE))[0] == 0
    march = ("DC1", "--from", "2026-03-02", "--to", "2026-03-03")
    code, out, err = veilleuse("show", *march)
    assert (code, out) == (1, "")
    assert (
        "room 'DC1' has no reading from 2026-03-02 to 2026-03-03: none was read, or they are older than 13 months"
        in err
    )
    place.read("pdu-1", 3_600_000)
    _, out, _ = veilleuse("show", *march, "--json")
    pdu, ups = json.loads(out)["meters"]
    assert (pdu["energy_millijoules"], pdu["hours"]) == (3_600_000, 1)
    assert (ups["energy_millijoules"], ups["residual_millijoules"], ups["hours"]) == (None, None, 0)
    _, out, _ = veilleuse("show", *march)
    assert "ups\tups_output\t0\tnot known\tnot known\tnot known\tnot known" in out
