# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A server's energy is divided exactly between its services, with idle apart; PCs are refused."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.filled import METER, Filled, cell, clock
from veilleuse.collector.cli.main import run
from veilleuse.collector.derive.attribution import attribution, idle_powers
from veilleuse.collector.derive.priors import MILLION
from veilleuse.collector.derive.wall import wall_energy
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.model.attribution import AttributionShare, HostHour, IdleBasis, Why
from veilleuse.collector.model.hosts import MachineFacts
from veilleuse.collector.model.records import Cell
from veilleuse.collector.model.sums import EnergySums
from veilleuse.collector.reports.attribution import attribution_document, document
from veilleuse.collector.shipped_tables import STATE_POWERS
from veilleuse.collector.store.sqlite import hours
from veilleuse.collector.store.sqlite.reader import SqliteReader
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State, Supply

HOUR = 3_600_000
SERVER = MachineFacts(DeviceClass.SERVER, cpu_model="Xeon", cpu_count=8)
ACTIVE, IDLE = State.ON_ACTIVE, State.ON_IDLE
METERED, MODELLED = Method.METERED, Method.LOAD_MODELLED


def watts(power: float, milliseconds: int = HOUR) -> EnergySums:
    """Return the energy in millijoules of a power over a time, 5 % uncertain."""
    energy = round(power * milliseconds)
    return EnergySums(milliseconds, energy, energy // 20)


def hour(
    energies: dict[tuple[State, Method], EnergySums],
    units: dict[str, int] | None = None,
    *,
    busy: float = 0.5,
    covered: int | None = None,
    start: int = 0,
) -> HostHour:
    """Return an hour on; `busy`: share of all processors; `covered`: time of known load, all by default."""
    on = sum(sums.milliseconds for (state, _), sums in energies.items() if state in (ACTIVE, IDLE))
    covered = on if covered is None else covered
    return HostHour(start, energies, on, covered, round(covered * busy), units or {})


def test_a_measured_server_that_rests_at_night():
    """A server with 8 processors draws 99 and 101 W on-idle by night, and 260 W by day at half load.
    CPU time divides 160 W, 100 W are idle, and the night's noise is no work.
    """
    night = [hour({(IDLE, METERED): watts(power)}, {"unit:cron": 5_000}, busy=0.01) for power in (99, 101)]
    day = hour({(ACTIVE, METERED): watts(260)}, {"unit:web": 3 * HOUR, "guest:7": HOUR // 2}, busy=0.5)
    found = attribution([*night, day], SERVER)
    assert found.energy_millijoules == 460 * HOUR
    assert found.idle == {(METERED, IdleBasis.OBSERVED): 300 * HOUR}
    assert found.powers[METERED].microwatts == 100 * MILLION
    assert found.units == {
        "unit:cron": AttributionShare(10_000, 0),
        "unit:web": AttributionShare(3 * HOUR, 120 * HOUR),
        "guest:7": AttributionShare(HOUR // 2, 20 * HOUR),
    }
    assert found.rest == AttributionShare(HOUR // 2 + 2 * (8 * HOUR // 100 - 5_000), 20 * HOUR)
    assert (found.not_on_millijoules, found.not_attributed) == (0, {})


def test_one_hour_on_idle_is_asked_for():
    """With less than an hour of on-idle time the class's power is used, never above what was measured."""
    short = hour({(IDLE, METERED): watts(60, HOUR - 1), (ACTIVE, METERED): watts(250)}, {"unit:web": 5})
    at_rest = STATE_POWERS[DeviceClass.SERVER].light_microwatts
    found = attribution([short], SERVER)
    assert found.powers[METERED].basis is IdleBasis.CLASS
    assert found.powers[METERED].microwatts == at_rest == 100 * MILLION
    assert found.idle == {(METERED, IdleBasis.CLASS): 60 * (HOUR - 1) + 100 * HOUR}
    assert idle_powers([hour({(IDLE, METERED): watts(60)})], SERVER)[METERED].basis is IdleBasis.OBSERVED


def test_modelled_energy_has_its_models_idle_power():
    """The load model's energy is above its power at no load; on-idle time does not count as observed idle."""
    buckets = (0, 0, 0, 0, 0, HOUR, *(0,) * 7)
    one = Cell(Band.OPEN, ACTIVE, Supply.AC, HOUR, (), HOUR, HOUR // 4, buckets)
    (part,) = wall_energy(one, SERVER)
    assert part.method is MODELLED
    sums = EnergySums(part.milliseconds, part.energy_millijoules, part.uncertainty_millijoules)
    idle = hour({(IDLE, MODELLED): watts(103)}, {"unit:web": 5}, busy=0.01)
    found = attribution([hour({(ACTIVE, MODELLED): sums}, {"unit:web": HOUR}, busy=0.25), idle], SERVER)
    assert found.idle == {(MODELLED, IdleBasis.MODEL): 200 * HOUR}
    dynamic = found.rest.energy_millijoules + found.units["unit:web"].energy_millijoules
    assert dynamic == part.energy_millijoules - 100 * HOUR + 3 * HOUR


def test_a_virtual_machine_of_unknown_size_has_no_idle_power():
    """Its idle power is unknown, so nothing is divided and the reason is given."""
    found = attribution(
        [hour({(ACTIVE, METERED): watts(9)}, {"unit:web": 5})], MachineFacts(DeviceClass.VIRTUAL_MACHINE)
    )
    assert found.not_attributed == {Why.NO_IDLE_POWER: 9 * HOUR}
    assert (found.idle, found.powers) == ({}, {})


@pytest.mark.parametrize(
    ("machine", "changes", "why"),
    [
        (SERVER, {"units": None}, Why.NO_UNITS),
        (MachineFacts(DeviceClass.SERVER, cpu_model="Xeon"), {}, Why.NO_LOAD),
        (SERVER, {"covered": HOUR // 2 - 1}, Why.NO_LOAD),
        (SERVER, {"units": {"unit:web": 0}, "busy": 0.0}, Why.NO_WORK),
    ],
)
def test_what_nobody_can_be_given_is_shown(machine, changes, why):
    """Without units, load, number of processors or work, the dynamic part is not attributed.
    The idle part stays."""
    rest = hour({(IDLE, METERED): watts(100)}, {"unit:web": 5}, busy=0.01)
    missing = hour({(ACTIVE, METERED): watts(150)}, **({"units": {"unit:web": 60_000}} | changes))
    found = attribution([rest, missing], machine)
    assert found.not_attributed == {why: 50 * HOUR}
    assert found.idle == {(METERED, IdleBasis.OBSERVED): 200 * HOUR}
    assert sum(share.energy_millijoules for share in found.units.values()) == 0
    assert found.shared_milliseconds == (HOUR if machine.cpu_count else 0)


def test_cpu_time_told_in_an_hour_off_moves_no_energy():
    """A unit's CPU time in an hour that was off counts; the energy of that hour is no unit's."""
    off = HostHour(0, {(State.OFF, METERED): watts(3)}, units={"unit:cron": 5_000})
    found = attribution([off, hour({(ACTIVE, METERED): watts(150)}, {"unit:cron": 60_000})], SERVER)
    assert found.not_on_millijoules == 3 * HOUR
    assert found.units["unit:cron"].cpu_milliseconds == 65_000
    assert found.shared_milliseconds == HOUR
    parts = [*found.units.values(), found.rest]
    assert sum(part.energy_millijoules for part in parts) == 50 * HOUR
    assert found.not_attributed == {}


def test_units_may_sum_to_more_than_the_load():
    """Two clocks differ: the rest of the system is then 0, never less.
    A load known for part of the hour is extrapolated to the hour."""
    one = hour({(ACTIVE, METERED): watts(200)}, {"unit:web": 5 * HOUR}, busy=0.5)
    assert attribution([one], SERVER).rest == AttributionShare(0, 0)
    half = hour({(ACTIVE, METERED): watts(200)}, {"unit:web": HOUR}, busy=0.5, covered=HOUR // 2)
    assert attribution([half], SERVER).rest.cpu_milliseconds == 3 * HOUR


joules = st.integers(0, 10**9)
lengths = st.integers(0, HOUR)
sums = st.builds(EnergySums, lengths, joules, joules)
hour_lists = st.lists(
    st.builds(
        HostHour,
        st.integers(0, 10**6),
        st.dictionaries(st.tuples(st.sampled_from(State), st.sampled_from(Method)), sums, max_size=6),
        lengths,
        lengths,
        lengths,
        st.dictionaries(
            st.sampled_from(["unit:a", "unit:b", "guest:1", "unit:other"]), st.integers(0, 10**7), max_size=4
        ),
    ),
    max_size=6,
)
machines = st.builds(
    MachineFacts,
    st.sampled_from(DeviceClass),
    cpu_model=st.sampled_from([None, "Xeon"]),
    cpu_count=st.sampled_from([None, 1, 64]),
)


@given(hour_lists, machines)
def test_parts_sum_to_the_whole(given_hours, machine):
    """Parts are never negative and sum to the derived energy in millijoules; no CPU time, no energy."""
    found = attribution(given_hours, machine)
    parts = [
        found.not_on_millijoules,
        *found.idle.values(),
        *found.not_attributed.values(),
        found.rest.energy_millijoules,
        *(share.energy_millijoules for share in found.units.values()),
    ]
    assert sum(parts) == found.energy_millijoules
    assert found.energy_millijoules == sum(
        one.energy_millijoules for each in given_hours for one in each.energies.values()
    )
    assert all(part >= 0 for part in parts)
    assert sum(found.methods.values()) == found.energy_millijoules
    for share in (found.rest, *found.units.values()):
        assert share.cpu_milliseconds or not share.energy_millijoules
    rows = document(found, {"data": "real"}, memo=False).tables["rows"]
    assert sum(int(str(row["energy_millijoules"])) for row in rows) == found.energy_millijoules


def test_containers_are_a_part_of_their_own():
    """Containers are neither a service nor the rest of the system, and are in one row only."""
    units = {"unit:docker": HOUR, "unit:containers": 2 * HOUR}
    found = attribution([hour({(ACTIVE, METERED): watts(400)}, units)], SERVER)
    rows = document(found, {"data": "real"}, memo=False).tables["rows"]
    told = {(row["part"], row.get("name")): row.get("cpu_milliseconds") for row in rows}
    assert told["containers", None] == 2 * HOUR
    assert told["service", "docker"] == HOUR
    assert told["rest_of_system", None] == HOUR
    assert ("service", "containers") not in told


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(0, HOUR), min_size=2), st.integers(1, 4 * HOUR))
def test_more_cpu_time_is_never_less_energy(spent, more):
    """It holds between the units of an hour, and for one unit that works more, within 1 mJ of rounding."""
    units = {f"unit:{name}": milliseconds for name, milliseconds in spent.items()}
    energies = {(ACTIVE, METERED): watts(400)}
    before = attribution([hour(energies, units, busy=1.0)], SERVER).units
    for one in before.values():
        for other in before.values():
            if one.cpu_milliseconds <= other.cpu_milliseconds:
                assert one.energy_millijoules <= other.energy_millijoules + 1
    name = min(units)
    after = attribution([hour(energies, {**units, name: units[name] + more}, busy=1.0)], SERVER).units
    assert after[name].energy_millijoules >= before[name].energy_millijoules - 1


# ---------------------------------------------------------------------------------- the command


DAY = 1_770_073_200_000
"""Midnight in Paris on 2026-02-03, in Unix milliseconds."""


def a_day(directory: Path) -> tuple[str, ...]:
    """Store 20 hours of two servers (idle, active, one without units, one off) and two PCs without data.
    Return the agent ids of the first server and the PCs."""
    with Filled(directory) as filled:
        server = filled.add_host()
        others = (
            filled.add_host(Population.WORKSTATION, DeviceClass.SFF),
            filled.add_host(Population.CLASSROOM),
        )
        other_server = filled.add_host()
        for host in (server, other_server):
            records = []
            for number in range(20):
                idle, off = number < 8, number == 19
                state = State.OFF if off else IDLE if idle else ACTIVE
                joules = None if off else (90 if idle else 210) * HOUR + number
                one = cell(state, HOUR, energy_millijoules=joules, busy_ratio=None if off else 0.25)
                if not off and number != 18:
                    one.units.add(name="unit:web", cpu_milliseconds=HOUR + 1)
                    one.units.add(name="guest:00ff", cpu_milliseconds=7 * number)
                records.append((clock(DAY + number * HOUR, HOUR), [one]))
            filled.push(host, records, METER)
        filled.derive()
        hosts = {host.host_id: host.agent_id.hex() for host in filled.store.registry.hosts()}
    return tuple(hosts[host] for host in (server, *others))


def test_the_report(tmp_path, capsysbinary, monkeypatch):
    """Parts sum to the day's total, and the other server's units are not in it."""
    server, *_ = a_day(tmp_path / "data")
    monkeypatch.setenv("VEILLEUSE__DATA_DIR", str(tmp_path / "data"))
    words = ["report", "attribution", "--host", server[:8], "--from", "2026-02-03", "--to", "2026-02-04"]
    assert run([*words, "--format", "json"]) == 0
    made = json.loads(capsysbinary.readouterr().out)
    rows = {(row["part"], row.get("name")): row for row in made["rows"]}
    (total,) = made["totals"]
    assert sum(row["energy_millijoules"] for row in made["rows"]) == total["energy_millijoules"]
    measured = 90 * HOUR * 8 + 210 * HOUR * 11 + sum(range(19))
    assert total["energy_millijoules"] == measured + 8 * HOUR, "and an hour off at 8 W"
    idle = rows["idle", None]
    assert (idle["basis"], idle["method"], idle["idle_power_watts"]) == ("observed", "metered", 90.000001)
    assert rows["not_on", None]["energy_millijoules"] == 8 * HOUR
    assert rows["not_attributed", None]["why"] == "no_units"
    assert rows["service", "web"]["cpu_milliseconds"] == 18 * (HOUR + 1)
    assert rows["guest", "00ff"]["cpu_milliseconds"] == 7 * sum(range(18))
    assert rows["service", "web"]["share_of_dynamic"] == pytest.approx(0.5, abs=0.01), "of 2 busy processors"
    assert made["report"]["coverage_units"] == pytest.approx(18 / 19)
    assert made["report"]["coverage_energy"] == 1.0
    assert "memo" not in made["report"]
    assert run(words) == 0
    lines = capsysbinary.readouterr().out.decode().splitlines()
    assert lines[0].startswith("part,name,energy_millijoules,kwh,")
    assert len(lines) == 1 + len(made["rows"]) + 1


def test_a_period_without_records_is_no_zero(tmp_path, capsys, monkeypatch):
    """Absent is never zero: there is no report with a total of 0 kWh."""
    server, *_ = a_day(tmp_path / "data")
    monkeypatch.setenv("VEILLEUSE__DATA_DIR", str(tmp_path / "data"))
    words = ["report", "attribution", "--host", server[:8], "--from", "2025-02-03", "--to", "2025-02-04"]
    assert run(words) == 1
    out, err = capsys.readouterr()
    assert (out, "has no record of 2025-02-03 to 2025-02-04: its energy is not known" in err) == ("", True)


def test_hours_are_read_by_pages(tmp_path, monkeypatch):
    """Pages contain the hours that begin in the period, in order, each once; without any there is no page."""
    server, *_ = a_day(tmp_path / "data")
    with closing(SqliteReader(tmp_path / "data")) as reader:
        (host,) = [one for one in reader.hosts() if one.agent_id.hex() == server]
        whole = tuple(reader.host_hours(host.host_id, DAY - HOUR, DAY + 24 * HOUR))
        assert [one.start for one in whole] == [DAY + number * HOUR for number in range(20)]
        monkeypatch.setattr(hours, "PAGE_HOURS", 3)
        assert tuple(reader.host_hours(host.host_id, DAY - HOUR, DAY + 24 * HOUR)) == whole
        assert tuple(reader.host_hours(host.host_id, DAY + 1, DAY + 3 * HOUR + 1)) == whole[1:4]
        assert tuple(reader.host_hours(host.host_id, DAY + 1, DAY + 2)) == ()


@pytest.mark.parametrize("place", [1, 2])
def test_people_are_refused(tmp_path, place):
    """A report on a workstation or classroom PC is refused with the reason."""
    agent_id = a_day(tmp_path / "data")[place]
    with closing(SqliteReader(tmp_path / "data")) as reader:
        with pytest.raises(AdminError, match="never of a machine that people sit at"):
            attribution_document(reader, agent_id, date(2026, 2, 3), date(2026, 2, 4), 0)
        with pytest.raises(UsageError, match="must be before"):
            attribution_document(reader, agent_id, date(2026, 2, 4), date(2026, 2, 4), 0)
