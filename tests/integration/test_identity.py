# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""One identity, one machine: copies, restarts, restores, and deletion on request, over real gRPC.
docs/wire.md §6 and §7."""

from __future__ import annotations

import json
import shutil
import stat

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.clock import unix_milliseconds, unix_seconds
from tests.support.crowd import crowd
from tests.support.machines import SECONDS, Machine, Served, enrolled, refusal, refused, served, settings_in
from tests.support.pushes import Stream, cell, clock, gap, measurement, rapl
from veilleuse.collector.model.records import AgentId, AppendResult, HostId
from veilleuse.collector.settings import CollectorSettings
from veilleuse.wire.limits import EPOCH_BYTES
from veilleuse.wire.v1 import telemetry_pb2 as pb

Code = grpc.StatusCode
CONFLICT = (Code.PERMISSION_DENIED, "identity_conflict")
OLDER = (Code.RESOURCE_EXHAUSTED, "older_instance")
CANARY = "canary-7f3e"
HOUR = 3_600_000
AT_ONCE = 1_000
"""Records in one Push."""
MONTHS_HOURS = 60 * 24
"""Hours in two months."""
TOTALS = "SELECT (SELECT sum(energy_millijoules) FROM ledger), (SELECT sum(milliseconds) FROM server_totals)"
"""Counters of the fleet."""
CROWD = 1_000


def renewed(machine: Machine) -> Machine:
    """Renew the machine's certificate and return the machine."""
    key = ec.generate_private_key(ec.SECP256R1())
    with machine.telemetry() as stub:
        request = pb.RenewRequest(certificate_request_der=machine.request(key))
        answer = stub.Renew(request, timeout=SECONDS)
    machine.key = key
    machine.keep(answer.certificate)
    return machine


def moved(machine: Machine, running: Served) -> None:
    """Change the machine's addresses to those of a restarted collector."""
    machine.join = machine.join | {
        "address": running.collector.addresses.telemetry,
        "enrolment_address": running.collector.addresses.enrolment,
    }


def push(
    machine: Machine, domain: str = "package-0", start: int | None = None, records: int = 1, minutes: int = 1
) -> None:
    """Push measurements of `minutes` each; without `start` they end at least an hour before now."""
    each = minutes * 60_000
    begin = start or (unix_milliseconds() // HOUR - 1) * HOUR - max(HOUR, records * each)
    stream = Stream(HostId(0), epoch=b"\7" * EPOCH_BYTES)
    for number in range(records):
        units = [pb.UnitTime(name=f"unit:{domain}", cpu_milliseconds=5)]
        cells = [cell(each, energies=[(0, 5_000 * minutes, each)], units=units)]
        stream.add(measurement(clock(begin + number * each, each), cells, [rapl(domain)]))
    with machine.telemetry() as stub:
        for first in range(1, records + 1, AT_ONCE):
            answer = stub.Push(stream.request(first, first + AT_ONCE - 1), timeout=SECONDS)
            assert answer.outcome == pb.PUSH_OUTCOME_STORED


# --- generations


def test_the_older_holder_stays_refused_after_a_restart(tmp_path):
    """The used generation is stored: the older certificate is refused after a restart too, not the newer."""
    settings = settings_in(tmp_path)
    with served(settings) as running:
        machine = enrolled(running)
        older = machine.clone()
        renewed(machine).hello()
        assert refused(older.hello) == CONFLICT
    with served(settings) as running:
        moved(machine, running)
        moved(older, running)
        assert refused(older.hello) == CONFLICT
        assert machine.hello().collector_version
        assert refused(older.hello) == CONFLICT
        health = running.collector.health.snapshot()
        assert health["identity_conflicts"] == {"generation": 2}
        assert health["calls_refused"] == {"identity_conflict": 2}
        (host,) = running.collector.issuing.commit(running.collector.store.registry.hosts)
        assert (host.used_generation, host.conflicts) == (2, 3)


def test_a_renewal_whose_answer_was_lost_suspends_nobody(tmp_path):
    """If the newer certificate was issued and never used, the older one is served, also after a restart."""
    settings = settings_in(tmp_path)
    with served(settings) as running:
        machine = enrolled(running)
        renewed(machine.clone())
        machine.hello()
    with served(settings) as running:
        moved(machine, running)
        machine.hello()


def test_after_a_restore_newer_certificates_are_welcome(tmp_path):
    """After a restore, machines with certificates newer than the backup are served and counted; a machine
    that enrolled after the backup is known from the register."""
    settings, backup = settings_in(tmp_path), tmp_path / "backup"
    with served(settings) as running:
        join = running.token(uses=101)
        machines = [Machine(join) for _ in range(100)]
        for machine in machines:
            machine.enrol()
    shutil.copytree(settings.data_dir, backup)
    with served(settings) as running:
        for machine in machines:
            moved(machine, running)
            renewed(machine)
        late = Machine(join)
        moved(late, running)
        late.enrol()
    register = (settings.data_dir / "register.jsonl").read_bytes()
    shutil.rmtree(settings.data_dir)
    shutil.copytree(backup, settings.data_dir)
    (settings.data_dir / "register.jsonl").write_bytes(register)
    with served(settings) as running:
        for machine in (*machines, late):
            moved(machine, running)
            machine.hello()
        assert running.collector.health.snapshot()["collector_behind"] == {"certificate": 101}


# --- two holders of one certificate


def test_two_machines_with_the_same_certificate(running):
    """The second of two clones with equal hardware ids waits, and is refused once the first called again. The
    operator sees it, and the refused clone can get its own identity."""
    machine = enrolled(running, uses=2, admit_copies=True)
    clone = machine.clone()
    machine.hello()
    push(machine)
    answers = []
    for _ in range(4):
        for one in (clone, machine):
            try:
                one.hello()
                answers.append("served")
            except grpc.RpcError as error:
                answers.append(refusal(error)[1])
    assert answers == ["older_instance", "served"] + ["identity_conflict", "served"] * 3
    health = running.collector.health.snapshot()
    assert health["identity_conflicts"] == {"instance": 3}
    assert health["hellos"] == {"ok": 6}
    (host,) = running.collector.issuing.commit(running.collector.store.registry.hosts)
    assert host.conflicts == 3
    assert clone.enrol_as_copy().HasField("certificate")
    clone.hello()
    machine.hello()


def test_a_machine_that_was_set_back_is_served(running, veilleuse):
    """A restored machine is served after its wait if no other called, and at once after `hosts activate`."""
    machine = enrolled(running)
    snapshot = machine.clone()
    machine.hello()
    push(machine)
    assert refused(snapshot.hello) == OLDER
    running.collector.issuing.commit(
        lambda: running.collector.store.data.connection.execute(
            "UPDATE hosts SET last_contact_unix_milliseconds = last_contact_unix_milliseconds - 86400000"
        )
    )
    snapshot.hello()
    other = enrolled(running)
    snapshot = other.clone()
    other.hello()
    push(other)
    assert refused(snapshot.hello) == OLDER
    veilleuse("hosts", "activate", other.agent_id.hex())
    snapshot.hello()


def test_a_refused_holder_that_hammers_fills_nothing(running, caplog):
    """Sixty calls are refused and counted in memory; stored conflicts and log lines are bounded."""
    machine = enrolled(running)
    clone = machine.clone()
    machine.hello()
    push(machine)
    assert refused(clone.hello) == OLDER
    machine.hello()
    for _ in range(60):
        assert refused(clone.hello) == CONFLICT
    (host,) = running.collector.issuing.commit(running.collector.store.registry.hosts)
    assert host.conflicts == 10
    assert running.collector.health.snapshot()["identity_conflicts"] == {"instance": 60}
    assert caplog.text.count("two machines use one identity") == 10
    machine.hello()


# --- requests of operators and persons


def files_with(settings: CollectorSettings, *canaries: bytes) -> list[str]:
    """Return the files of the data directory that contain one of these canaries."""
    return [
        path.name
        for path in settings.data_dir.rglob("*")
        if path.is_file() and any(canary in path.read_bytes() for canary in canaries)
    ]


def planted(running: Served, hours: int) -> tuple[Machine, tuple[bytes, ...]]:
    """Return a machine with canaries in its name, pseudonym, facts, records, points and units, and all bytes
    by which it could be found."""
    machine = Machine(running.token())
    request = pb.EnrolRequest(
        token=machine.join["token"],
        certificate_request_der=machine.request(),
        host_name=f"{CANARY}-name",
        chassis_pseudonym=b"\xca" * 32,
        facts=pb.Facts(device_class=pb.DEVICE_CLASS_SERVER, model=f"{CANARY} model"),
    )
    with machine.enrolment() as stub:
        answer = stub.Enrol(request, timeout=SECONDS)
    machine.agent_id = answer.agent_id
    machine.keep(answer.certificate)
    machine.hello()
    push(machine, f"{CANARY}-rapl", records=hours, minutes=60)
    running.collector.operations.perform("flush", {})
    agent_id = machine.agent_id
    return machine, (
        CANARY.encode(),
        b"\xca" * 32,
        agent_id,
        agent_id.hex().encode(),
        machine.certificate_der,
    )


def timed(veilleuse, *words: str) -> tuple[float, str]:
    """Return seconds and output of a command that succeeds."""
    began = unix_seconds()
    code, out, _ = veilleuse(*words)
    assert code == 0
    return unix_seconds() - began, out


def nothing_left_of(connection, host_id: int) -> None:
    """Check that no table with hosts has a row of this host."""
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    with_host = [
        table
        for table in tables
        if any(column[1] == "host_id" for column in connection.execute(f"PRAGMA table_info({table})"))
    ]
    assert len(with_host) >= 10
    for table in with_host:
        left = connection.execute(f"SELECT count(*) FROM {table} WHERE host_id = ?", (host_id,)).fetchone()
        assert left == (0,), table


def journal_of_a_forgotten(connection) -> list[str]:
    """Return the reasons in the access journal, whose entries must name the machine by its hash only."""
    journal = connection.execute("SELECT what, why FROM journal ORDER BY journal_id").fetchall()
    assert all("a forgotten machine" in what for what, _ in journal)
    return [why for _, why in journal]


@pytest.mark.promise("P9")
def test_a_machine_is_forgotten(tmp_path, veilleuse, figure, time_bound):
    """After `hosts forget` of a server with two months, among a thousand workstations, no file contains a
    canary. Other machines and the fleet's counters are unchanged. Its certificate is refused as forgotten,
    also after a restart.
    """
    settings = settings_in(tmp_path)
    with served(settings) as running:
        store = running.collector.store
        stays = enrolled(running)
        push(stays)
        machine, canaries = planted(running, MONTHS_HOURS)
        host_id = store.data.connection.execute("SELECT max(host_id) FROM hosts").fetchone()[0]
        records = crowd(running, CROWD)
        host = machine.agent_id.hex()
        veilleuse("hosts", "show", host, "--name")
        export_seconds, _ = timed(veilleuse, "hosts", "export", host, "-o", str(tmp_path / "export"))
        time_bound(export_seconds, 60, "seconds of the export")
        assert len(json.loads((tmp_path / "export").read_text())["records"]) == MONTHS_HOURS
        assert {name.removesuffix("-wal") for name in files_with(settings, *canaries)} == {
            "data.db",
            "identity.db",
            "register.jsonl",
        }
        totals = store.data.connection.execute(TOTALS).fetchone()
        megabytes = (settings.data_dir / "data.db").stat().st_size / 1e6
        words = ("hosts", "forget", host, "--why", "request 12", "--yes", "--json")
        forget_seconds, out = timed(veilleuse, *words)
        time_bound(forget_seconds, 60, "seconds of the deletion")
        assert json.loads(out)["swept"]
        left = files_with(settings, *canaries)
        figure(
            f"{len(left)} files with one of {len(canaries)} canaries after one machine beside {CROWD:,} others ({records:,} records, "
            f"{megabytes:.0f} MB) was exported in {export_seconds:.1f} s and deleted in {forget_seconds:.1f} s"
        )
        assert left == []
        assert refused(machine.hello) == (Code.PERMISSION_DENIED, "forgotten")
        stays.hello()
        nothing_left_of(store.data.connection, host_id)
        connection = store.data.connection
        assert connection.execute("SELECT value FROM totals").fetchone() == (records - MONTHS_HOURS,)
        assert connection.execute(TOTALS).fetchone() == totals
        asked_for = ["veilleuse hosts show --name", "veilleuse hosts export", "request 12"]
        assert journal_of_a_forgotten(store.identity.connection) == asked_for
        push(stays)  # its points are found again
    with served(settings) as running:
        moved(machine, running)
        assert refused(machine.hello) == (Code.PERMISSION_DENIED, "forgotten")
        assert refused(machine.renew_expired, ec.generate_private_key(ec.SECP256R1()))[1] == "forgotten"
        assert files_with(settings, *canaries) == []


def test_a_call_under_way_while_its_machine_is_forgotten(running):
    """Records of a call under way are not stored after its machine was forgotten, nor for a machine that
    enrolled since."""
    machine = enrolled(running)
    collector, registry = running.collector, running.collector.store.registry
    caller = collector.issuing.commit(lambda: registry.host_by_agent_id(AgentId(machine.agent_id)))
    late = Stream(caller.host_id, epoch=b"\7" * EPOCH_BYTES)
    late.add(gap(records=1))
    arguments = {"host": machine.agent_id.hex(), "who": "ops", "why": "test"}
    collector.operations.perform("host_forget", arguments)
    enrolled(running)
    outcome = collector.writer.append(late.push()).result(SECONDS)
    assert outcome.result is AppendResult.FAILED
    assert collector.store.data.connection.execute("SELECT count(*) FROM records").fetchone() == (0,)


def test_forgetting_asks(running, veilleuse):
    """Nothing is deleted without a confirmation, a reason, or a known host."""
    machine = enrolled(running)
    host = machine.agent_id.hex()
    assert veilleuse("hosts", "forget", host)[0] == 2
    code, _, err = veilleuse("hosts", "forget", host, "--why", "x")
    assert (code, "nothing was deleted" in err) == (1, True)
    assert veilleuse("hosts", "forget", host, "--why", " ", "--yes")[0] == 1
    assert veilleuse("hosts", "forget", "ffff", "--why", "x", "--yes")[0] == 1
    machine.hello()


@pytest.mark.promise("P9")
def test_export(running, veilleuse, tmp_path, figure):
    """The export contains all stored data of a machine in one private file; the journal names the request. It
    replaces no file."""
    machine, _ = planted(running, 5)
    output = tmp_path / "export.json"
    code, out, _ = veilleuse("hosts", "export", machine.agent_id.hex()[:12], "-o", str(output), "--json")
    assert code == 0
    assert json.loads(out)["rows"]["records"] == 5
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    held = json.loads(output.read_text())
    assert held["identity"]["host_name"] == f"{CANARY}-name"
    assert held["identity"]["chassis_pseudonym"] == "ca" * 32
    assert [entry["why"] for entry in held["identity"]["journal"]] == ["veilleuse hosts export"]
    assert held["hosts"][0]["facts_decoded"]["model"] == f"{CANARY} model"
    assert held["records"][0]["wire_decoded"]["measurement"]["points"][0]["domain"] == f"{CANARY}-rapl"
    assert held["point_sums"][0]["domain"] == f"{CANARY}-rapl"
    assert held["unit_sums"][0]["name"] == f"unit:{CANARY}-rapl"
    assert held["certificates"][0]["certificate_der"] == machine.certificate_der.hex()
    assert {"streams", "sums", "derived", "state_totals"} <= set(held)
    figure(f"{len(held)} tables exported, names and journal included")
    assert veilleuse("hosts", "export", machine.agent_id.hex(), "-o", str(output))[0] == 1
