# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test what every store keeps of hosts, tokens, certificates and sites: ports.Registry."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from tests.conformance.backends import MONDAY
from tests.support.pushes import HOUR, MONDAY_10H, NOW, Stream, enrol, realistic, site
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.clones import Holders
from veilleuse.collector.model.hosts import Certificate, HostStatus
from veilleuse.collector.model.records import AgentId, Grain, HostId
from veilleuse.collector.ports.registry import Registry
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import (
    DeviceClass,
    Population,
)


def test_a_token_is_used_no_more_often_than_it_may(store):
    """A token for two uses allows two; a revoked, expired or unknown one allows none."""
    token_id = _token(store.registry, max_uses=2)
    assert [store.registry.use_token(token_id, NOW) for _ in range(3)] == [True, True, False]
    late, revoked = _token(store.registry), _token(store.registry)
    assert not store.registry.use_token(late, NOW + HOUR)
    assert store.registry.revoke_token(revoked)
    assert not store.registry.use_token(revoked, NOW)
    assert not store.registry.use_token(999, NOW)
    assert not store.registry.revoke_token(999)
    token = store.registry.token_by_hash(token_id.to_bytes(32, "big"))
    assert token is not None
    assert (token.uses, token.max_uses, token.networks, token.revoked) == (
        2,
        2,
        ("10.0.0.0/8", "::1/128"),
        False,
    )
    assert [one.revoked for one in store.registry.tokens()] == [False, False, True]


def test_certificates_are_found_by_what_makes_a_call_idempotent(store):
    """Certificates are found by serial, (token, key), (previous serial, key), and host (the newest)."""
    host = enrol(store.registry)
    first = Certificate("0a", host, 1, bytes(32), b"der1", NOW, NOW + HOUR, token_id=1)
    second = Certificate("0b", host, 2, bytes([1]) * 32, b"der2", NOW, NOW + HOUR, previous_serial="0a")
    for certificate in (first, second):
        store.registry.insert_certificate(certificate)
    assert store.registry.certificate_by_serial("0a") == first
    assert store.registry.certificate_by_token(1, bytes(32)) == first
    assert store.registry.certificate_by_token(1, bytes([1]) * 32) is None
    assert store.registry.certificate_by_previous("0a", bytes([1]) * 32) == second
    assert store.registry.latest_certificate(host) == second
    assert store.registry.latest_certificate(HostId(77)) is None
    store.registry.trim_certificates(host, 2)
    assert store.registry.certificate_by_serial("0a") == first  # the certificate of its token
    store.registry.trim_certificates(HostId(77), 3)
    assert store.registry.latest_certificate(host) == second
    store.registry.trim_certificates(host, 3)
    assert store.registry.latest_certificate(host) == first


def test_what_was_derived_of_an_unknown_machine_is_derived_again_once_it_is_known(store):
    """A host's past is derived again when missing facts arrive, or a class that an earlier agent did not
    report. Changed hardware marks nothing. A class that is withdrawn and reported again marks the past once a
    day."""
    host_id = enrol(store.registry)
    store.ingest.append([Stream(host_id).send(realistic(MONDAY_10H), realistic(MONDAY_10H + HOUR))])

    def marked(now: int = NOW, **facts: Any) -> int:
        for period in store.derive.dirty(9):
            store.derive.put_aside(period)
        wire = pb.Facts(**facts).SerializeToString()
        store.registry.record_hello(host_id, facts_wire=wire, health_wire=None, now_unix_milliseconds=now)
        return len(store.derive.dirty(9))

    tower: Any = pb.DEVICE_CLASS_TOWER
    assert marked(device_class=tower, hard_disks=1) == 2
    assert marked(NOW + 24 * HOUR, device_class=tower, hard_disks=2) == 0
    assert marked(NOW + 48 * HOUR, device_class=pb.DEVICE_CLASS_SFF, hard_disks=2) == 0
    assert marked(NOW + 72 * HOUR) == 0
    assert marked(NOW + 96 * HOUR, device_class=tower) == 2
    assert marked(NOW + 96 * HOUR) == marked(NOW + 96 * HOUR, device_class=tower) == 0


def test_a_host_is_what_it_said_last(store):
    """A Hello replaces facts and health; without facts the former stay. Names are stored separately."""
    host_id = enrol(store.registry)
    facts = pb.Facts(device_class=pb.DEVICE_CLASS_SERVER, vendor="Dell Inc.", cpu_count=8)
    health = pb.Health(agent_version="0.1.0", spool_records=3)
    store.registry.record_hello(
        host_id,
        facts_wire=facts.SerializeToString(),
        health_wire=health.SerializeToString(),
        now_unix_milliseconds=NOW + 5,
    )
    store.registry.record_hello(host_id, facts_wire=None, health_wire=None, now_unix_milliseconds=NOW + 9)
    store.registry.set_status(host_id, HostStatus.SUSPENDED)
    (host,) = store.reader.hosts()
    assert host == store.registry.host(host_id) == store.registry.host_by_agent_id(host.agent_id)
    assert (host.facts.device_class, host.facts.vendor, host.facts.memory_bytes) == (
        DeviceClass.SERVER,
        "Dell Inc.",
        None,
    )
    assert host.health is not None
    assert (host.health.spool_records, host.health.resident_rss_bytes) == (3, None)
    assert (host.status, host.last_contact_unix_milliseconds) == (HostStatus.SUSPENDED, NOW + 9)
    store.registry.put_name(host.agent_id, "srv-01")
    assert store.registry.names() == {host.agent_id: "srv-01"}


def test_a_workstation_s_contact_is_a_date(store):
    """The hour of a workstation's contact is not stored."""
    host_id = enrol(store.registry, Population.WORKSTATION)
    for now in (NOW, NOW + 7 * HOUR):
        store.registry.record_hello(host_id, facts_wire=None, health_wire=None, now_unix_milliseconds=now)
        host = store.registry.host(host_id)
        assert host is not None
        assert host.last_contact_unix_milliseconds == NOW - NOW % (24 * HOUR)


def test_a_site_that_moves_takes_its_time_zone_along(store):
    """A corrected time zone applies to later records only."""
    stream = Stream(enrol(store.registry))
    store.ingest.append([stream.send(realistic(MONDAY_10H))])
    store.registry.put_site(site(time_zone="Pacific/Auckland"))
    store.ingest.append([stream.send(realistic(MONDAY_10H + 3 * HOUR))])
    assert {row.start for row in store.reader.sums(Grain.DAY, 0, 2**62)} == {
        MONDAY,
        MONDAY + 1,
    }
    assert store.registry.site("lyon").time_zone == "Pacific/Auckland"
    with pytest.raises(UsageError, match="no site 'paris'"):
        store.registry.site("paris")


def test_nonces_of_holders_are_kept(store):
    """Holders are empty at first, then as set last, in order; an unknown host has none."""
    host = enrol(store.registry)
    assert store.registry.holders(host) == store.registry.holders(HostId(77)) == Holders()
    nonces = [bytes([number]) * 16 for number in range(6)]
    holders = Holders(
        nonces[0], (nonces[1], b""), 7, (nonces[3], b""), (nonces[2], b"", nonces[4]), nonces[5]
    )
    store.registry.set_holders(host, holders)
    assert store.registry.holders(host) == holders
    store.registry.note_conflict(host)
    store.registry.note_conflict(host)
    assert store.registry.host(host).conflicts == 2
    store.registry.clear_conflicts(host)
    assert store.registry.holders(host) == replace(holders, current=b"", waiting=(), copies=())
    store.registry.set_holders(host, replace(holders, waiting=()))
    store.registry.clear_conflicts(host)
    assert store.registry.holders(host) == replace(holders, waiting=(), copies=())
    assert store.registry.host(host).conflicts == 0


def test_a_generation_in_use_only_goes_up(store):
    """The highest generation of all Hellos is stored."""
    host = enrol(store.registry)
    for generation in (1, 3, 2):
        store.registry.note_use(host, generation)
    assert store.registry.host(host).used_generation == 3


def test_copies_hang_on_their_original(store):
    """Copies are counted by status, for their original only."""
    original = copy = enrol(store.registry)
    for number, status in enumerate((HostStatus.PENDING, HostStatus.PENDING, HostStatus.ACTIVE)):
        copy = store.registry.insert_host(
            agent_id=AgentId(bytes([number + 100]) * 16),
            token_id=1,
            org_entity="DSI",
            site="lyon",
            population=Population.SERVER,
            status=status,
            enrolled_on=date(2026, 3, 1),
            facts_wire=None,
            copy_of=original,
        )
        assert store.registry.host(copy).copy_of == original
    assert store.registry.count_copies(original, HostStatus.PENDING) == 2
    assert store.registry.count_copies(copy, HostStatus.PENDING) == 0
    assert store.registry.host(original).copy_of is None


def test_uses_of_a_token_never_go_down(store):
    """The number of uses only increases, so that a restored registry cannot allow more uses."""
    token_id = _token(store.registry, max_uses=5)
    for uses in (2, 1):
        store.registry.raise_token_uses(token_id, uses)
    assert store.registry.tokens()[-1].uses == 2
    host = enrol(store.registry)
    assert store.registry.token_of_host(host) in store.registry.tokens()
    assert store.registry.token_of_host(HostId(77)) is None


def test_forgotten_machines_leave_a_hash(store):
    """A forgotten machine leaves its hash with the day of the first deletion."""
    store.registry.put_forgotten(bytes(32), 7)
    store.registry.put_forgotten(bytes(32), 8)
    assert store.registry.forgotten() == {bytes(32): 7}


def test_the_same_agent_cannot_enrol_twice(store):
    """The agent id is unique."""
    host = enrol(store.registry)
    known = store.registry.host(host)
    assert known is not None
    with pytest.raises(Exception, match=r"UNIQUE|unique"):
        store.registry.insert_host(
            agent_id=AgentId(known.agent_id),
            token_id=1,
            org_entity="DSI",
            site="lyon",
            population=Population.SERVER,
            status=HostStatus.ACTIVE,
            enrolled_on=date(2026, 3, 1),
            facts_wire=os.urandom(0),
        )
    assert store.registry.hosts_of_token(1) == (host,)


def _token(registry: Registry, max_uses: int = 1) -> int:
    number = len(registry.tokens()) + 1
    return registry.insert_token(
        token_sha256=number.to_bytes(32, "big"),
        created_unix_milliseconds=NOW,
        expires_unix_milliseconds=NOW + HOUR,
        max_uses=max_uses,
        networks=("10.0.0.0/8", "::1/128"),
        org_entity="DSI",
        site="lyon",
        population=Population.SERVER,
        approve=False,
    )
