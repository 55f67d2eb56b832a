# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test a cut, damaged or mixed identity: it is repaired or reported, and never mixes two machines."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.fakes.agent import Agent, energies, record
from tests.support.killing import run_program
from tests.support.processes import ran
from veilleuse.agent.commands.main import main
from veilleuse.agent.identity.certificates import Introduction
from veilleuse.agent.identity.join_file import JoinFile
from veilleuse.agent.identity.store import Identity, IdentityStore, Placement
from veilleuse.agent.sending.process import send
from veilleuse.wire.v1 import telemetry_pb2 as pb

EMPTY_PEM = b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("key.pem", b""),
        ("key.pem", EMPTY_PEM),
        ("roots.pem", b""),
        ("roots.pem", EMPTY_PEM),
        ("roots.pem", b"garbage"),
        ("certificate.pem", b""),
        ("certificate.pem", EMPTY_PEM),
        ("agent_id", b""),
        ("agent_id", b"abcd"),
        ("agent_id", b"\xff"),
        ("collector.json", b"[1]"),
        ("hardware.json", b"[1]"),
    ],
)
def test_a_damaged_file_is_one_line(agent, collector, name, content):
    """A damaged file stops the contact: gRPC crashes on an empty key and trusts any CA with empty roots."""
    agent.enrol(collector)
    agent.measure(record(0))
    (agent.state / "id" / name).write_bytes(content)
    before = len(collector.requests)
    assert not agent.send()
    assert len(collector.requests) == before
    standing = agent.control()["standing"]
    assert f"the identity in {agent.state / 'id'} is damaged" in standing
    assert "enrol again" in standing


def test_enrolling_again_mends_a_damaged_identity(agent, collector):
    """After damage of every file, a new enrolment delivers the waiting records."""
    agent.enrol(collector)
    agent.measure(record(0))
    for file in (agent.state / "id").iterdir():
        file.write_bytes(b"\xff")
    collector.token = "u" * 43
    identity = agent.enrol(collector)
    assert agent.send()
    assert energies(collector.stored(identity.agent_id)) == [1_000]


def test_a_new_name_is_never_kept_beside_an_old_key(agent, collector):
    """An enrolment cut between the new id and the new key leaves no identity."""
    first = agent.enrol(collector)
    store = IdentityStore(agent.state)
    store.keep_place(b"\x07" * 16, first.place)
    with pytest.raises(Exception, match="not enrolled"):
        store.load()


def test_a_spool_that_does_not_know_its_identity_is_mended_by_the_next_contact(agent, collector):
    """After a lost spool or a cut enrolment, one contact restores population and stream."""
    identity = agent.enrol(collector)
    agent.measure(record(0))
    assert agent.send()
    (agent.state / "spool.db").unlink()
    agent.measure(record(1))
    assert agent.send()
    assert agent.control()["population"] == "server"
    assert agent.control()["agent_id"] == identity.agent_id.hex()
    epoch = agent.control()["epoch"]
    assert agent.send()
    assert agent.control()["epoch"] == epoch
    assert sorted(energies(collector.stored(identity.agent_id))) == [1_000, 1_001]


def test_a_used_token_is_not_lost_to_a_spool_that_cannot_be_written(agent, collector, caplog):
    """A full disk after the answer does not undo the enrolment; the first contact creates the spool."""
    (agent.state / "spool.db").mkdir()
    identity = agent.enrol(collector)
    assert "the first contact does the rest" in caplog.text
    assert not (agent.state.parent / "join").exists()
    (agent.state / "spool.db").rmdir()
    agent.measure(record(0))
    assert agent.send()
    assert agent.control()["population"] == "server"
    assert energies(collector.stored(identity.agent_id)) == [1_000]


def test_a_join_file_that_stays_is_a_warning(agent, collector, tmp_path, monkeypatch, capsys):
    """Enrolment succeeds with exit code 3, and a line names the file to delete."""
    join = collector.join_file(tmp_path / "join")
    monkeypatch.setenv("VEILLEUSE_AGENT__PATHS__STATE", str(agent.state))
    unlink = os.unlink

    def refuse(path: object, **more: object) -> None:
        if Path(str(path)) == join:
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path, **more)  # type: ignore[arg-type]  # as it came

    monkeypatch.setattr(os, "unlink", refuse)
    assert main(["enrol", str(join)]) == 3
    said = capsys.readouterr()
    assert "enrolled as" in said.out
    assert str(join) in said.err
    assert "delete it" in said.err


def test_a_state_directory_of_somebody_else_is_one_line(agent, collector, tmp_path):
    """`veilleuse-agent` as the wrong user gives no traceback and exit code 1, or 3 for doctor."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    agent.enrol(collector)
    for path in (agent.state, *agent.state.rglob("*")):
        os.chown(path, 65534, 65534)
    # Run as root without the capability to ignore file modes: another user might not reach this interpreter.
    unprivileged = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    for command in ("send", "doctor", "show"):
        done = ran(
            [*unprivileged, sys.executable, "-m", "veilleuse.agent", command],
            env={"VEILLEUSE_AGENT__PATHS__STATE": str(agent.state), "PATH": "/usr/bin:/bin"},
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == (3 if command == "doctor" else 1)
        assert "Nothing leaves" not in done.stdout


def test_what_root_sends_stays_the_agents(collector):
    """After `send` as root with a renewal, every file still belongs to the service's user."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    nobody = 65534
    with TemporaryDirectory() as folder:
        agent = Agent(Path(folder) / "state")
        collector.leaf_age = timedelta(hours=20)
        old = agent.enrol(collector)
        agent.measure(record(0))
        (agent.state / "send.lock").unlink()
        for path in (agent.state, *agent.state.rglob("*")):
            os.chown(path, nobody, nobody)
        for path in (Path(folder), Path(folder) / "empty"):
            path.chmod(0o755)
        assert send(agent.settings) == 0
        assert {path.stat().st_uid for path in agent.state.rglob("*")} == {nobody}
        assert agent.identity.key_pem != old.key_pem
        assert energies(collector.stored(old.agent_id)) == [1_000]


def test_secrets_are_not_shown():
    """S19: the repr in a log or a traceback contains neither key nor token."""
    place = Placement("h:1", "h:2", "DSI", "Lyon", "server", False)
    identity = Identity(bytes(16), b"CANARY", b"", b"", 0, 0, place)
    join = JoinFile("h:1", "h:2", b"", "", "CANARY", b"CANARY", "DSI", False)
    for secret in (identity, join, Introduction("CANARY", pb.Facts())):
        assert "CANARY" not in repr(secret)


# ------------------------------------------------------------------------ process killed at any line

CUT = r"""
import hashlib, signal, sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tests.support.fakes.authority import DER, TestAuthority
from tests.support.killing import dies_at, in_child, lines_of
from veilleuse.agent.identity import certificates, keys
from veilleuse.agent.identity.clone import HARDWARE, CloneDetector, Mark
from veilleuse.agent.identity.store import IdentityStore, Placement
from veilleuse.wire.v1 import telemetry_pb2 as pb

OURS = ("/agent/identity/store.py", "/agent/identity/certificates.py", "/agent/identity/clone.py")
authority = TestAuthority()
PLACE = Placement("h:1", "h:2", "DSI", "Lyon", "server", False)


class Desk:
    # Idempotent on the key, as the collector is; nothing of it dies with the agent.
    def issued(self, request_der, agent_id):
        now = datetime.now(UTC)
        leaf = authority.issue(request_der, agent_id, now - timedelta(hours=1), now + timedelta(hours=23))
        return pb.IssuedCertificate(
            certificate_der=leaf.public_bytes(DER),
            intermediates_der=[authority.intermediate.der],
            roots_der=[authority.root.der],
        )

    def enrol(self, request):
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
        key = x509.load_der_x509_csr(request.certificate_request_der).public_key()
        agent_id = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()[:16]
        return pb.EnrolResponse(
            agent_id=agent_id,
            certificate=self.issued(request.certificate_request_der, agent_id),
            placement=pb.Placement(org_entity="DSI", site="Lyon", population=pb.POPULATION_SERVER),
        )

    def challenge(self, request):
        return pb.ChallengeResponse(nonce=bytes(32))

    def renew(self, request):
        return pb.RenewResponse(certificate=self.issued(request.certificate_request_der, bytes(16)))


def enrol(state):
    words = certificates.Introduction("t" * 43, pb.Facts())
    trust = certificates.Trust(authority.root.pem)
    certificates.enrol(Desk(), keys, IdentityStore(state), words, lambda placement: PLACE, trust)


def enrol_copy(state):
    if IdentityStore(state).is_enrolled():
        return
    original = CloneDetector(state).original()
    words = certificates.Introduction("", pb.Facts())
    trust = certificates.Trust(original.roots_pem)
    certificates.enrol(Desk(), keys, IdentityStore(state), words, lambda placement: PLACE, trust, original)
    CloneDetector(state).drop_original()


def renew(state):
    certificates.renew(Desk().renew, keys, IdentityStore(state))


def sound(state):
    identity = IdentityStore(state).load()
    leaf = keys.x509.load_der_x509_certificate(identity.leaf_der())
    assert leaf.public_key() == keys._key(identity.key_pem).public_key()


def moments(folder, work, prepare):
    prepare(folder / "whole")
    lines = lines_of(lambda: work(folder / "whole"), OURS, folder / "lines")
    for at in range(1, lines + 1, max(1, lines // 25)):
        state = folder / str(at)
        prepare(state)

        def cut():
            dies_at(at, OURS)
            work(state)

        assert in_child(cut) == -signal.SIGKILL, at
        yield at, state


def fresh(state):
    state.mkdir(parents=True)


def enrolled(state):
    fresh(state)
    assert in_child(lambda: enrol(state)) == 0


def copied(state):
    enrolled(state)
    CloneDetector(state).reset_identity(Mark(HARDWARE, 0))


folder = Path(sys.argv[1])
for at, state in moments(folder / "copy", enrol_copy, copied):
    assert in_child(lambda: enrol_copy(state)) == 0, at
    assert in_child(lambda: sound(state)) == 0, at
for at, state in moments(folder / "enrol", enrol, fresh):
    assert in_child(lambda: enrol(state)) == 0, at
    assert in_child(lambda: sound(state)) == 0, at
for at, state in moments(folder / "again", enrol, enrolled):
    if in_child(lambda: sound(state)) != 0:  # no identity any more, or the old or the new one whole
        assert not (state / "id/certificate.pem").exists(), at
    assert in_child(lambda: enrol(state)) == 0, at
    assert in_child(lambda: sound(state)) == 0, at
for at, state in moments(folder / "renew", renew, enrolled):
    assert in_child(lambda: sound(state)) == 0, at
    assert in_child(lambda: renew(state)) == 0, at
    assert in_child(lambda: sound(state)) == 0, at
"""


@pytest.mark.any_date
def test_enrolment_and_renewal_killed_at_any_moment(tmp_path):
    """S5: after a kill at any line, key and certificate match, and the same command finishes the work."""
    run_program(CUT, str(tmp_path))
