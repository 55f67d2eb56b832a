# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the authorisation of each call: certificate, dates and status, read from memory."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from veilleuse.collector.enrolment.authorise import AccessTable, CertificateAuthoriser, HostAccess
from veilleuse.collector.enrolment.ca import Authority, create
from veilleuse.collector.errors import NotAuthorised
from veilleuse.collector.model.hosts import Host, HostStatus, MachineFacts
from veilleuse.collector.model.records import AgentId, HostId
from veilleuse.collector.settings import Pki
from veilleuse.wire.vocabulary import Population

AGENT = AgentId(b"\x07" * 16)
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1()).public_key()


class Door:
    """An authoriser on a settable clock, with one host."""

    def __init__(self, folder, status: HostStatus = HostStatus.ACTIVE) -> None:
        create(folder, NOW)
        self.now = NOW
        self.behind = 0
        self.authority = Authority(folder, Pki(), lambda: self.now)
        self.standings = AccessTable([(AGENT, HostAccess(HostId(4), Population.SERVER, status, 2))])
        self.authoriser = CertificateAuthoriser(
            self.authority, self.standings, now=lambda: self.now, on_collector_behind=self._count
        )

    def _count(self) -> None:
        self.behind += 1

    def pem(self, generation: int = 2, agent: AgentId = AGENT) -> bytes:
        return self.authority.issue(KEY, agent, Population.SERVER, generation).certificate_der

    def reason(self, certificate: bytes | None) -> str:
        """Return the reason of the refusal; empty when the call is authorised."""
        try:
            self.authoriser.authorise(certificate)
        except NotAuthorised as error:
            return error.reason
        return ""


@pytest.fixture
def door(tmp_path) -> Door:
    """Return an authoriser with an active host."""
    return Door(tmp_path)


def test_caller(door):
    """An active host's certificate gives its row, agent id, population, generation and serial."""
    certificate = door.pem()
    caller = door.authoriser.authorise(certificate)
    assert (caller.host_id, caller.agent_id, caller.population, caller.generation) == (
        4,
        AGENT,
        Population.SERVER,
        2,
    )
    assert caller.serial == door.authority.recognise(certificate).serial


def test_dates_are_checked_on_every_call(door):
    """A certificate that was accepted before is refused outside its dates."""
    certificate = door.pem()
    assert door.reason(certificate) == ""
    door.now = NOW + timedelta(hours=24)
    assert door.reason(certificate) == "expired"
    door.now = NOW - timedelta(hours=1)
    assert door.reason(certificate) == "not_yet_valid"


def test_who_is_nobody(door):
    """A call without certificate, with rubbish, or of an agent that was never enrolled is refused."""
    assert door.reason(None) == "no_certificate"
    assert door.reason(b"") == "no_certificate"
    assert door.reason(b"rubbish") == "not_an_agent"
    assert door.reason(door.pem(agent=AgentId(b"\x08" * 16))) == "unknown_agent"


@pytest.mark.parametrize("status", [status for status in HostStatus if status is not HostStatus.ACTIVE])
def test_status_holds_at_once(door, status):
    """A status other than active refuses the next call, with its own reason."""
    certificate = door.pem()
    assert door.reason(certificate) == ""
    door.standings.set_status(AGENT, status)
    assert door.reason(certificate) == status.value
    door.standings.set_status(AGENT, HostStatus.ACTIVE)
    assert door.reason(certificate) == ""


def test_certificate_newer_than_the_registry(door):
    """A certificate newer than the registry (a restored collector) is accepted and counted once."""
    newer = door.pem(generation=5)
    assert door.reason(newer) == ""
    assert door.reason(newer) == ""
    assert door.behind == 1
    standing = door.standings.get(AGENT)
    assert standing is not None
    assert standing.generation == 5


def test_two_holders_of_one_identity_are_never_served_both(door):
    """Once the newer certificate was used, the older one is refused as a conflict."""
    older, newer = door.pem(generation=2), door.pem(generation=3)
    assert door.reason(older) == ""
    door.standings.raise_generation(AGENT, 3)  # issued; its answer may be lost
    assert door.reason(older) == ""
    assert door.reason(newer) == ""
    assert door.reason(older) == "identity_conflict"
    assert door.reason(newer) == ""
    assert door.behind == 0


def test_enrolment_never_undoes_a_status(door):
    """A host that is suspended while its enrolment is answered stays suspended."""
    host = Host(
        HostId(9),
        AgentId(b"\x09" * 16),
        "DSI",
        "Lyon",
        Population.SERVER,
        HostStatus.ACTIVE,
        MachineFacts(),
        date(2026, 3, 10),
        None,
    )
    door.standings.add_host(host, 1)
    door.standings.set_status(host.agent_id, HostStatus.SUSPENDED)
    door.standings.add_host(host, 2)
    standing = door.standings.get(host.agent_id)
    assert standing is not None
    assert (standing.status, standing.generation) == (HostStatus.SUSPENDED, 2)
