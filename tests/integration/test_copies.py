# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Copies of an enrolled machine at the collector: their proof, who decides, their identity. docs/wire.md §7,
decision 0017."""

from __future__ import annotations

import json

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.machines import SECONDS, enrolled, refused
from tests.support.pushes import Stream, gap
from veilleuse.collector.enrolment import clones
from veilleuse.collector.model.hosts import HostStatus
from veilleuse.collector.model.records import HostId
from veilleuse.wire.v1 import telemetry_pb2 as pb

Code = grpc.StatusCode


def test_a_copy_gets_an_identity_of_its_own_at_once(running):
    """A valid token that admits copies gives a copy another id and the original's placement, for one use. A
    second request with the same key gets the same answer."""
    machine = enrolled(running, uses=2, admit_copies=True)
    clone, key = machine.clone(), ec.generate_private_key(ec.SECP256R1())
    original = machine.clone()
    first = clone.enrol_as_copy(key)
    assert original.enrol_as_copy(key) == first  # the answer was lost: the same machine asks again
    assert first.agent_id != machine.agent_id
    assert (first.placement.org_entity, first.placement.site) == ("DSI", "Lyon")
    clone.hello()
    machine.hello()
    hosts = running.collector.issuing.commit(running.collector.store.registry.hosts)
    assert [host.copy_of for host in hosts] == [None, hosts[0].host_id]
    assert running.collector.operations.perform("token_list", {})[0]["uses"] == 2
    assert running.collector.health.snapshot()["copies"] == {"fresh": 1, "again": 1}


@pytest.mark.parametrize("token", [{"uses": 9}, {"admit_copies": True}])
def test_a_copy_waits_for_an_operator(running, token):
    """Without --admit-copies, or with a used token, an operator must approve a copy. Then it enrols with the
    same key, and the token has no further use."""
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
    """One command admits all pending copies of a machine, another refuses them; other machines are not
    changed. Copies of a suspended machine cannot be admitted all at once."""
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
    code, _, error = veilleuse("hosts", "revoke", "--copies-of", other.agent_id.hex())
    assert (code, "to refuse for ever 1 machine pending as copies of host" in error) == (1, True)
    code, out, _ = veilleuse("hosts", "revoke", "--copies-of", other.agent_id.hex(), "--yes")
    assert (code, out.strip()) == (0, f"copies of {other.agent_id.hex()[:12]}: 1 pending → revoked")
    assert veilleuse("hosts", "activate")[0] == 2
    assert (
        veilleuse("hosts", "activate", machine.agent_id.hex(), "--copies-of", machine.agent_id.hex())[0] == 2
    )


def test_the_operator_says_that_copies_get_in(running, veilleuse, tmp_path):
    """Copies are admitted only if the token's creation says so, and the list of tokens shows it."""
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
    """A copy of a suspended or revoked machine gets no identity."""
    machine = enrolled(running, uses=9)
    running.collector.operations.perform("host_status", {"host": machine.agent_id.hex(), "status": status})
    assert refused(machine.clone().enrol_as_copy) == (Code.PERMISSION_DENIED, status)


def test_who_cannot_prove_to_be_a_copy(running):
    """Another key, another machine's certificate, a wrong or used nonce, the original's own key: each is
    refused, and attempts are limited like guesses of tokens."""
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
        stranger = machine.copy_of(key, agent_id=bytes(16))
        assert refused(stub.Enrol, stranger, timeout=SECONDS)[1] == "rate_limited"
        assert stub.Enrol(
            machine.copy_of(key), timeout=SECONDS
        ).agent_id  # failures of others do not block it
    assert len(running.collector.issuing.commit(running.collector.store.registry.hosts)) == 3


def test_refusals_do_not_use_a_connection_up(running):
    """A connection has four streams. A refused stream is free again at once, without waiting for Python's
    garbage collection."""
    machine = enrolled(running)
    with machine.enrolment() as stub:
        for _ in range(30):
            request = pb.RenewExpiredRequest(agent_id=machine.agent_id)
            assert refused(stub.RenewExpired, request, timeout=SECONDS)[1] == "bad_request"


def test_copies_that_wait_are_bounded(running, monkeypatch):
    """A stolen key cannot add pending copies without end; a copy that is pending may still ask."""
    monkeypatch.setattr(clones, "MAX_PENDING_COPIES", 2)
    machine = enrolled(running)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
    for key in keys[:2]:
        machine.clone().enrol_as_copy(key)
    assert refused(machine.clone().enrol_as_copy, keys[2]) == (Code.RESOURCE_EXHAUSTED, "too_many_copies")
    assert machine.clone().enrol_as_copy(keys[0]).agent_id


def test_the_operator_sees_copies_and_conflicts(running, veilleuse):
    """Copies and conflicts appear in the list, its filters and `hosts show`; activation clears the count."""
    machine = enrolled(running)
    clone = machine.clone()
    stream = Stream(HostId(0))
    stream.add(gap(records=1))
    machine.hello()
    with machine.telemetry() as stub:
        stub.Push(stream.request(), timeout=SECONDS)
    assert refused(clone.hello)[1] == "older_instance"
    machine.hello()
    assert refused(clone.hello)[1] == "identity_conflict"
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


def test_a_forgotten_host_leaves_its_copies(running):
    """Admitted copies stay active when their original is forgotten."""
    machine = enrolled(running, uses=2, admit_copies=True)
    clone = machine.clone()
    clone.enrol_as_copy()
    running.collector.operations.perform(
        "host_forget", {"host": machine.agent_id.hex(), "who": "ops", "why": "test"}
    )
    clone.hello()
    (host,) = running.collector.issuing.commit(running.collector.store.registry.hosts)
    assert (host.copy_of, host.status) == (None, HostStatus.ACTIVE)
