# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A publication stays the same across restarts, moves, forgotten machines, two services, or no collector."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support import clock
from tests.support.filled import Filled, cell, civil
from tests.support.publishing import publish_months
from tests.support.reading import Reading
from veilleuse.collector.admin.publications import expire
from veilleuse.collector.app.data_directory import Collector, open_collector
from veilleuse.collector.calendars.periods import Slice, add_months
from veilleuse.collector.cli.main import run
from veilleuse.collector.errors import AdminError, StoreDamaged, StoreTooNew, UsageError
from veilleuse.collector.ipc import pieces_of
from veilleuse.collector.model.publications import MAXIMUM_BYTES, Publication, PublicationKind, content_of
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import Detail, EnergyClass, EnergySums, Group, GroupSums, StateSums
from veilleuse.collector.release.format import FORM
from veilleuse.collector.release.publications import PublicationCache, publish_nothing
from veilleuse.collector.release.tables import Hidden, Month
from veilleuse.collector.store.sqlite.publications import SqlitePublicationReader
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

pytestmark = pytest.mark.any_date

NOW, FIRST, END = datetime(2026, 11, 25, 10, 30, tzinfo=UTC), date(2026, 10, 1), date(2026, 11, 1)
OCTOBER, KINDS = "from=2026-10-01&to=2026-11-01", ("emissions", "energy", "coverage", "indicators")
GOLDEN = (
    '{"cells":[{"apportioned":true,"autres":false,"details_withheld":["coverage","derived","idle","methods","nights","outside","runs","use"],'
    '"device_class":"laptop","energies":[["laptop","load_modelled","open","off",0,18000000,900000]],"enrolled_milliseconds":0,'
    '"entity":"Lyon > Culture","hosts":12,"memo":false,"nights":null,"nights_are":"dates","population":"workstation",'
    '"states":[["open","off",3600000,null,null,null]],"zone":"FR"}],'
    '"hidden_cells":[],"hidden_uses":[{"device_classes":["tower"],"entities":["Lyon > Culture","Lyon > Voirie"],"family":{"autres":false,'
    '"device_class":null,"entity":null,"memo":false,"population":"workstation","zone":"FR"}}],'
    '"uses":[{"apportioned":true,"autres":true,"details_withheld":["coverage","derived","idle","methods","runs"],"device_class":"autres",'
    '"energies":[["autres","load_modelled","closed","on_active",0,7,0]],"enrolled_milliseconds":0,"entity":"autres","hosts":12,"memo":false,'
    '"nights":3,"nights_are":"dates","population":"workstation","states":[["open","off",3500000,null,null,null],'
    '["closed","on_active",100000,null,null,null]],"zone":"FR"}],'
    '"whole":[{"apportioned":true,"autres":false,"details_withheld":["idle","methods","nights","outside","runs","use"],"device_class":null,'
    '"energies":[["autres","load_modelled","open","off",3500000,0,0]],"enrolled_milliseconds":32140800000,"entity":null,"hosts":12,'
    '"memo":false,"nights":null,"nights_are":"dates","population":"workstation","states":[["open","off",3600000,null,null,null]],"zone":"FR"}],'
    '"withheld":[{"autres":false,"device_class":"monitor","entity":null,"memo":true,"population":"classroom","zone":"FR"}]}'
)
"""A month in format 2."""
KEY = GroupKey(
    FIRST, END, "FR", Population.WORKSTATION, memo=False, entity="Lyon > Culture", device_class="laptop"
)
WORKSTATIONS = GroupKey(FIRST, END, "FR", Population.WORKSTATION, memo=False)
AT_REST = (Band.OPEN, State.OFF)
OUTSIDE_ON = (Band.CLOSED, State.ON_ACTIVE)
COVERAGE = frozenset({Detail.COVERAGE, Detail.DERIVED})
MONTH = Month(
    Slice(FIRST, END),
    cells=(
        Group(
            KEY,
            GroupSums(
                12,
                0,
                {AT_REST: StateSums(3_600_000)},
                {(DeviceClass.LAPTOP, Method.LOAD_MODELLED, *AT_REST): EnergySums(0, 18_000_000, 900_000)},
                None,
                "dates",
                True,
                frozenset(Detail) - {Detail.ENERGIES},
            ),
        ),
    ),
    uses=(
        Group(
            KEY._replace(entity="autres", device_class="autres", autres=True),
            GroupSums(
                12,
                0,
                {AT_REST: StateSums(3_500_000), OUTSIDE_ON: StateSums(100_000)},
                {(EnergyClass.AUTRES, Method.LOAD_MODELLED, *OUTSIDE_ON): EnergySums(0, 7)},
                3,
                "dates",
                True,
                COVERAGE | {Detail.METHODS, Detail.IDLE, Detail.RUNS},
            ),
        ),
    ),
    whole=(
        Group(
            KEY._replace(entity=None, device_class=None),
            GroupSums(
                12,
                32_140_800_000,
                {AT_REST: StateSums(3_600_000)},
                {(EnergyClass.AUTRES, Method.LOAD_MODELLED, *AT_REST): EnergySums(3_500_000)},
                None,
                "dates",
                True,
                frozenset(Detail) - COVERAGE - {Detail.ENERGIES},
            ),
        ),
    ),
    withheld=(GroupKey(FIRST, END, "FR", Population.CLASSROOM, memo=True, device_class="monitor"),),
    hidden_uses=(Hidden(WORKSTATIONS, frozenset({"Lyon > Culture", "Lyon > Voirie"}), frozenset({"tower"})),),
)


def publication(content: str = GOLDEN, **changed: Any) -> Publication:
    """Return a publication of October."""
    return replace(Publication(PublicationKind.RELEASE, FIRST, END, 2, 10, "0.2", 0, content), **changed)


# --- the format of a month


def test_a_month_is_what_it_was():
    """The month is written in format 2 to the letter, and reads back equal."""
    content = FORM.encode(MONTH)
    assert json.dumps(content, sort_keys=True, separators=(",", ":")) == GOLDEN
    assert FORM.decode(json.loads(GOLDEN), FIRST, END) == MONTH


def test_a_month_by_site_is_none():
    """A month by another partition is never stored."""
    (group,) = MONTH.cells
    with pytest.raises(ValueError, match="no sites"):
        FORM.encode(replace(MONTH, cells=(replace(group, key=KEY._replace(site="lyon")),)))


def test_what_was_sent_is_bounded_and_whole():
    """A sent content is a JSON object in UTF-8 of bounded size, or is refused."""
    assert content_of(GOLDEN.encode()) == GOLDEN
    for wrong in (b"", "é".encode("latin-1"), GOLDEN.encode()[:-8], b"[]", b"no", b'{"a":"' + b" " * MAXIMUM_BYTES + b'"}'):  # fmt: skip
        with pytest.raises(ValueError):  # noqa: PT011  # of several kinds
            content_of(wrong)


# --- the store


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Filled]:
    """Open a store at NOW."""
    with Filled(tmp_path / "data", clock=NOW.timestamp) as filled:
        yield filled


def test_the_first_stays(data):
    """A second publication of a period is not stored, rows cannot change, and other periods are separate."""
    store = data.store.publications
    assert store.put(publication())
    assert not store.put(publication('{"groups":[]}'))
    with closing(SqlitePublicationReader(data.directory)) as reader:
        assert reader.find(PublicationKind.RELEASE, FIRST, END) == publication()
        assert reader.find(PublicationKind.RELEASE, FIRST, date(2026, 10, 31)) is None
    with pytest.raises(sqlite3.IntegrityError, match="never changed"):
        data.store.data.connection.execute("UPDATE published_periods SET content = '{}'")
    assert [(one.first, one.content_bytes) for one in store.summaries()] == [(FIRST, len(GOLDEN))]
    assert store.take_back(FIRST, date(2026, 10, 31)) == 0
    assert store.take_back(FIRST, END) == 1
    assert store.summaries() == ()


def test_the_store_has_an_end(data, monkeypatch):
    """Too many periods or bytes are refused with the publication's name."""
    where = "veilleuse.collector.store.sqlite.publications"
    store = data.store.publications
    store.put(publication())
    for name, most in (("MAXIMUM_PERIODS", 1), ("MAXIMUM_ALL_BYTES", 2 * len(GOLDEN) - 1)):
        with monkeypatch.context() as patched:
            patched.setattr(f"{where}.{name}", most)
            with pytest.raises(AdminError, match="no room for release 2026-11-01"):
                store.put(publication(first=END, end=date(2026, 12, 1)))
    assert store.put(publication(first=END, end=date(2026, 12, 1)))


def read(data: Filled, k: int = 10) -> Month | None:
    """Return October as a newly started service reads it."""
    with closing(SqlitePublicationReader(data.directory)) as reader:
        return PublicationCache(FORM, reader, lambda _: None, k).read(FIRST, END)


def test_what_cannot_be_read_names_itself(data):
    """Another version's format or damage is reported with its period, and never computed again."""
    store = data.store.publications
    store.put(publication(format=3))
    with pytest.raises(
        StoreTooNew, match="release 2026-10-01 to 2026-11-01 has format 3, this program knows 2"
    ):
        read(data)
    for damage in ('{"cells":[{}],"withheld":[]}', GOLDEN[:-3], GOLDEN.replace("laptop", "loptop"), "[]"):
        store.take_back(FIRST, END)
        store.put(publication(damage))
        with pytest.raises(StoreDamaged, match="take-back 2026-10-01 2026-11-01"):
            read(data)


def test_a_changed_rule_counts_for_months_published_from_then_on(data):
    """A publication with k = 10 stays shown after k is raised or lowered, and is not computed again."""
    data.store.publications.put(publication(k_anonymity=12))
    for k in (10, 12, 14):
        assert read(data, k) == MONTH
        with closing(SqlitePublicationReader(data.directory)) as reader:
            cache = PublicationCache(FORM, reader, publish_nothing, k)
            assert cache.figures(FIRST, END, END, lambda: MONTH) == MONTH


# --- answers


def dozen(data: Filled) -> list[HostId]:
    """Add twelve PCs of A and eleven of B, with parts of September and October."""
    hosts = []
    for number in range(23):
        host = data.add_host(
            Population.WORKSTATION,
            DeviceClass.LAPTOP,
            entity="A" if number < 12 else "B",
            enrolled_on=date(2026, 9, 1),
        )
        days = [date(2026, 9, 24) + timedelta(days=n) for n in range(12)]
        on = [cell(State.ON_IDLE, 3_600_000 + number, Band.NIGHT), cell(State.ON_ACTIVE, 900_000)]
        data.push(host, [(civil(day), on) for day in days])
        hosts.append(host)
    data.derive()
    return hosts


def answers(data: Filled, moment: datetime = NOW, query: str = OCTOBER) -> dict[str, Any]:
    """Publish what is due; return the measured answers of each kind by a newly started service."""
    publish_months(data, moment.date())
    with Reading(data, clock=moment.timestamp) as reading:
        token = reading.account(f"of-{len(data.store.accounts.accounts())}", days=200)
        found = {
            kind: reading.get(
                f"/api/v1/{kind}?{query}{'' if kind == 'indicators' else '&basis=observed'}", token
            ).json()
            for kind in KINDS
        }
    for answer in found.values():
        del answer["report"]["generated_unix_milliseconds"]
    return found


def measured_part(value: Any) -> Any:
    """Return answers without what follows the machines in service: the share of their time, and intervals."""
    if isinstance(value, dict):
        of_fleet = (
            "coverage_states",
            "u_model",
            "gsd2",
            "kwh_lo95",
            "kwh_hi95",
            "kgco2e_lo95",
            "kgco2e_hi95",
        )
        return {name: measured_part(part) for name, part in value.items() if name not in of_fleet}
    return [measured_part(part) for part in value] if isinstance(value, list) else value


@pytest.mark.promise("P6")
def test_nothing_moves_a_published_month(data, figure):
    """Late data, a move, a forgotten machine, a restart or two months change nothing that was measured,
    before a take-back. The machines in service may change, and the fleet's energy and coverage with them."""
    hosts = dozen(data)
    before = measured_part(answers(data))
    assert {row["entity"]: row["n"] for row in before["coverage"]["rows"]} == {"A": 12, "B": 11}
    data.push(hosts[0], [(civil(date(2026, 10, 20)), [cell(State.ON_ACTIVE, 7_200_000)])])
    with data.store.transaction():
        data.store.data.connection.execute("UPDATE hosts SET org_entity = 'B' WHERE host_id = ?", (hosts[1],))
    gone = data.store.registry.host(hosts[2])
    assert gone is not None
    while data.store.forgetting.forget_slice(gone.host_id):
        pass
    while not data.store.forgetting.forget_host(gone, b"\0" * 32):
        pass
    data.derive()
    moments = (NOW + timedelta(days=1), NOW + timedelta(days=40), NOW + timedelta(days=80))
    changed = [later for later in moments if measured_part(answers(data, later)) != before]
    figure(
        f"{len(changed)} of {len(moments)} later readings of {len(before)} answers differ, each by a newly started service"
    )
    assert changed == []
    data.store.publications.take_back(FIRST, END)
    assert {row["entity"]: row["n"] for row in answers(data)["coverage"]["rows"]} == {"A": 10, "B": 12}


def test_no_machine_is_in_what_is_kept(data):
    """Stored groups have sums, without id, model or site, in under 1,000 characters a group."""
    hosts = dozen(data)
    answers(data)
    (one,) = (one for one in [_kept(data)] if one is not None)
    known = [data.store.registry.host(host) for host in hosts]
    assert not [host for host in known if host is not None and host.agent_id.hex() in one.content]
    content = json.loads(one.content)
    rows = [group for table in ("cells", "uses", "whole") for group in content[table]]
    assert {name for group in rows for name in group} == {
        "zone", "population", "memo", "entity", "device_class", "autres", "hosts", "enrolled_milliseconds", "states", "energies",
        "nights", "nights_are", "apportioned", "details_withheld",
    }  # fmt: skip
    assert [group["hosts"] for group in rows] == [12, 11, 12, 11, 23]
    assert len(one.content) < 1_000 * len(rows)


def _kept(data: Filled) -> Publication | None:
    with closing(SqlitePublicationReader(data.directory)) as reader:
        return reader.find(PublicationKind.RELEASE, FIRST, END)


def test_all_machines_forgotten_leave_what_was_published(data):
    """The publication stays when all machines are forgotten; an unpublished month is not made up."""
    hosts = dozen(data)
    before = answers(data)["energy"]["rows"]
    for host in hosts:
        gone = data.store.registry.host(host)
        assert gone is not None
        while data.store.forgetting.forget_slice(host):
            pass
        while not data.store.forgetting.forget_host(gone, bytes([host]) * 32):
            pass
    assert answers(data)["energy"]["rows"] == before
    assert answers(data, query="from=2026-08-01&to=2026-09-01")["energy"]["rows"] == []


def test_a_fleet_of_servers_alone_is_told_nothing_of_months(data):
    """Nothing is released, stored or explained where no machine is, or was, under the rule."""
    server = data.add_host(enrolled_on=FIRST)
    data.push(server, [(civil(date(2026, 10, 20)), [cell(State.ON_ACTIVE, 7_200_000)])])
    data.derive()
    found = answers(data)
    for answer in (found["coverage"], found["indicators"]):
        assert ({row["entity"] for row in answer["rows"]}, answer["withheld"]) == ({"DSI"}, [])
    assert not [text for text in found["indicators"]["assumptions"] if "released" in str(text)]
    assert _kept(data) is None


def test_a_month_waits_for_what_is_not_derived_yet(data):
    """It waits for workstations in that month, not for a server's hours or another month."""
    hosts = dozen(data)
    data.push(hosts[0], [(civil(date(2026, 10, 20)), [cell(State.ON_ACTIVE, 7_200_000)])])
    answer = answers(data)["coverage"]
    assert (answer["rows"], [row["reason"] for row in answer["withheld"]]) == ([], ["period"])
    assert len(answers(data, query="from=2026-09-01&to=2026-10-01")["coverage"]["rows"]) == 2
    data.derive()
    data.push(data.add_host(), [(civil(date(2026, 10, 20)), [cell(State.ON_ACTIVE, 7_200_000)])])
    assert {row["entity"] for row in answers(data)["coverage"]["rows"]} == {"A", "B", "DSI"}


def test_a_month_in_which_nothing_may_be_shown_is_not_kept(data):
    """Nine machines give no publication, and the month is read again; a tenth makes one possible."""
    *nine, tenth = [
        data.add_host(Population.WORKSTATION, DeviceClass.LAPTOP, enrolled_on=FIRST) for _ in range(10)
    ]
    for host in nine:
        data.push(host, [(civil(date(2026, 10, 2)), [cell(State.ASLEEP, 3_600_000, Band.NIGHT)])])
    data.derive()
    answer = answers(data)["indicators"]
    assert (answer["rows"], answer["withheld"][0]["reason"]) == ([], "too_few")
    assert _kept(data) is None
    data.push(tenth, [(civil(date(2026, 10, 2)), [cell(State.ASLEEP, 3_600_000, Band.NIGHT)])])
    data.derive()
    assert {row["n"] for row in answers(data)["indicators"]["rows"]} == {10}
    assert _kept(data) is not None


# --- the collector


def last_month() -> tuple[date, date]:
    """Return the first day of the last whole month, and its end."""
    end = clock.today().replace(day=1)
    return (end - timedelta(days=1)).replace(day=1), end


def publish(opened: Collector, content: str = GOLDEN, **changed: Any) -> Any:
    """Send a publication in pieces, then its description, as the web process does."""
    upload = secrets.token_hex(16)
    for piece in pieces_of(upload, content.encode()):
        opened.operations.perform("publish_part", piece)
    return opened.operations.perform("publish", sent(upload=upload) | changed)


def sent(**changed: Any) -> dict[str, Any]:
    """Return the description that the web process sends last."""
    first, end = last_month()
    return {
        "kind": "release",
        "first": first.isoformat(),
        "end": end.isoformat(),
        "format": 2,
        "k_anonymity": 10,
        "method_version": "0.2",
    } | changed


def test_the_collector_keeps_the_first(opened):
    """The answer says whether the publication was stored."""
    assert publish(opened) == {"kept": True}
    assert publish(opened, "{}") == {"kept": False}
    (one,) = opened.operations.perform("published_list", {})
    assert (one["kind"], one["bytes"], one["k_anonymity"]) == ("release", len(GOLDEN), 10)
    assert abs(one["published_unix_milliseconds"] / 1000 - clock.unix_seconds()) < 60


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"kind": "hours"}, "hours"),
        ({"first": "2026-13-01"}, "wrong arguments"),
        ({"first": "2026-01-01"}, "from 1 to 31 days"),
        ({"first": "2126-10-01", "end": "2126-11-01"}, "the period is not over"),
        ({"k_anonymity": 9}, "k_anonymity is 10"),
        ({"format": 0}, "numbered from 1"),
        ({"content": "AAAA"}, "wrong arguments"),
        ({"content": "[1]"}, "no JSON object"),
        ({"upload": "0" * 32}, "no such upload"),
        ({"more": 1}, "wrong arguments"),
    ],
)
def test_the_collector_keeps_nothing_else(opened, changed, said):
    """Anything but a publication is refused, and nothing is stored."""
    with pytest.raises(UsageError, match=said):
        publish(opened, **changed)
    assert opened.operations.perform("published_list", {}) == []


def test_it_goes_when_it_is_too_old_to_be_asked_for(opened):
    """A publication is deleted with its months: after 18 months, or when its year is closed definitively."""
    first, end = last_month()
    publish(opened)
    assert expire(opened.operations.context, end + timedelta(days=540)) == 0
    assert expire(opened.operations.context, end + timedelta(days=560)) == 1
    publish(opened)
    assert opened.store.publications.expire(date(2000, 1, 1), [first.year - 1]) == 0
    assert opened.store.publications.expire(date(2000, 1, 1), [first.year]) == 1


def test_what_nothing_can_compute_again_is_not_taken_back(opened):
    """Servers of a month whose meter readings are deleted stay; months without PCs' months are refused."""
    _, end = last_month()
    readings_gone, months_gone = add_months(end, -15), add_months(end, -20)
    for first, kinds in ((readings_gone, ("release", "servers")), (months_gone, ("release",))):
        for kind in kinds:
            days = {"first": first.isoformat(), "end": add_months(first, 1).isoformat()}
            publish(opened, kind=kind, **days)
    why = {"who": "me", "why": "a meter"}

    def take_back(first: date) -> Any:
        days = {"first": first.isoformat(), "end": add_months(first, 1).isoformat()}
        return opened.operations.perform("published_take_back", days | why)

    assert take_back(readings_gone) == {"periods": 1}
    with pytest.raises(AdminError, match="are deleted"):
        take_back(months_gone)
    kept = [(one["kind"], one["period_from"]) for one in opened.operations.perform("published_list", {})]
    assert kept == [("release", months_gone.isoformat()), ("servers", readings_gone.isoformat())]


def test_commands_list_and_take_back(lyon, capsys):
    """A take-back needs a reason and a publication, and is in the access journal."""
    first, end = map(date.isoformat, last_month())
    with open_collector(lyon) as collector:
        publish(collector)
    assert run(["published", "list"]) == 0
    assert f"release\t{first}\t{end}" in capsys.readouterr().out
    wrong = ([first, end], [first, end, "--why", " "], [first, "2026-13-01", "--why", "x"])
    assert [run(["published", "take-back", *words]) for words in wrong] == [2, 1, 2]
    assert run(["published", "take-back", first, end, "--why", "a meter was wrong"]) == 0
    assert "1 published period taken back" in capsys.readouterr().out
    assert run(["published", "take-back", first, end, "--why", "again"]) == 1
    assert "nothing is published" in capsys.readouterr().err
    with open_collector(lyon) as collector:
        rows = collector.store.identity.connection.execute("SELECT what, why FROM journal").fetchall()
    assert (f"published {first} to {end} taken back", "a meter was wrong") in rows
