# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests that the sums of servers, which triggers keep, equal those of the tables that they are made of. The
servers that the web process keeps between two looks must equal a new reading."""

from __future__ import annotations

import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.filled import Filled, cell, civil, clock, remove_own_use, remove_server_sums
from veilleuse.collector.calendars.periods import Slice, enrolled_milliseconds
from veilleuse.collector.cli.doctor.storage import check_sums
from veilleuse.collector.model.hosts import HostStatus
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.remote_config import Rollout
from veilleuse.collector.settings import CollectorSettings, Store
from veilleuse.collector.silence import last_sign
from veilleuse.collector.store.sqlite import open_store
from veilleuse.collector.web.metrics.servers import ServerRegistry
from veilleuse.collector.wire_codec import facts_from_wire, number
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import DeviceClass, GapReason, Population, State

HOUR = 3_600_000
PART = HOUR // 10
NOW = datetime(2026, 11, 25, 15, 10, tzinfo=UTC)
HOURS = 5 * 24
CLASSES = (DeviceClass.SERVER, DeviceClass.VIRTUAL_MACHINE, DeviceClass.UNKNOWN)
Rows = dict[tuple[Any, ...], tuple[Any, ...]]


class Undone(Exception):
    """Ends a transaction as a kill does."""


class Fleet:
    """A store with servers and a PC, and an independent count of what rises for ever."""

    def __init__(self, directory: Path) -> None:
        self.store = Filled(directory, clock=NOW.timestamp)
        self.hosts = [
            self.store.add_host(entity=f"E{place}", device_class=CLASSES[place]) for place in range(3)
        ]
        self.pc = self.store.add_host(Population.WORKSTATION, DeviceClass.LAPTOP)
        self.totals: Counter[tuple[str, int]] = Counter()
        self.reader = self.store.reader()
        self.registry = ServerRegistry(self.reader.server_sums())
        """As the web process keeps it."""

    @property
    def connection(self) -> sqlite3.Connection:
        return self.store.store.data.connection

    def push(self, place: int, hours_ago: int, states: list[State]) -> None:
        """Store a part of a server's hour with a sensor gap, and a day of the PC."""
        host = self.hosts[place % len(self.hosts)]
        start = round(NOW.timestamp() * 1000) // HOUR * HOUR - hours_ago * HOUR
        cells = [cell(state, PART // len(states), busy_ratio=0.2) for state in states]
        self.store.push(
            host, [(clock(start, PART), cells)], sensor_gaps=((GapReason.SENSOR_LOST, "rapl", 7),)
        )
        entity = self.store.store.registry.host(host)
        assert entity is not None
        for state in states:
            self.totals[entity.org_entity, number(state)] += PART // len(states)
        day = NOW.date() - timedelta(days=hours_ago % 3)
        self.store.push(self.pc, [(civil(day), [cell(states[0], PART)])])

    def derive(self, everything: bool) -> None:
        """Derive what is new, or everything again."""
        if everything:
            self.store.store.derive.mark_all_dirty()
        self.store.derive()

    def greet(self, place: int, device_class: DeviceClass, sources: int) -> None:
        """Let a server say its class and its health, perhaps others than before."""
        form: Any = number(device_class)
        health = pb.Health(agent_version=f"0.{sources}", spool_records=sources)
        for one in range(sources):
            health.sources.add(name=("utilisation", "strange", "odd")[one], successes=one)
        self.store.store.registry.record_hello(
            self.hosts[place % len(self.hosts)],
            facts_wire=pb.Facts(device_class=form, cpu_count=4).SerializeToString(),
            health_wire=health.SerializeToString(),
            now_unix_milliseconds=round(NOW.timestamp() * 1000),
        )

    def set_status(self, place: int, status: HostStatus) -> None:
        """Revoke or approve a server."""
        self.store.store.registry.set_status(self.hosts[place % len(self.hosts)], status)

    def forget(self, place: int) -> None:
        """Forget a server; another one enrols in its place."""
        host_id = self.hosts[place % len(self.hosts)]
        host = self.store.store.registry.host(host_id)
        assert host is not None
        while self.store.store.forgetting.forget_slice(host_id):
            pass
        assert self.store.store.forgetting.forget_host(host, b"\0" * 32)
        self.store._streams.pop(host_id, None)
        self.hosts[place % len(self.hosts)] = self.store.add_host(entity=host.org_entity)

    def keep(self, days_later: int) -> None:
        """Keep the sums from another day on, as each day does; a clock may also go back."""
        self.store.store.keep_server_sums(NOW.date() + timedelta(days=days_later))

    def undo(self, step: Callable[[Fleet], None]) -> None:
        """Do a step in a transaction that does not commit."""
        counted = self.totals.copy(), list(self.hosts), dict(self.store._streams)
        with suppress(Undone), self.store.store.transaction():
            step(self)
            raise Undone
        self.totals, self.hosts, self.store._streams = counted

    def kept(self, table: str, keys: int, *, order: str = "*") -> Rows:
        """Return the rows of a table of sums by their first columns; rows that do not count are checked."""
        rows = self.connection.execute(f"SELECT {order} FROM {table}").fetchall()
        if table != "server_days" and order == "*":
            assert all(not any(row[keys:]) for row in rows if row[-1] == 0)
            rows = [row for row in rows if row[-1]]
        return {row[:keys]: row[keys:] for row in rows if any(row[keys:])}

    def summed(self) -> tuple[Rows, Rows, Rows]:
        """Return server_states, server_days and server_energies from `sums` and `derived`."""
        ask = self.connection.execute
        ((day, hour),) = ask("SELECT first_day, first_hour FROM server_sums").fetchall()
        group_of = self.groups()
        states: dict[Any, list[int]] = {}
        days: dict[Any, list[int]] = {}
        energies: dict[Any, list[int]] = {}

        def add(into: dict[Any, list[int]], key: Any, *values: int) -> None:
            into[key] = [
                one + more for one, more in zip(into.get(key, [0] * len(values)), values, strict=True)
            ]

        for host, start, state, length in ask(
            "SELECT host_id, start, state, milliseconds FROM sums WHERE grain = 2 AND start >= ?", (day,)
        ):
            if host in group_of:
                add(states, (start, group_of[host], state), length, 1)
                add(days, (start, host), length, state != number(State.UNKNOWN))
        for host, grain, start, state, method, length, energy in ask(
            "SELECT host_id, grain, start, state, method, milliseconds, energy_millijoules FROM derived"
        ):
            if host in group_of and start >= (hour if grain == 1 else day):
                add(energies, (grain, start, group_of[host], state, method), length, energy, 1)
        return tuple({key: tuple(row) for key, row in one.items()} for one in (states, days, energies))  # type: ignore[return-value]

    def groups(self) -> dict[HostId, int]:
        """Return the group of each server, by its labels in the registry."""
        known = {row[1:]: row[0] for row in self.connection.execute("SELECT * FROM server_groups")}
        rows = self.connection.execute(
            "SELECT host_id, org_entity, site, facts FROM hosts WHERE population = 3"
        )
        return {
            HostId(host): known[entity, site, facts_from_wire(facts or b"").device_class.value]
            for host, entity, site, facts in rows.fetchall()
        }

    def newest(self) -> Rows:
        """Return the newest derived record of each server that has one."""
        found: Rows = {}
        for host, *record in self.connection.execute(
            "SELECT r.host_id, bucket, record_id, start, milliseconds, derived_energy_millijoules FROM records r"
            " JOIN hosts USING (host_id) WHERE population = 3 AND grain = 1 AND derived_energy_millijoules IS NOT NULL"
            " ORDER BY bucket, record_id"
        ):
            found[host,] = tuple(record)
        return found


def check(fleet: Fleet) -> None:
    """Compare each table with its sums."""
    states, days, energies = fleet.summed()
    assert fleet.kept("server_states", 3) == states
    assert fleet.kept("server_days", 2) == days
    assert fleet.kept("server_energies", 5) == energies
    columns = "host_id, bucket, record_id, start, milliseconds, energy_millijoules"
    assert fleet.kept("servers", 1, order=columns) == fleet.newest()
    ask = fleet.connection.execute
    assert dict(ask("SELECT host_id, group_id FROM servers").fetchall()) == fleet.groups()
    active = {host for (host,) in ask("SELECT host_id FROM hosts WHERE population = 3 AND status = 'active'")}
    assert {host for (host,) in ask("SELECT host_id FROM servers WHERE is_active")} == active
    totals = ask(
        "SELECT org_entity, state, sum(milliseconds) FROM server_totals JOIN server_groups USING (group_id) GROUP BY 1, 2"
    )
    assert {row[:2]: row[2] for row in totals} == fleet.totals
    check_registry(fleet)
    assert fleet.reader.server_sums().wrong_tables() == ()
    gaps = "SELECT reason, sum(records), sum(milliseconds), count(*) FROM gap_sums JOIN hosts USING (host_id)"
    standing = ask(f"{gaps} WHERE population = 3 GROUP BY reason").fetchall()
    assert fleet.kept("server_gaps", 1) == {row[:1]: row[1:] for row in standing}


def check_registry(fleet: Fleet) -> None:
    """Compare what the web process keeps with a new reading, and enrolled time with a sum over servers."""
    fresh, now = ServerRegistry(fleet.reader.server_sums()), round(NOW.timestamp() * 1000)
    kept, read = fleet.registry.read(Rollout(Population.SERVER)), fresh.read(Rollout(Population.SERVER))
    assert (kept.servers, kept.counts) == (read.servers, read.counts)
    assert sorted(map(last_sign, kept.members)) == list(map(last_sign, kept.members))
    assert set(kept.members) == set(read.members)
    sites = {site.site: site for site in fleet.reader.sites()}
    for day in (NOW.date(), NOW.date() - timedelta(days=1)):
        times = fleet.reader.server_sums().times(day, -1)
        whole = dict.fromkeys((False, True), (0, 0))
        for host in fleet.reader.hosts(Population.SERVER):
            virtual = host.facts.device_class is DeviceClass.VIRTUAL_MACHINE
            length = enrolled_milliseconds(host, sites[host.site], Slice(day, day + timedelta(days=1)), now)
            servers, milliseconds = whole[virtual]
            whole[virtual] = (servers + 1, milliseconds + max(length, times.get(host.host_id, 0)))
        assert fleet.registry.enrolled(day, sites, now) == whole


places = st.integers(0, 2)
pushes = st.builds(
    lambda place, ago, states: lambda fleet: fleet.push(place, ago, states),
    places,
    st.integers(0, HOURS),
    st.lists(st.sampled_from(State), min_size=1, max_size=3),
)
steps = st.one_of(
    pushes,
    st.builds(lambda everything: lambda fleet: fleet.derive(everything), st.booleans()),
    st.builds(
        lambda place, kind, sources: lambda fleet: fleet.greet(place, kind, sources),
        places,
        st.sampled_from(CLASSES),
        st.integers(0, 3),
    ),
    st.builds(
        lambda place, status: lambda fleet: fleet.set_status(place, status),
        places,
        st.sampled_from((HostStatus.ACTIVE, HostStatus.REVOKED)),
    ),
    st.builds(lambda place: lambda fleet: fleet.forget(place), places),
    st.builds(lambda days: lambda fleet: fleet.keep(days), st.integers(-2, 2)),
)
undone = st.builds(lambda step: lambda fleet: fleet.undo(step), steps)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(pushes, pushes, steps, undone), min_size=12, max_size=30))
def test_sums_of_servers_are_those_of_the_tables(order: list[Callable[[Fleet], None]]) -> None:
    """After any order of pushes, late records, derivations, classes, forgetting, days and kills. A trigger
    that misses one of them gives a figure on /metrics that no report has, as does a web process that misses a
    change."""
    with tempfile.TemporaryDirectory() as folder:
        fleet = Fleet(Path(folder) / "data")
        with fleet.store, closing(fleet.reader):
            for step in order:
                step(fleet)
                check(fleet)


def test_an_older_file_has_its_sums_after_the_migration(tmp_path: Path) -> None:
    """Sums, newest records and totals of a store of schema 25 are those of its tables, forgotten servers
    included."""
    fleet = Fleet(tmp_path / "data")
    with fleet.store, closing(fleet.reader):
        for hours_ago in (1, 2, 30, 60, 100):
            fleet.push(hours_ago, hours_ago, [State.ON_ACTIVE, State.UNKNOWN])
        fleet.derive(everything=False)
        fleet.connection.execute("INSERT INTO forgotten_states VALUES ('E0', 'lyon', 3, 1, 17)")
        fleet.totals["E0", 1] += 17
        fleet.connection.execute("DROP INDEX months_to_compute")
        fleet.connection.execute("ALTER TABLE stale_months DROP COLUMN stored")
        remove_own_use(fleet.connection)
        remove_server_sums(fleet.connection)
        fleet.connection.execute("PRAGMA user_version = 25")
    store = open_store(tmp_path / "data", Store(free_bytes_minimum=0))
    fleet.reader = fleet.store.reader()
    fleet.registry = ServerRegistry(fleet.reader.server_sums())
    with closing(store), closing(fleet.reader):
        fleet.store.store = store
        check(fleet)
        fleet.keep(0)
        check(fleet)
        assert fleet.kept("server_energies", 5)


@pytest.mark.parametrize("table", ["server_states", "server_days", "server_energies", "server_gaps"])
@pytest.mark.parametrize("damage", ["UPDATE {} SET milliseconds = milliseconds + 1", "DELETE FROM {}"])
def test_a_damaged_sum_is_found(tmp_path: Path, table: str, damage: str) -> None:
    """Doctor names the table: a page would show a figure that no report has."""
    fleet = Fleet(tmp_path / "data")
    with fleet.store, closing(fleet.reader):
        fleet.push(0, 3, [State.ON_IDLE])
        fleet.derive(everything=False)
        settings = CollectorSettings(data_dir=fleet.store.directory)
        assert [one.outcome for one in check_sums(settings)] == ["good"]
        fleet.connection.execute(damage.format(table))
        (finding,) = check_sums(settings)
        assert (finding.outcome, finding.text.partition(":")[0]) == ("failed", table)


@pytest.mark.parametrize("today", [date(2026, 11, 24), date(2026, 11, 25), date(2026, 11, 27)])
def test_two_days_before_today_are_kept(tmp_path: Path, today: date) -> None:
    """Yesterday in any time zone is kept, and nothing older."""
    fleet = Fleet(tmp_path / "data")
    with fleet.store, closing(fleet.reader):
        for hours_ago in range(0, HOURS, 6):
            fleet.push(0, hours_ago, [State.ON_IDLE])
        fleet.derive(everything=False)
        fleet.store.store.keep_server_sums(today)
        days = {day for day, *_ in fleet.kept("server_states", 3)}
        first, last = today - timedelta(days=2), NOW.date()
        assert days == {day.toordinal() for day in (first + timedelta(n) for n in range(9)) if day <= last}
        check(fleet)
