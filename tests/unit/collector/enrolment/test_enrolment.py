# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of enrolment and renewal against a real store, on a settable clock."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support import clock
from tests.support.machines import settings_in
from veilleuse.collector.admin.operations import Operations
from veilleuse.collector.app.data_directory import Collector, initialise, open_collector
from veilleuse.collector.enrolment.ca import Authority
from veilleuse.collector.enrolment.enrol import Application, Enroller, EnrolResult
from veilleuse.collector.enrolment.issuing import RETURN_SECONDS, RETURNS_AT_ONCE, Challenges, Renewal
from veilleuse.collector.enrolment.service import _log_joined
from veilleuse.collector.enrolment.tokens import FailureLimiter
from veilleuse.collector.enrolment.x509 import read_request
from veilleuse.collector.errors import DataDirectoryError, EnrolmentRefused, NotAuthorised
from veilleuse.collector.model.clones import find_twins
from veilleuse.collector.model.hosts import Caller, CertificateChain, HostStatus
from veilleuse.collector.store import open_reader
from veilleuse.wire.renewal import renew_expired_message
from veilleuse.wire.vocabulary import Population

HERE = ip_address("192.0.2.9")


def csr(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a certificate request of the key, DER."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a new P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


class Desk:
    """The enrolment of one collector, on its own clock."""

    def __init__(self, collector: Collector) -> None:
        self.now = clock.now()
        self.collector = collector
        authority = Authority(collector.settings.data_dir, collector.settings.pki, lambda: self.now)
        self.issuing = replace(collector.issuing, authority=authority, now=lambda: self.now)
        self.context = replace(collector.operations.context, issuing=self.issuing)
        self.operations = Operations(self.context)
        self.refusals: list[str] = []
        self.joining = Enroller(
            self.issuing, FailureLimiter(lambda: self.now.timestamp()), self.refusals.append
        )
        self.challenges = Challenges(lambda: self.now.timestamp())
        self.returned = 0
        self.renewal = Renewal(self.issuing, self.challenges, self._count, lambda: self.now.timestamp())

    def _count(self) -> None:
        self.returned += 1

    def token(self, **more) -> str:
        order = {"org_entity": "DSI", "site": "Lyon", "population": "server", **more}
        return str(self.operations.perform("token_create", order)["join"]["token"])

    def join(self, token: str, key: ec.EllipticCurvePrivateKey, **more) -> EnrolResult:
        """Enrol from the address HERE."""
        return self.joining.join(Application(token, csr(key), HERE, **more))

    def refusal(self, token: str, key: ec.EllipticCurvePrivateKey) -> str:
        """Return the reason of the refusal."""
        with pytest.raises(EnrolmentRefused) as refused:
            self.join(token, key)
        return refused.value.reason

    def caller(self, joined: EnrolResult) -> Caller:
        """Return the caller that holds the certificate just issued."""
        assert joined.chain is not None
        held = self.issuing.authority.recognise(joined.chain.certificate_der)
        return Caller(
            joined.host.host_id, held.agent_id, joined.host.population, held.serial, held.generation
        )

    def come_back(
        self,
        joined: EnrolResult,
        key: ec.EllipticCurvePrivateKey,
        new: ec.EllipticCurvePrivateKey,
        certificate_der: bytes = b"",
        nonce: bytes = b"",
    ) -> CertificateChain:
        """Make a RenewExpired call in which everything is right, but for the given arguments."""
        assert joined.chain is not None
        nonce, request = nonce or self.challenges.issue(joined.host.agent_id), csr(new)
        message = renew_expired_message(nonce, request)
        return self.renewal.renew_expired(
            agent_id=joined.host.agent_id,
            nonce=nonce,
            certificate_der=certificate_der or joined.chain.certificate_der,
            signature_der=key.sign(message, ec.ECDSA(hashes.SHA256())),
            certificate_request_der=request,
        )

    def set(self, joined: EnrolResult, status: HostStatus) -> None:
        """Set the status, as an administrator does."""
        arguments = {"host": joined.host.agent_id.hex(), "status": status.value}
        self.operations.perform("host_status", arguments)


@contextmanager
def desk_in(folder: Path) -> Iterator[Desk]:
    """Open a new collector, without ports."""
    settings = settings_in(folder)
    initialise(settings, site="Lyon")
    with open_collector(settings) as collector:
        yield Desk(collector)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Return an enrolment in a new folder."""
    with desk_in(tmp_path) as made:
        yield made


def test_one_time_token_with_lost_reply(desk):
    """The same key gets the same certificate for 10 minutes; then the token is used up. Another key never
    gets it."""
    token, key = desk.token(), new_key()
    first = desk.join(token, key)
    assert first.fresh
    desk.now += timedelta(minutes=9)
    again = desk.join(token, key)
    assert (again.chain, again.fresh) == (first.chain, False)
    assert desk.refusal(token, new_key()) == "used_token"
    desk.now += timedelta(minutes=2)
    assert desk.refusal(token, key) == "used_token"
    assert desk.refusals == ["used_token", "used_token"]


def test_token_s_life(desk):
    """A token lives 24 hours by default."""
    token = desk.token()
    desk.now += timedelta(hours=24, seconds=1)
    assert desk.refusal(token, new_key()) == "expired_token"


def test_a_pc_leaves_no_time_of_day(desk):
    """Times stored of a workstation's enrolment are whole days, and its reply can be repeated until the day
    ends."""
    token, key = desk.token(population="workstation"), new_key()
    desk.now = desk.now.replace(hour=0, minute=30) + timedelta(days=1)
    token = desk.token(population="workstation")
    first = desk.join(token, key)
    desk.now += timedelta(hours=9)
    assert desk.join(token, key).chain == first.chain
    registry = desk.collector.store.registry
    stored = desk.issuing.commit(lambda: registry.latest_certificate(first.host.host_id))
    assert stored.issued_unix_milliseconds % 86_400_000 == 0
    assert stored.not_after_unix_milliseconds % 86_400_000 == 0
    desk.now += timedelta(days=1)
    assert desk.refusal(token, key) == "used_token"


def test_names_stay_apart(desk, caplog):
    """A server's name goes to identity.db alone. A PC's name and a malformed name are not stored, and data.db
    holds no pseudonym. The log holds no name, and no id of a PC."""
    marks = {"chassis_pseudonym": b"\xaa" * 32, "smbios_pseudonym": b"short"}
    server = desk.join(desk.token(), new_key(), host_name="canary-srv-01.lyon", **marks)
    classroom = desk.join(desk.token(population="classroom"), new_key(), host_name="canary-pc-02")
    desk.join(desk.token(), new_key(), host_name="canary;03")
    asked = {"host": server.host.agent_id.hex(), "who": "ops", "why": "test"}
    assert desk.operations.perform("host_name", asked)["host_name"] == "canary-srv-01.lyon"
    store, data_dir = desk.collector.store, desk.collector.settings.data_dir
    assert len(desk.issuing.commit(store.registry.names)) == 1
    store_files = b"".join(path.read_bytes() for path in data_dir.glob("data.db*"))
    assert b"canary" not in store_files
    assert b"\xaa" * 32 not in store_files
    with caplog.at_level(logging.DEBUG, "veilleuse"):
        _log_joined(server)
        _log_joined(classroom)
    logged = str([vars(record) for record in caplog.records])
    assert "canary" not in logged
    assert server.host.agent_id.hex() in logged
    assert classroom.host.agent_id.hex() not in logged
    journal = store.identity.connection.execute("SELECT who, what, why FROM journal").fetchall()
    assert [tuple(row) for row in journal] == [("ops", f"name of {server.host.agent_id.hex()}", "test")]


def call(desk: Desk, *joined: EnrolResult) -> None:
    """Let machines say hello at the desk's time."""
    registry, now = desk.issuing.registry, round(desk.now.timestamp() * 1000)
    for one in joined:
        registry.record_hello(one.host.host_id, facts_wire=None, health_wire=None, now_unix_milliseconds=now)
    desk.issuing.commit(lambda: None)


def twins(desk: Desk) -> set[bytes]:
    """Return the agent ids that are told as sharing a pseudonym."""
    with open_reader(desk.collector.settings.data_dir) as store:
        found = find_twins(store.data.hosts(), store.data.data_kind(), desk.now.date())
    return {one.agent_id for one in found}


@pytest.mark.parametrize("population", ["server", "workstation"])
def test_a_pseudonym_enrolled_again_is_logged(desk, caplog, population):
    """Without pseudonyms nothing is claimed. The log names servers alone; data.db has no pseudonym."""
    serial = b"\xaa" * 32
    for marks in ({"chassis_pseudonym": serial}, {}, {}, {"chassis_pseudonym": b"\xcc" * 32}):
        desk.join(desk.token(population=population), new_key(), **marks)
    assert "two identities in use" not in caplog.text
    with caplog.at_level(logging.INFO, "veilleuse"):
        again = desk.join(
            desk.token(population=population),
            new_key(),
            chassis_pseudonym=serial,
            smbios_pseudonym=b"\xdd" * 32,
        )
    assert caplog.text.count("two identities in use") == 1
    shown = str([vars(record) for record in caplog.records])
    assert (again.host.agent_id.hex() in shown) is (population == "server")
    assert serial not in b"".join(
        path.read_bytes() for path in desk.collector.settings.data_dir.glob("data.db*")
    )


def test_two_identities_in_use_with_one_pseudonym(desk: Desk):
    """They are told once both called on a day after the second enrolled, until one is revoked or silent.

    A machine that was installed again is not told: its old identity calls no more."""

    def enrol(**marks: bytes) -> EnrolResult:
        return desk.join(desk.token(population="workstation"), new_key(), **marks)

    serial, board = b"\xaa" * 32, b"\xbb" * 32
    old, silent = enrol(chassis_pseudonym=serial), enrol(smbios_pseudonym=board)
    call(desk, old, silent)
    desk.now += timedelta(days=3)
    call(desk, old, silent)
    new, reinstalled = enrol(chassis_pseudonym=serial), enrol(smbios_pseudonym=board)
    call(desk, old, new, reinstalled)
    assert twins(desk) == set(), "on the day of the second enrolment"
    desk.now += timedelta(days=1)
    call(desk, old, new, reinstalled)
    both = {old.host.agent_id, new.host.agent_id}
    assert twins(desk) == both
    for status, told in ((HostStatus.SUSPENDED, set()), (HostStatus.ACTIVE, both)):
        desk.set(old, status)
        assert twins(desk) == told
    for days, told in ((30, both), (1, set())):
        desk.now += timedelta(days=days)
        call(desk, new)
        assert twins(desk) == told, "the old one is silent for 30 days, then for 31"
    call(desk, old)
    assert twins(desk) == both
    desk.set(old, HostStatus.REVOKED)
    assert twins(desk) == set()


def test_approval_after_days(desk):
    """An approved machine gets one first certificate, days later, even after the token's end."""
    token, key = desk.token(approve=True), new_key()
    waiting = desk.join(token, key)
    assert waiting.chain is None
    assert waiting.host.status is HostStatus.PENDING
    desk.now += timedelta(days=3)
    assert desk.join(token, key).chain is None
    desk.set(waiting, HostStatus.ACTIVE)
    given = desk.join(token, key)
    assert given.chain is not None
    held = desk.issuing.authority.recognise(given.chain.certificate_der)
    assert held.not_after > desk.now
    assert desk.join(token, key).chain == given.chain
    desk.now += timedelta(hours=1)
    assert desk.refusal(token, key) == "used_token"


@pytest.mark.parametrize("status", [HostStatus.SUSPENDED, HostStatus.REVOKED])
def test_no_second_reply_after_a_revocation(desk, status):
    """A repeated enrolment gives no certificate to a suspended or revoked machine."""
    token, key = desk.token(), new_key()
    desk.set(desk.join(token, key), status)
    assert desk.refusal(token, key) == status.value


def test_refused_enrolment_changes_nothing(desk):
    """A bad request, and a certificate that cannot be issued, use up no token and create no host."""
    began, ended = desk.now, desk.issuing.authority.keys.current.not_after
    desk.now = ended - timedelta(minutes=1)
    token = desk.token()
    desk.now = ended
    with pytest.raises(DataDirectoryError, match="renew-intermediate"):
        desk.join(token, new_key())
    desk.now = began
    with pytest.raises(EnrolmentRefused):
        desk.joining.join(Application(token, b"rubbish", HERE))
    assert desk.operations.perform("token_list", {})[0]["uses"] == 0
    assert desk.issuing.commit(desk.collector.store.registry.hosts) == ()
    assert desk.join(token, new_key()).chain is not None


def test_renewal_counts_generations(desk):
    """Each renewal of a new key increments the generation; a repeated request gets the same certificate."""
    key = new_key()
    joined = desk.join(desk.token(), key)
    caller = desk.caller(joined)
    renewed = new_key()
    first = desk.renewal.renew(caller, csr(renewed))
    assert desk.renewal.renew(caller, csr(renewed)) == first
    held = desk.issuing.authority.recognise(first.certificate_der)
    assert (held.generation, held.agent_id) == (2, caller.agent_id)
    with pytest.raises(EnrolmentRefused, match="new key"):
        desk.renewal.renew(caller, csr(key))
    ahead = replace(caller, generation=9, serial="abc")
    third = desk.renewal.renew(ahead, csr(new_key()))
    assert desk.issuing.authority.recognise(third.certificate_der).generation == 10


def test_renewal_of_a_revoked_host_is_refused(desk):
    """The refusal holds even when the call was authorised just before."""
    joined = desk.join(desk.token(), new_key())
    desk.set(joined, HostStatus.REVOKED)
    with pytest.raises(NotAuthorised):
        desk.renewal.renew(desk.caller(joined), csr(new_key()))


def test_return_within_400_days_of_the_end(desk):
    """Until 400 days after its end a certificate gives a new one to the holder of its key (399: yes; 401:
    no)."""
    key, new = new_key(), new_key()
    joined = desk.join(desk.token(), key)
    desk.now += timedelta(days=1 + 399)
    chain = desk.come_back(joined, key, new)
    assert desk.issuing.authority.recognise(chain.certificate_der).generation == 2
    assert desk.come_back(joined, key, new) == chain
    assert desk.returned == 2
    late = desk.join(desk.token(), key)
    desk.now += timedelta(days=1 + 401)
    with pytest.raises(NotAuthorised) as refused:
        desk.come_back(late, key, new)
    assert refused.value.reason == "expired_too_long"


def test_return_with_a_superseded_certificate(desk):
    """The certificate before the last is accepted, because a reply may be lost; an older one is not."""
    keys = [new_key() for _ in range(4)]
    joined = desk.join(desk.token(), keys[0])
    caller = desk.caller(joined)
    second = desk.issuing.authority.recognise(desk.renewal.renew(caller, csr(keys[1])).certificate_der)
    desk.now += timedelta(days=2)
    assert desk.come_back(joined, keys[0], keys[1])
    desk.renewal.renew(replace(caller, serial=second.serial, generation=2), csr(keys[2]))
    with pytest.raises(NotAuthorised) as refused:
        desk.come_back(joined, keys[0], keys[3])
    assert refused.value.reason == "superseded"


def test_return_with_a_certificate_whose_successor_was_used(desk):
    """An older certificate is refused once its successor was used: its holder is a copy or a thief."""
    keys = [new_key() for _ in range(3)]
    joined = desk.join(desk.token(), keys[0])
    desk.renewal.renew(desk.caller(joined), csr(keys[1]))
    desk.issuing.access_table.note_use(joined.host.agent_id, 2)
    with pytest.raises(NotAuthorised) as refused:
        desk.come_back(joined, keys[0], keys[2])
    assert refused.value.reason == "superseded"


def test_whoever_renews_without_end_fills_no_disk(desk):
    """Endless renewals (a stolen key, a wrong clock) keep ten certificates of a host, while generations
    increase."""
    joined = desk.join(desk.token(), new_key())
    caller = desk.caller(joined)
    for _ in range(30):
        desk.renewal.renew(caller, csr(new_key()))
    count = desk.collector.store.data.connection.execute("SELECT count(*), max(generation) FROM certificates")
    assert desk.issuing.commit(count.fetchone) == (10, 31)


def test_whoever_comes_back_without_end_is_told_to_wait(desk):
    """A host gets a limited number of certificates at once by RenewExpired, then one a minute; other hosts
    are not limited."""
    key, other = new_key(), new_key()
    joined, second = desk.join(desk.token(), key), desk.join(desk.token(), other)
    for _ in range(RETURNS_AT_ONCE):
        fresh = new_key()
        chain = desk.come_back(joined, key, fresh)
        joined, key = replace(joined, chain=chain), fresh
    with pytest.raises(EnrolmentRefused) as refused:
        desk.come_back(joined, key, new_key())
    assert refused.value.reason == "rate_limited"
    assert desk.come_back(second, other, new_key())
    desk.now += timedelta(seconds=RETURN_SECONDS)
    fresh = new_key()
    joined = replace(joined, chain=desk.come_back(joined, key, fresh))
    with pytest.raises(EnrolmentRefused, match="wait a minute"):
        desk.come_back(joined, fresh, new_key())


def test_a_pem_where_der_belongs_is_no_crash(desk):
    """A certificate in PEM instead of DER is accepted too."""
    key = new_key()
    joined = desk.join(desk.token(), key)
    assert joined.chain is not None
    pem = x509.load_der_x509_certificate(joined.chain.certificate_der).public_bytes(Encoding.PEM)
    assert desk.come_back(joined, key, new_key(), pem)


def test_a_revocation_right_after_an_enrolment_holds(desk):
    """A machine revoked in the writer's group of its enrolment is revoked in memory too."""
    joined: list[EnrolResult] = []
    text = desk.token()
    issuing = desk.issuing
    registry = issuing.registry

    def enrol_then_revoke(note) -> None:
        application = Application(text, csr(new_key()), HERE)
        joined.append(
            desk.joining._join(application, read_request(application.certificate_request_der), note)
        )
        registry.set_status(joined[0].host.host_id, HostStatus.REVOKED)
        issuing.access_table.set_status(joined[0].host.agent_id, HostStatus.REVOKED)

    issuing.commit_with_register(enrol_then_revoke)
    standing = issuing.access_table.get(joined[0].host.agent_id)
    assert standing is not None
    assert standing.status is HostStatus.REVOKED


def test_return_of_somebody_else(desk):
    """A foreign signature, another machine's certificate, and another's, a used or an old nonce are
    refused."""
    key, thief = new_key(), new_key()
    joined, other = desk.join(desk.token(), key), desk.join(desk.token(), thief)
    assert other.chain is not None
    desk.now += timedelta(days=2)
    reasons = []
    for signer, certificate_der in ((thief, b""), (thief, other.chain.certificate_der)):
        with pytest.raises(NotAuthorised) as refused:
            desk.come_back(joined, signer, new_key(), certificate_der)
        reasons.append(refused.value.reason)
    assert reasons == ["bad_signature", "other_agent"]
    used, old = (desk.challenges.issue(joined.host.agent_id) for _ in range(2))
    desk.come_back(joined, key, new_key(), nonce=used)
    desk.now += timedelta(seconds=30)
    for nonce in (desk.challenges.issue(other.host.agent_id), used, old):
        if nonce == old:
            desk.now += timedelta(seconds=31)
        with pytest.raises(EnrolmentRefused) as stale:
            desk.come_back(joined, key, new_key(), nonce=nonce)
        assert stale.value.reason == "bad_nonce"


def test_nonces(desk):
    """A nonce is valid for one minute, one use and one agent; unused challenges take no memory."""
    challenges, agent, other = desk.challenges, b"\1" * 16, b"\2" * 16
    nonce = challenges.issue(agent)
    assert len(nonce) == 32
    for wrong in (other, agent + b"\0"):
        with pytest.raises(EnrolmentRefused):
            challenges.redeem(wrong, nonce)
    challenges.redeem(agent, nonce)
    with pytest.raises(EnrolmentRefused):
        challenges.redeem(agent, nonce)
    old = challenges.issue(agent)
    desk.now += timedelta(seconds=61)
    for bad in (old, b"", b"\0" * 32, old[:31]):
        with pytest.raises(EnrolmentRefused):
            challenges.redeem(agent, bad)
    for _ in range(1000):
        challenges.issue(agent)
    challenges.redeem(agent, challenges.issue(agent))
    assert len(challenges._used) == 1
    with pytest.raises(EnrolmentRefused):
        challenges.issue(b"short")


def test_population_of_the_token_decides(desk):
    """The population comes from the token."""
    joined = desk.join(desk.token(population="classroom"), new_key())
    assert joined.host.population is Population.CLASSROOM
