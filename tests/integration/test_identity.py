# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""One identity, one machine: copies, restarts, restores, and the right to be forgotten, over real gRPC. PROMISES.md §2.6-2.7."""

from __future__ import annotations

import json
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.machines import SECONDS, Machine, Served, refusal, served, settings_in
from tests.pushes import Stream, cell, clock, measurement, rapl
from veilleuse.collector.cli.main import run
from veilleuse.collector.enrolment import copies
from veilleuse.collector.model import HostId, HostStatus
from veilleuse.collector.settings import CollectorSettings, settings_environment
from veilleuse.wire.limits import EPOCH_BYTES
from veilleuse.wire.v1 import telemetry_pb2 as pb

Code = grpc.StatusCode
CONFLICT = (Code.PERMISSION_DENIED, "identity_conflict")
CANARY = "canary-7f3e"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Served]:
    """A collector of its own."""
    with served(settings_in(tmp_path)) as collector:
        yield collector


def refused(call, *arguments, **more) -> tuple[Code, str]:
    """How a call that must be refused is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **more)
    return refusal(caught.value)


def enrolled(running: Served, **token) -> Machine:
    """A machine that has said Hello."""
    machine = Machine(running.token(**token))
    machine.enrol()
    machine.hello()
    return machine


def renewed(machine: Machine) -> Machine:
    """The same machine with its next certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    with machine.telemetry() as stub:
        request = pb.RenewRequest(certificate_request_der=machine.request(key))
        answer = stub.Renew(request, timeout=SECONDS)
    machine.key = key
    machine.keep(answer.certificate)
    return machine


def moved(machine: Machine, running: Served) -> None:
    """The collector started again, on other ports."""
    machine.join = machine.join | {
        "address": running.collector.addresses.telemetry,
        "enrolment_address": running.collector.addresses.enrolment,
    }


def push(machine: Machine, domain: str = "package-0", start: int | None = None, records: int = 1) -> None:
    """Minutes of measurements."""
    begin = start or (time.time_ns() // 3_600_000_000_000 - 2) * 3_600_000
    stream = Stream(HostId(0), epoch=b"\7" * EPOCH_BYTES)
    for minute in range(records):
        cells = [cell(60_000, energies=[(0, 5_000, 60_000)])]
        stream.add(measurement(clock(begin + minute * 60_000), cells, [rapl(domain)]))
    with machine.telemetry() as stub:
        answer = stub.Push(stream.request(), timeout=SECONDS)
    assert answer.outcome == pb.PUSH_OUTCOME_STORED


# --- generations


def test_the_older_holder_stays_refused_after_a_restart(tmp_path):
    """Which certificate was used is kept: the older one is refused by the next process too, the newer one never."""
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
        (host,) = running.collector.office.commit(running.collector.store.registry.hosts)
        assert (host.used_generation, host.conflicts) == (2, 3)


def test_a_renewal_whose_answer_was_lost_suspends_nobody(tmp_path):
    """The newer certificate was issued and never used: the older one is served, before and after a restart."""
    settings = settings_in(tmp_path)
    with served(settings) as running:
        machine = enrolled(running)
        renewed(machine.clone())
        machine.hello()
    with served(settings) as running:
        moved(machine, running)
        machine.hello()


def test_after_a_restore_newer_certificates_are_welcome(tmp_path):
    """A hundred machines renewed after the backup: none is refused, each is counted; who enrolled since is known again."""
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
    """Linked clones, hardware ids and all: within two Hellos of each one is refused, the other is served; the operator sees
    it, and the refused one gets an identity of its own by itself."""
    machine = enrolled(running, uses=2, admit_copies=True)
    clone = machine.clone()
    answers = []
    for _ in range(4):
        for one in (machine, clone):
            try:
                one.hello()
                answers.append("served")
            except grpc.RpcError as error:
                answers.append(refusal(error)[1])
    assert answers == ["served"] * 3 + ["identity_conflict"] + ["served", "identity_conflict"] * 2
    health = running.collector.health.snapshot()
    assert health["identity_conflicts"] == {"instance": 3}
    assert health["hellos"] == {"ok": 4, "stale_instance": 1, "returned_instance": 1}
    (host,) = running.collector.office.commit(running.collector.store.registry.hosts)
    assert host.conflicts == 3
    assert clone.enrol_as_copy().HasField("certificate")
    clone.hello()
    machine.hello()


def test_a_refused_holder_that_hammers_fills_nothing(running, caplog):
    """Sixty calls: each refused and counted in memory; what is written of them, and logged, is bounded."""
    machine = enrolled(running)
    clone = machine.clone()
    machine.hello()
    clone.hello()
    machine.hello()
    for _ in range(60):
        assert refused(clone.hello) == CONFLICT
    (host,) = running.collector.office.commit(running.collector.store.registry.hosts)
    assert host.conflicts == 10
    assert running.collector.health.snapshot()["identity_conflicts"] == {"instance": 60}
    assert caplog.text.count("two machines use one identity") == 10
    machine.hello()


# --- copies


def test_a_copy_gets_an_identity_of_its_own_at_once(running):
    """Where the original's token admits copies, and is good: one use of it, the original's placement, another id; asked
    twice, the same."""
    machine = enrolled(running, uses=2, admit_copies=True)
    clone, key = machine.clone(), ec.generate_private_key(ec.SECP256R1())
    original = machine.clone()
    first = clone.enrol_as_copy(key)
    assert original.enrol_as_copy(key) == first  # its answer was lost: the same machine asks again
    assert first.agent_id != machine.agent_id
    assert (first.placement.org_entity, first.placement.site) == ("DSI", "Lyon")
    clone.hello()
    machine.hello()
    hosts = running.collector.office.commit(running.collector.store.registry.hosts)
    assert [host.copy_of for host in hosts] == [None, hosts[0].host_id]
    assert running.collector.operations.perform("token_list", {})[0]["uses"] == 2
    assert running.collector.health.snapshot()["copies"] == {"fresh": 1, "again": 1}


@pytest.mark.parametrize("token", [{"uses": 9}, {"admit_copies": True}])
def test_a_copy_waits_for_an_operator(running, token):
    """As long as nobody said that copies are let in; or when the token that says so is used up, revoked or expired: the
    operator approves, and the copy gets in with the same key. No use of the token is taken."""
    machine = enrolled(running, **token)
    clone, key = machine.clone(), ec.generate_private_key(ec.SECP256R1())
    waiting = clone.enrol_as_copy(key)
    assert not waiting.HasField("certificate")
    assert waiting.retry_after_milliseconds > 0
    assert clone.enrol_as_copy(key).agent_id == waiting.agent_id
    running.collector.operations.perform("host_status", {"host": waiting.agent_id.hex(), "status": "active"})
    assert clone.enrol_as_copy(key).HasField("certificate")
    assert clone.agent_id == waiting.agent_id
    clone.hello()
    assert running.collector.health.snapshot()["copies"] == {"pending": 2, "again": 1}
    assert running.collector.operations.perform("token_list", {})[0]["uses"] == 1


def test_copies_are_decided_all_at_once(running, veilleuse):
    """One command admits all that wait as copies of one machine, another refuses them; nobody else is touched, and those of a
    machine that was put out are not admitted in a heap."""
    machine, other = enrolled(running, uses=9), enrolled(running, uses=9)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
    waiting = {machine.clone().enrol_as_copy(key).agent_id.hex() for key in keys}
    stranger = other.clone().enrol_as_copy()
    code, out, _ = veilleuse("hosts", "activate", "--copies-of", machine.agent_id.hex()[:12], "--json")
    decided = json.loads(out)
    assert (code, decided["copy_of"], decided["status"]) == (0, machine.agent_id.hex(), "active")
    assert set(decided["hosts"]) == waiting
    for key in keys:
        clone = machine.clone()
        assert clone.enrol_as_copy(key).HasField("certificate")
        clone.hello()
    listed = {
        host["agent_id"]: host["status"] for host in json.loads(veilleuse("hosts", "list", "--json")[1])
    }
    assert listed[stranger.agent_id.hex()] == "pending"
    veilleuse("hosts", "suspend", other.agent_id.hex())
    code, _, error = veilleuse("hosts", "activate", "--copies-of", other.agent_id.hex())
    assert (code, "one by one" in error) == (1, True)
    code, out, _ = veilleuse("hosts", "revoke", "--copies-of", other.agent_id.hex())
    assert (code, out.strip()) == (0, f"copies of {other.agent_id.hex()[:12]}: 1 pending → revoked")
    assert veilleuse("hosts", "activate")[0] == 2
    assert (
        veilleuse("hosts", "activate", machine.agent_id.hex(), "--copies-of", machine.agent_id.hex())[0] == 2
    )


def test_the_operator_says_that_copies_get_in(running, veilleuse, tmp_path):
    """At the making of a token, never by default; the list tells."""
    place = ("--entity", "DSI", "--site", "Lyon", "--population", "server")
    for name, words in (("strict", ()), ("open", ("--admit-copies",))):
        assert veilleuse("token", "create", *place, "--output", str(tmp_path / name), *words)[0] == 0
    both = ("--approve", "--admit-copies", "--output", str(tmp_path / "both"))
    assert veilleuse("token", "create", *place, *both)[0] == 2
    tokens = json.loads(veilleuse("token", "list", "--json")[1])
    assert [token["admit_copies"] for token in tokens] == [False, True]
    assert veilleuse("token", "list")[1].count("copies get in") == 1


@pytest.mark.parametrize("status", ["suspended", "revoked"])
def test_no_copy_of_a_machine_that_was_put_out(running, status):
    """A thief's key gives no second identity."""
    machine = enrolled(running, uses=9)
    running.collector.operations.perform("host_status", {"host": machine.agent_id.hex(), "status": status})
    assert refused(machine.clone().enrol_as_copy) == (Code.PERMISSION_DENIED, status)


def test_who_cannot_prove_to_be_a_copy(running):
    """Another key, another's certificate, an old nonce, the original's own key: refused, and limited like tokens."""
    machine, other = enrolled(running, uses=9), enrolled(running)
    key = ec.generate_private_key(ec.SECP256R1())
    with machine.enrolment() as stub:
        cases = [
            (machine.copy_of(key, signer=other.key), "bad_signature"),
            (machine.copy_of(key, certificate_der=other.certificate_der), "other_agent"),
            (machine.copy_of(key, agent_id=other.agent_id), "other_agent"),
            (machine.copy_of(key, certificate_der=b"x"), "not_an_agent"),
            (machine.copy_of(key, nonce=bytes(32)), "bad_signature"),
            (machine.copy_of(machine.key), "key_reused"),
        ]
        for request, reason in cases:
            assert refused(stub.Enrol, request, timeout=SECONDS)[1] == reason
        good = machine.copy_of(key)
        stub.Enrol(good, timeout=SECONDS)
        assert refused(stub.Enrol, good, timeout=SECONDS) == (Code.FAILED_PRECONDITION, "bad_nonce")
        for _ in range(3):
            refused(stub.Enrol, cases[0][0], timeout=SECONDS)
        assert refused(stub.Enrol, machine.copy_of(key), timeout=SECONDS)[1] == "rate_limited"
    assert len(running.collector.office.commit(running.collector.store.registry.hosts)) == 3


def test_refusals_do_not_use_a_connection_up(running):
    """It has four streams: one that was refused is free again at once, without waiting for Python's garbage collector."""
    machine = enrolled(running)
    with machine.enrolment() as stub:
        for _ in range(30):
            request = pb.RenewExpiredRequest(agent_id=machine.agent_id)
            assert refused(stub.RenewExpired, request, timeout=SECONDS)[1] == "bad_request"


def test_copies_that_wait_are_bounded(running, monkeypatch):
    """A stolen key makes no list without end; who waits already may still ask."""
    monkeypatch.setattr(copies, "MAX_PENDING_COPIES", 2)
    machine = enrolled(running)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
    for key in keys[:2]:
        machine.clone().enrol_as_copy(key)
    assert refused(machine.clone().enrol_as_copy, keys[2]) == (Code.RESOURCE_EXHAUSTED, "too_many_copies")
    assert machine.clone().enrol_as_copy(keys[0]).agent_id


# --- what operators and persons ask


@pytest.fixture
def veilleuse(monkeypatch, capsys, tmp_path):
    """`veilleuse("hosts", "list")` → (exit code, output, errors)."""
    for name, value in settings_environment(settings_in(tmp_path)).items():
        monkeypatch.setenv(name, value)

    def call(*words: str) -> tuple[int, str, str]:
        code = run(words)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_the_operator_sees_copies_and_conflicts(running, veilleuse):
    """In the list, with filters, in one machine's page; looking and activating clears the count."""
    machine = enrolled(running)
    clone = machine.clone()
    for one in (machine, clone, machine):
        one.hello()
    refused(clone.hello)
    waiting = clone.enrol_as_copy().agent_id.hex()
    listed = {host["agent_id"]: host for host in json.loads(veilleuse("hosts", "list", "--json")[1])}
    assert listed[waiting]["copy_of"] == machine.agent_id.hex()
    assert listed[machine.agent_id.hex()]["conflicts"] == 1
    text = veilleuse("hosts", "list")[1]
    assert f"copy of {machine.agent_id.hex()[:12]}" in text
    assert "1 conflict(s)" in text
    only = json.loads(veilleuse("hosts", "list", "--copies", "--json")[1])
    assert [host["agent_id"] for host in only] == [waiting]
    only = json.loads(veilleuse("hosts", "list", "--conflicts", "--json")[1])
    assert [host["agent_id"] for host in only] == [machine.agent_id.hex()]
    veilleuse("hosts", "activate", machine.agent_id.hex())
    assert "conflicts                    0" in veilleuse("hosts", "show", machine.agent_id.hex())[1]


def files_with(settings: CollectorSettings, *canaries: bytes) -> list[str]:
    """Files of the data directory that hold one of them."""
    return [
        path.name
        for path in settings.data_dir.rglob("*")
        if path.is_file() and any(canary in path.read_bytes() for canary in canaries)
    ]


def planted(running: Served) -> tuple[Machine, tuple[bytes, ...]]:
    """A machine with canaries in its name, pseudonym, facts, records and points; and all by which it could be found."""
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
    push(machine, f"{CANARY}-rapl", records=300)
    running.collector.operations.perform("flush", {})
    agent_id = machine.agent_id
    return machine, (
        CANARY.encode(),
        b"\xca" * 32,
        agent_id,
        agent_id.hex().encode(),
        machine.certificate_der,
    )


def nothing_left_but_of(connection, host_id: int) -> None:
    """Whatever table has a host in it has that one alone."""
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    with_host = [
        table
        for table in tables
        if any(column[1] == "host_id" for column in connection.execute(f"PRAGMA table_info({table})"))
    ]
    assert len(with_host) >= 10
    for table in with_host:
        left = {row[0] for row in connection.execute(f"SELECT DISTINCT host_id FROM {table}")}
        assert left <= {host_id}, table


def test_a_machine_is_forgotten(tmp_path, veilleuse):
    """P9 in small: after `hosts forget` a search of all files finds nothing; others, and the fleet's counters, are untouched;
    its certificate is refused as forgotten, before and after a restart."""
    settings = settings_in(tmp_path)
    with served(settings) as running:
        store = running.collector.store
        stays = enrolled(running)
        push(stays)
        machine, canaries = planted(running)
        veilleuse("hosts", "show", machine.agent_id.hex(), "--name")
        assert {name.removesuffix("-wal") for name in files_with(settings, *canaries)} == {
            "data.db",
            "identity.db",
            "register.jsonl",
        }
        ledger = store.data.connection.execute("SELECT sum(energy_millijoules) FROM ledger").fetchone()
        began = time.monotonic()
        code, out, _ = veilleuse(
            "hosts", "forget", machine.agent_id.hex(), "--why", "request 12", "--yes", "--json"
        )
        assert time.monotonic() - began < 60
        assert (code, json.loads(out)["swept"]) == (0, True)
        assert files_with(settings, *canaries) == []
        assert refused(machine.hello) == (Code.PERMISSION_DENIED, "forgotten")
        stays.hello()
        nothing_left_but_of(store.data.connection, 1)
        connection = store.data.connection
        assert connection.execute("SELECT value FROM totals").fetchone() == (1,)
        assert connection.execute("SELECT sum(energy_millijoules) FROM ledger").fetchone() == ledger
        states = connection.execute("SELECT org_entity, site, milliseconds FROM forgotten_states").fetchall()
        assert states == [("DSI", "Lyon", 300 * 60_000)]
        journal = store.identity.connection.execute(
            "SELECT what, why FROM journal ORDER BY journal_id"
        ).fetchall()
        assert [why for _, why in journal] == ["veilleuse hosts show --name", "request 12"]
        assert all("a forgotten machine" in what for what, _ in journal)
        push(stays, start=(time.time_ns() // 3_600_000_000_000 - 2) * 3_600_000)  # points are found anew
    with served(settings) as running:
        moved(machine, running)
        assert refused(machine.hello) == (Code.PERMISSION_DENIED, "forgotten")
        assert refused(machine.renew_expired, ec.generate_private_key(ec.SECP256R1()))[1] == "forgotten"
        assert files_with(settings, *canaries) == []


def test_forgetting_asks(running, veilleuse):
    """Nothing is deleted without a yes, a reason, or a host."""
    machine = enrolled(running)
    host = machine.agent_id.hex()
    assert veilleuse("hosts", "forget", host)[0] == 2
    code, _, err = veilleuse("hosts", "forget", host, "--why", "x")
    assert (code, "nothing was deleted" in err) == (1, True)
    assert veilleuse("hosts", "forget", host, "--why", " ", "--yes")[0] == 1
    assert veilleuse("hosts", "forget", "ffff", "--why", "x", "--yes")[0] == 1
    machine.hello()


def test_export(running, veilleuse, tmp_path):
    """Everything that is held of a machine, in one private file; who asked is in the journal; never over another file."""
    machine, _ = planted(running)
    output = tmp_path / "export.json"
    code, out, _ = veilleuse("hosts", "export", machine.agent_id.hex()[:12], "-o", str(output), "--json")
    assert code == 0
    assert json.loads(out)["rows"]["records"] == 300
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    held = json.loads(output.read_text())
    assert held["identity"]["host_name"] == f"{CANARY}-name"
    assert held["identity"]["chassis_pseudonym"] == "ca" * 32
    assert [entry["why"] for entry in held["identity"]["journal"]] == ["veilleuse hosts export"]
    assert held["hosts"][0]["facts_decoded"]["model"] == f"{CANARY} model"
    assert held["records"][0]["wire_decoded"]["measurement"]["points"][0]["domain"] == f"{CANARY}-rapl"
    assert held["point_sums"][0]["domain"] == f"{CANARY}-rapl"
    assert held["certificates"][0]["certificate_der"] == machine.certificate_der.hex()
    assert {"streams", "sums", "derived", "state_totals"} <= set(held)
    assert veilleuse("hosts", "export", machine.agent_id.hex(), "-o", str(output))[0] == 1


def test_a_forgotten_host_leaves_its_copies(running):
    """They were let in, and stay."""
    machine = enrolled(running, uses=2, admit_copies=True)
    clone = machine.clone()
    clone.enrol_as_copy()
    running.collector.operations.perform(
        "host_forget", {"host": machine.agent_id.hex(), "who": "ops", "why": "test"}
    )
    clone.hello()
    (host,) = running.collector.office.commit(running.collector.store.registry.hosts)
    assert (host.copy_of, host.status) == (None, HostStatus.ACTIVE)
