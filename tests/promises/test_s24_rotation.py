# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""S24: the root is replaced under 500 agents, 50 of them away during the overlap, over 16 virtual months.
Real: the authority and its files, the registry (SQLite) and its writer, enrolment, renewal, authorisation,
the operator's steps with their refusals, and the agent's own check of its new certificate. Virtual: time and
network. At each contact, at the virtual moment, OpenSSL verifies the collector's chain against the agent's
roots, and cryptography verifies the agent's chain against the collector's roots. (gRPC itself has no settable
clock; tests/integration/test_rotation.py shows that its verdicts are the same.)
"""

from __future__ import annotations

import heapq
import random
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from tests.support import clock
from tests.support.machines import settings_in
from tests.support.peers import peer
from veilleuse.agent.errors import IdentityError
from veilleuse.agent.identity import keys
from veilleuse.agent.identity.store import Identity, Placement
from veilleuse.collector.admin import ca
from veilleuse.collector.admin.operations import Operations
from veilleuse.collector.app.data_directory import Collector, initialise, open_collector
from veilleuse.collector.enrolment.authorise import CertificateAuthoriser
from veilleuse.collector.enrolment.ca import Authority
from veilleuse.collector.enrolment.enrol import Application, Enroller
from veilleuse.collector.enrolment.issuing import Challenges, Renewal
from veilleuse.collector.enrolment.tokens import FailureLimiter
from veilleuse.collector.errors import AdminError, CollectorError
from veilleuse.collector.model.hosts import CertificateChain
from veilleuse.collector.model.records import AgentId
from veilleuse.wire.vocabulary import Population

HERE = ip_address("192.0.2.9")
ROTATE, SWITCH = 20, 50
"""Days after the start."""
LAST_RETURN = 398
"""Days from its certificate's end to the last absent agent's return; RenewExpired accepts up to 400."""
LOST_ANSWERS = 0.02
"""Share of renewals whose answer is lost."""
SHARES = {Population.SERVER: 0.02, Population.CLASSROOM: 0.3, Population.WORKSTATION: 0.68}
_PLACE = Placement("a:1", "a:2", "DSI", "Lyon", "server", ca_pinned=False)


class Lost(Exception):
    """An agent cannot come back by itself."""


@dataclass
class Agent:
    """One machine's identity, as on its disk."""

    population: Population
    absent_from: datetime | None = None
    absent_until: datetime | None = None
    last_moment: bool = False
    """True when the agent comes back on its last possible days instead."""
    agent_id: AgentId = field(default=AgentId(b""))
    key_pem: bytes = field(default=b"", repr=False)
    pending_pem: bytes | None = field(default=None, repr=False)
    chain: tuple[bytes, ...] = ()
    roots: tuple[bytes, ...] = ()
    validity: tuple[int, int] = (0, 0)

    def request(self) -> bytes:
        """Return a request for the pending key, which is made once and kept until an answer comes."""
        if self.pending_pem is None:
            self.pending_pem = keys.new_key_pem()
        return keys.request_der(self.pending_pem)

    def keep(self, given: CertificateChain) -> None:
        """Keep a certificate after the agent's own check. Raises IdentityError."""
        assert self.pending_pem is not None
        roots = [*given.roots_der]
        self.validity = keys.check_validity(
            given.certificate_der,
            [*given.intermediates_der],
            roots,
            self.pending_pem,
            [*self.roots] or roots,
        )
        self.chain = (given.certificate_der, *given.intermediates_der)
        self.roots, self.key_pem, self.pending_pem = given.roots_der, self.pending_pem, None

    def renewal_due(self) -> datetime:
        """Return the time by the agent's own rule: two thirds of the certificate's life, and its jitter."""
        identity = Identity(self.agent_id, b"", b"", b"", *self.validity, _PLACE)
        return _moment(identity.renewal_due_unix_milliseconds())


class World:
    """One collector and its machines."""

    def __init__(self, collector: Collector, agents: int, away: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = self.began = clock.now()
        self.authority = Authority(collector.settings.data_dir, collector.settings.pki, lambda: self.now)
        self.issuing = replace(collector.issuing, authority=self.authority, now=lambda: self.now)
        self.context = replace(collector.operations.context, issuing=self.issuing)
        self.operations = Operations(self.context)
        self.challenges = Challenges(lambda: self.now.timestamp())
        self.renewal = Renewal(self.issuing, self.challenges, self._came_back, lambda: self.now.timestamp())
        self.door = CertificateAuthoriser(self.authority, self.issuing.access_table, now=lambda: self.now)
        self.openssl = str(peer("openssl"))
        self.verdicts: dict[tuple[frozenset[bytes], bytes, int], bool] = {}
        self.renewed = self.came_back = self.refusals_to_retire = 0
        self.retired_on: int | None = None
        self.agents = self._enrol(agents, away)

    def _came_back(self) -> None:
        self.came_back += 1

    def _enrol(self, count: int, away: int) -> list[Agent]:
        joining = Enroller(self.issuing, FailureLimiter(lambda: self.now.timestamp()))
        made: list[Agent] = []
        for population, share in SHARES.items():
            number = count - len(made) if population is Population.WORKSTATION else round(count * share)
            order = {"org_entity": "DSI", "site": "Lyon", "population": population.value, "uses": number}
            token = self.operations.perform("token_create", order)["join"]["token"]
            for _ in range(number):
                agent = Agent(population)
                joined = joining.join(Application(token, agent.request(), HERE))
                assert joined.chain is not None
                agent.agent_id = joined.host.agent_id
                agent.keep(joined.chain)
                made.append(agent)
        # Absent agents leave before the rotation and return after the switch: soon, late, on the last days.
        for number, agent in enumerate(self.random.sample(made, away)):
            agent.absent_from = self.began + timedelta(days=self.random.uniform(1, ROTATE))
            after_switch = SWITCH + (self.random.uniform(1, 60), self.random.uniform(60, 300))[number % 2]
            agent.absent_until = self.began + timedelta(days=after_switch)
            agent.last_moment = number % 5 == 4
        return made

    # --- contacts

    def contact(self, agent: Agent) -> None:
        """Make a contact, with a renewal when one is due. Raises Lost."""
        if self._millis() >= agent.validity[1] or not self._door_opens(agent):
            self._come_back(agent)
            if not self._door_opens(agent):
                raise Lost("its new certificate is refused")
        if self.now >= agent.renewal_due():
            held = self.authority.recognise(agent.chain[0])
            caller = self.door.authorise(_pem(agent.chain[0]))
            given = self.renewal.renew(caller, agent.request())
            if self.random.random() >= LOST_ANSWERS:
                agent.keep(given)
                self.renewed += 1
            assert held.agent_id == agent.agent_id

    def _door_opens(self, agent: Agent) -> bool:
        """Return whether the collector accepts the agent. Raises Lost if the agent rejects the collector."""
        if not self._believes(agent):
            raise Lost("it does not believe the collector")
        leaf, *above = map(x509.load_der_x509_certificate, agent.chain)
        verifier = PolicyBuilder().store(Store([*self.authority.keys.roots])).time(self.now)
        try:
            verifier.build_client_verifier().verify(leaf, above)
        except VerificationError:
            return False  # the old intermediate's certificate, once the old root is removed
        self.door.authorise(leaf.public_bytes(Encoding.PEM))
        return True

    def _come_back(self, agent: Agent) -> None:
        """Call RenewExpired on the other port. Raises Lost."""
        if not self._believes(agent):
            raise Lost("it does not believe the collector")
        request, nonce = agent.request(), self.challenges.issue(agent.agent_id)
        try:
            given = self.renewal.renew_expired(
                agent_id=agent.agent_id,
                nonce=nonce,
                certificate_der=agent.chain[0],
                signature_der=keys.sign_renew_expired(agent.key_pem, nonce, request),
                certificate_request_der=request,
            )
            agent.keep(given)
        except (CollectorError, IdentityError) as error:
            raise Lost(str(error)) from error

    def _believes(self, agent: Agent) -> bool:
        """Return OpenSSL's strict verdict on the collector's chain with the agent's roots, kept for a day."""
        chain = self.authority.server_identity().chain_pem
        key = frozenset(agent.roots), chain, (self.now - self.began).days
        if key not in self.verdicts:
            server, *above = x509.load_pem_x509_certificates(chain)
            with tempfile.TemporaryDirectory() as folder:
                for name, ders in (
                    ("roots", agent.roots),
                    ("above", map(_der, above)),
                    ("server", [_der(server)]),
                ):
                    (Path(folder) / name).write_bytes(b"".join(map(_pem, ders)))
                command = [
                    self.openssl,
                    "verify",
                    "-x509_strict",
                    "-no-CApath",
                    "-no-CAstore",
                    "-purpose",
                    "sslserver",
                ]
                at = ["-verify_hostname", "localhost", "-attime", str(int(self.now.timestamp()))]
                files = ["-CAfile", "roots", "-untrusted", "above", "server"]
                done = subprocess.run([*command, *at, *files], cwd=folder, capture_output=True, check=False)
            self.verdicts[key] = done.returncode == 0
        return self.verdicts[key]

    # --- months

    def live(self, operator: Callable[[World, int], None], days: int) -> list[Agent]:
        """Run `days` days; return the lost agents.

        Machines come soon after a renewal is due, and at the end. The operator acts each day.
        """
        queue = [(self._next(agent), number) for number, agent in enumerate(self.agents)]
        heapq.heapify(queue)
        lost: list[Agent] = []
        for day in range(days + 1):
            self.now = self.began + timedelta(days=day)
            operator(self, day)
            evening = self.now + timedelta(days=1)
            while queue and queue[0][0] < evening:
                self.now, number = heapq.heappop(queue)
                agent = self.agents[number]
                try:
                    self.contact(agent)
                    heapq.heappush(queue, (self._next(agent), number))
                except Lost:
                    lost.append(agent)
        self.now = self.began + timedelta(days=days + 2)
        for agent in self.agents:
            if agent in lost:
                continue
            try:
                self.contact(agent)
            except Lost:
                lost.append(agent)
        return lost

    def _next(self, agent: Agent) -> datetime:
        """Return when a renewal is due and the machine is on: one time in ten after a leave."""
        leave = timedelta(days=self.random.uniform(5, 20)) if self.random.random() < 0.1 else timedelta()
        late = timedelta(hours=self.random.uniform(0.1, 6 if agent.population is Population.SERVER else 40))
        at = max(self.now, agent.renewal_due()) + late + leave
        if agent.absent_from is not None and agent.absent_until is not None and at >= agent.absent_from:
            last = _moment(agent.validity[1]) + timedelta(days=LAST_RETURN)
            at = max(at, last if agent.last_moment else agent.absent_until)
            agent.absent_from = None  # absent once
        return at

    def _millis(self) -> int:
        return round(self.now.timestamp() * 1000)


@contextmanager
def world(agents: int, away: int, seed: int = 7) -> Iterator[World]:
    """Yield a world on a disk in memory: it makes months of commits."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as folder:
        settings = settings_in(Path(folder))
        initialise(settings, site="Lyon")
        with open_collector(settings) as collector:
            yield World(collector, agents, away, seed)


def careful(world: World, day: int) -> None:
    """Rotate, switch a month later, then try every day to retire: the refusals protect absent machines."""
    if day == ROTATE:
        ca.rotate(world.context)
    elif day == SWITCH:
        ca.switch(world.context)
    elif day > SWITCH and world.retired_on is None:
        try:
            ca.retire(world.context)
            world.retired_on = day
        except AdminError:
            world.refusals_to_retire += 1


def without_cross(world: World, day: int) -> None:
    """Rotate without signing the next root with the present one, and switch without waiting."""
    if day == ROTATE:
        ca.rotate(world.context, cross=False)
    elif day == SWITCH:
        ca.switch(world.context, force=True)


def impatient(world: World, day: int) -> None:
    """Rotate, switch, and retire on the day after the switch despite the refusal."""
    careful(world, day) if day <= SWITCH else None
    if day == SWITCH + 1:
        ca.retire(world.context, force=True)
        world.retired_on = day


@pytest.mark.long
@pytest.mark.promise("S24")
def test_nobody_lost_of_500_in_a_rotation(figure):
    """A rotation loses none of 500 agents, 50 of them away during the overlap and up to 398 days after their
    certificate's end; the old root is then retired."""
    with world(500, 50) as made:
        lost = made.live(careful, SWITCH + LAST_RETURN + 30)
        assert all(len(agent.roots) >= 1 for agent in made.agents)
        roots = {root for agent in made.agents for root in agent.roots}
        figure(
            f"{len(lost)} of {len(made.agents)} agents lost, 50 of them offline during the overlap, {made.renewed:,} renewals and "
            f"{made.came_back:,} of expired certificates, old root retired after {made.refusals_to_retire} refusals"
        )
    assert not lost
    assert made.retired_on is not None
    assert made.refusals_to_retire > 300
    assert made.came_back > 50
    assert roots >= {made.authority.root.public_bytes(Encoding.DER)}


@pytest.mark.long
@pytest.mark.promise("S24")
@pytest.mark.parametrize("operator", [without_cross, impatient])
def test_the_same_without_its_means_loses_those_who_were_away(operator):
    """The 10 absent of 60 and at most 2 others are lost without cross certificate or by early retirement."""
    with world(60, 10) as made:
        lost = made.live(operator, SWITCH + LAST_RETURN + 5)
    absent = [agent for agent in made.agents if agent.absent_until is not None]
    assert len(absent) == 10
    assert [agent for agent in absent if agent not in lost] == []
    assert len(lost) <= 12  # others on leave, whose last answer was lost


def _moment(unix_milliseconds: int) -> datetime:
    return datetime.fromtimestamp(unix_milliseconds / 1000, UTC)


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def _pem(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
