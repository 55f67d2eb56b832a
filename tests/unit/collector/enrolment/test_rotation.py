# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of a rotation of the authority: files, trust and recognition after each step, on a settable clock."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.authorities import Organisation
from tests.support.clock import now as real_now
from tests.support.killing import run_program
from tests.support.peers import peer
from tests.support.processes import ran
from veilleuse.collector.enrolment import ca_files as folders
from veilleuse.collector.enrolment import ca_rotation
from veilleuse.collector.enrolment.ca import Authority, create
from veilleuse.collector.enrolment.ca_files import PREVIOUS_KEPT, Phase, fingerprint, is_issued_by
from veilleuse.collector.enrolment.external_ca import read_external_ca
from veilleuse.collector.enrolment.root_key import root_key_files
from veilleuse.collector.enrolment.x509 import pem
from veilleuse.collector.errors import AdminError, DataDirectoryError, NotAuthorised, UsageError
from veilleuse.collector.model.records import AgentId
from veilleuse.collector.settings import Pki
from veilleuse.wire.files import replace_owned
from veilleuse.wire.vocabulary import Population

AGENT = AgentId(bytes(range(16)))
KEY = ec.generate_private_key(ec.SECP256R1())
NOW = datetime(2026, 3, 10, 14, 35, 7, tzinfo=UTC)


class Clock:
    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock at NOW."""
    return Clock()


@pytest.fixture
def authority(tmp_path: Path, clock: Clock) -> Authority:
    """Return a new authority."""
    create(tmp_path, NOW)
    return Authority(tmp_path, Pki(), clock)


def leaf(authority: Authority) -> bytes:
    """Return a new certificate of an agent, DER."""
    return authority.issue(KEY.public_key(), AGENT, Population.SERVER, 1).certificate_der


def brought(organisation: Organisation, now: datetime | None = None):
    """Read the organisation's files, as `ca import` does."""
    now = now or real_now()
    return read_external_ca(organisation.chain_pem, organisation.key_pem, organisation.root_pem, now)


def test_a_rotation_step_by_step(authority, tmp_path, clock):
    """Phase, roots, server's chain and issuer are right after each step, also for a process that opens the
    folder afresh."""
    first = authority.root

    def see() -> tuple[Phase, int, int, bool]:
        held, again = authority.keys, Authority(tmp_path, Pki(), clock).keys
        chain = x509.load_pem_x509_certificates(authority.server_identity().chain_pem)
        assert (held.phase, held.roots, held.full_chain) == (again.phase, again.roots, again.full_chain)
        assert tuple(chain[1:]) == held.full_chain
        return held.phase, len(held.roots), len(chain), held.current.root == first

    assert see() == (Phase.STEADY, 1, 2, True)
    authority.change(ca_rotation.rotate(None))
    assert see() == (Phase.OVERLAP, 2, 2, True)
    assert [path.name for path in root_key_files(tmp_path)] == ["next-root.key", "root.key"]
    authority.change(ca_rotation.switch)
    assert see() == (Phase.SWITCHED, 2, 3, False)
    assert [path.name for path in root_key_files(tmp_path)] == ["old-root.key", "root.key"]
    authority.change(ca_rotation.retire)
    assert see() == (Phase.STEADY, 1, 2, False)
    assert first not in authority.keys.roots
    assert [path.name for path in root_key_files(tmp_path)] == ["root.key"]
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "ca").iterdir()} == {0o600}


def test_the_cross_certificate_is_a_self_issued_step(authority):
    """Both roots have one name, so that the old root's path length of 1 holds for the longer chain (RFC 5280
    §4.2.1.9)."""
    old = authority.root
    held = authority.change(ca_rotation.rotate(None))
    assert held.cross is not None
    assert held.coming is not None
    assert held.cross.subject == held.cross.issuer == old.subject
    assert held.cross.public_key() == held.coming.root.public_key()
    assert is_issued_by(held.cross, old)
    assert not is_issued_by(held.cross, held.coming.root)


@pytest.mark.parametrize("trusting", ["old", "new", "both"])
def test_openssl_in_its_strict_mode_follows_the_chain_from_either_root(authority, tmp_path, trusting, clock):
    """A stricter verifier than gRPC's accepts the server's chain with the old root, the new one, and both."""
    openssl = str(peer("openssl"))
    old = authority.root
    authority.change(ca_rotation.rotate(None))
    held = authority.change(ca_rotation.switch)
    roots = {"old": (old,), "new": (held.current.root,), "both": (old, held.current.root)}[trusting]
    server, *above = x509.load_pem_x509_certificates(authority.server_identity().chain_pem)
    for name, certificates in (("roots", roots), ("above", above), ("server", [server])):
        (tmp_path / name).write_bytes(b"".join(map(pem, certificates)))
    command = [
        openssl,
        "verify",
        "-x509_strict",
        "-attime",
        str(int(NOW.timestamp())),
        "-purpose",
        "sslserver",
    ]
    files = ["-CAfile", "roots", "-untrusted", "above", "server"]
    done = ran([*command, "-no-CApath", "-no-CAstore", *files], cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_leaves_of_earlier_intermediates_stay_recognised(authority, clock):
    """Leaves are recognised through a new intermediate and a rotation, until they are too old to be
    renewed."""
    first = leaf(authority)
    authority.change(ca_rotation.renew_intermediate(None))
    second = leaf(authority)
    authority.change(ca_rotation.rotate(None))
    authority.change(ca_rotation.switch)
    authority.change(ca_rotation.retire)
    for certificate in (first, second, leaf(authority)):
        assert authority.recognise(certificate).agent_id == AGENT
    clock.now += PREVIOUS_KEPT + timedelta(days=1)
    later = authority.change(ca_rotation.renew_intermediate(None))  # any change drops what is too old
    assert len(later.previous) == 1
    with pytest.raises(NotAuthorised) as refused:
        authority.recognise(first)
    assert refused.value.reason == "not_ours"


def test_a_stolen_intermediate_can_be_forgotten(authority):
    """Certificates of a forgotten intermediate are refused, even those recognised before."""
    stolen = authority.intermediate
    certificate = leaf(authority)
    authority.change(ca_rotation.renew_intermediate(None))
    assert authority.recognise(certificate).agent_id == AGENT
    authority.change(ca_rotation.forget(fingerprint(stolen)[:12].upper()))
    with pytest.raises(NotAuthorised):
        authority.recognise(certificate)
    with pytest.raises(UsageError, match="0 earlier intermediates"):
        authority.change(ca_rotation.forget(fingerprint(stolen)))
    with pytest.raises(UsageError, match="8 digits"):
        authority.change(ca_rotation.forget(""))


def test_a_certificate_goes_out_with_the_intermediate_that_signed_it(authority):
    """An earlier certificate, sent again after the switch, comes with its own intermediates and their
    roots."""
    certificate = leaf(authority)
    authority.change(ca_rotation.rotate(None))
    before = authority.bundle(certificate)
    authority.change(ca_rotation.switch)
    intermediates, roots = authority.bundle(certificate)
    assert intermediates == before[0]
    assert set(roots) == set(before[1])
    assert not authority.is_current(certificate)
    assert authority.is_current(leaf(authority))


def test_a_backup_of_before_the_switch_still_serves_those_of_after_it(authority, tmp_path, clock):
    """Restored from a backup of the overlap, the authority recognises certificates of the next intermediate
    and trusts its root."""
    authority.change(ca_rotation.rotate(None))
    backup = {path.name: path.read_bytes() for path in (tmp_path / "ca").iterdir()}
    authority.change(ca_rotation.switch)
    certificate = leaf(authority)
    for path in (tmp_path / "ca").iterdir():
        path.unlink()
    for name, content in backup.items():
        (tmp_path / "ca" / name).write_bytes(content)
    restored = Authority(tmp_path, Pki(), clock)
    assert restored.keys.phase is Phase.OVERLAP
    assert restored.recognise(certificate).agent_id == AGENT
    assert restored.keys.coming is not None
    assert restored.keys.coming.root in restored.keys.roots


def test_steps_in_the_wrong_order_say_what_comes_next(authority):
    """Each refusal is one line that names the next step."""
    early: tuple[ca_rotation.Step, ...] = (ca_rotation.switch, ca_rotation.retire, ca_rotation.cancel)
    for step in early:
        with pytest.raises(AdminError, match="veilleuse ca rotate"):
            authority.change(step)
    authority.change(ca_rotation.rotate(None))
    steps: tuple[ca_rotation.Step, ...] = (ca_rotation.rotate(None), ca_rotation.retire)
    for step in steps:
        with pytest.raises(AdminError, match="veilleuse ca switch"):
            authority.change(step)
    authority.change(ca_rotation.switch)
    late: tuple[ca_rotation.Step, ...] = (ca_rotation.rotate(None), ca_rotation.switch, ca_rotation.cancel)
    for step in late:
        with pytest.raises(AdminError, match="veilleuse ca retire"):
            authority.change(step)


def test_a_rotation_given_up_leaves_nothing(authority, tmp_path):
    """After a cancelled rotation the files are as before, and another rotation can begin."""
    before = {path.name: path.read_bytes() for path in (tmp_path / "ca").iterdir()}
    authority.change(ca_rotation.rotate(None))
    authority.change(ca_rotation.cancel)
    assert {path.name: path.read_bytes() for path in (tmp_path / "ca").iterdir()} == before
    assert authority.change(ca_rotation.rotate(None)).phase is Phase.OVERLAP


def test_the_root_key_off_line(authority, tmp_path):
    """A root key kept off line is requested when needed; a foreign, unreadable, encrypted or unsupported key
    is refused."""
    path = tmp_path / "ca/root.key"
    key = path.read_bytes()
    path.unlink()
    foreign = Organisation()
    for given, words in (
        (None, "--root-key FILE"),
        (foreign.key_pem, "not the key of the present root"),
        (b"rubbish", "cannot be read"),
        (foreign.encrypted_key_pem(b"secret"), "encrypted"),
        (Organisation("Ed25519").key_pem, "Ed25519"),
    ):
        for step in (ca_rotation.rotate(given), ca_rotation.renew_intermediate(given)):
            with pytest.raises(UsageError, match=words):
                authority.change(step)
    assert authority.change(ca_rotation.rotate(key)).cross is not None
    assert [each.name for each in root_key_files(tmp_path)] == ["next-root.key"]
    authority.change(ca_rotation.cancel)
    assert authority.change(ca_rotation.rotate(None, cross=False)).cross is None


def test_a_second_rotation_follows_the_first(authority):
    """In three rotations in a row, old and new root are trusted together until the old one is retired; leaves
    of all intermediates are recognised."""
    certificates = [leaf(authority)]
    for _ in range(3):
        old = authority.root
        authority.change(ca_rotation.rotate(None))
        both = set(authority.keys.roots)
        assert set(authority.change(ca_rotation.switch).roots) == both == {old, authority.root}
        assert set(authority.change(ca_rotation.retire).roots) == both - {old}
        certificates.append(leaf(authority))
    assert {authority.recognise(each).agent_id for each in certificates} == {AGENT}


def test_an_imported_intermediate_under_the_present_root_issues_at_once(tmp_path):
    """The chain of a leaf has all levels; importing the same intermediate again is refused."""
    organisation, clock = Organisation("P-384", between=2), Clock(real_now())
    create(tmp_path, clock.now, brought(organisation))
    authority = Authority(tmp_path, Pki(), clock)
    assert root_key_files(tmp_path) == []
    assert len(authority.bundle(leaf(authority))[0]) == 3
    with pytest.raises(UsageError, match="issues already"):
        authority.change(ca_rotation.import_intermediate(brought(organisation), None))
    before = leaf(authority)
    held = authority.change(ca_rotation.import_intermediate(brought(organisation.next_intermediate()), None))
    assert held.phase is Phase.STEADY
    assert authority.recognise(before).agent_id == authority.recognise(leaf(authority)).agent_id
    with pytest.raises(UsageError, match="ca import"):
        authority.change(ca_rotation.renew_intermediate(None))


def test_leaves_end_with_the_first_of_their_chain(tmp_path):
    """No leaf outlives an upper authority that ends before its intermediate."""
    organisation, clock = Organisation(between=1), Clock(real_now())
    create(tmp_path, clock.now, brought(organisation))
    authority = Authority(tmp_path, Pki(), clock)
    last = min(each.not_valid_after_utc for each in authority.keys.current.chain)
    clock.now = last - timedelta(hours=1)
    assert authority.issue(KEY.public_key(), AGENT, Population.SERVER, 1).facts.not_after == last


STEPS = """
import os, sys, shutil
from datetime import UTC, datetime
from pathlib import Path
from tests.support.killing import dies_at, in_child, lines_of
from veilleuse.collector import clock
from veilleuse.collector.enrolment import ca_rotation
from veilleuse.collector.enrolment.ca import Authority, create
from veilleuse.collector.errors import AdminError
from veilleuse.collector.settings import Pki

PARTS = ("enrolment/ca_files.py", "enrolment/x509.py", "enrolment/ca.py", "enrolment/ca_rotation.py")
place, stride = Path(sys.argv[1]), int(sys.argv[2])
steps = {"rotate": ca_rotation.rotate(None), "switch": ca_rotation.switch, "retire": ca_rotation.retire,
         "renew": ca_rotation.renew_intermediate(None), "cancel": ca_rotation.cancel}
after = {"rotate": ["rotate"], "switch": ["rotate", "switch"], "retire": ["rotate", "switch", "retire"],
         "renew": ["renew"], "cancel": ["rotate", "cancel"]}

def state(authority):
    held = authority.keys
    return held.phase.value, tuple(each.serial_number for each in held.roots), held.current.certificate.serial_number

def work(data, step):
    authority = Authority(data, Pki())
    authority.change(steps[step])
    authority.server_identity()

killed = 0
for name, path in after.items():
    ready = place / name
    ready.mkdir()
    create(ready, clock.now())
    for earlier in path[:-1]:
        Authority(ready, Pki()).change(steps[earlier])
    before = state(Authority(ready, Pki()))
    counted = place / "counted"
    shutil.copytree(ready, counted)
    total = lines_of(lambda: work(counted, name), PARTS, place / "note")
    shutil.rmtree(counted)
    for line in range(1 + killed % stride, total + 1, stride):
        data = place / "data"
        shutil.copytree(ready, data)
        def die():
            dies_at(line, PARTS)
            work(data, name)
        ended = in_child(die)
        assert ended in (0, -9), ended
        killed += ended == -9
        def die_again():                           # while what was cut is finished
            dies_at(1 + line % 40, PARTS)
            Authority(data, Pki())
        assert in_child(die_again) in (0, -9)
        opened = Authority(data, Pki())            # it starts, whatever the line
        now = state(opened)
        assert not (data / "ca/change.json").exists()
        assert opened.server_identity().chain_pem
        if now == before:                          # not made: the same command again makes it
            opened.change(steps[name])
            now = state(opened)
        else:                                      # made: the key is that of the certificate, or Authority had refused
            assert now[0] == {"rotate": "overlap", "switch": "switched"}.get(name, "steady"), now
        assert now != before
        shutil.rmtree(data)
print(killed)
"""


@pytest.mark.any_date
@pytest.mark.parametrize("stride", [20, pytest.param(1, marks=pytest.mark.long)])
def test_killed_at_any_line_of_any_step_it_is_made_or_not_made(tmp_path, stride):
    """Killed at lines all over five steps, and again while it opens, the authority opens in the state before
    or after the step."""
    assert int(run_program(STEPS, str(tmp_path), str(stride))) > 600 / stride


def test_a_full_disk_changes_nothing_or_is_finished_later(authority, tmp_path, monkeypatch):
    """ENOSPC at a write gives one clear line: nothing was changed, or the decided step is finished at the
    next start."""
    real, room = replace_owned, 0

    def writing(path: Path, content: bytes) -> None:
        nonlocal room
        room -= 1
        if room < 0:
            raise OSError(28, "No space left on device")
        real(path, content)

    monkeypatch.setattr(folders, "replace_owned", writing)
    with pytest.raises(DataDirectoryError, match="nothing was changed"):
        authority.change(ca_rotation.rotate(None))
    assert Authority(tmp_path, Pki(), Clock()).keys.phase is Phase.STEADY
    room = 2
    with pytest.raises(DataDirectoryError, match="finished at the next start"):
        authority.change(ca_rotation.rotate(None))
    assert authority.keys.phase is Phase.STEADY  # this process keeps its keys
    room = 100
    assert Authority(tmp_path, Pki(), Clock()).keys.phase is Phase.OVERLAP


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("change.json", b"{"),
        ("change.json", b"[1]"),
        ("rotation.json", b"{}"),
        ("rotation.json", b"[]"),
        ("next-root.pem", b"rubbish"),
        ("next-intermediate.pem", b""),
        ("cross.pem", b"rubbish"),
        ("previous-00.pem", b"rubbish"),
    ],
)
def test_a_damaged_file_is_one_clear_line(authority, tmp_path, name, content):
    """The refusal names the file and what to do."""
    authority.change(ca_rotation.rotate(None))
    (tmp_path / "ca" / name).write_bytes(content)
    with pytest.raises(DataDirectoryError, match=f"{name} \\(damaged\\): restore"):
        Authority(tmp_path, Pki())


def test_a_rotation_counts_from_a_minute_later(authority, tmp_path):
    """A certificate issued at the moment of the step may still carry the earlier bundle."""
    held = authority.change(ca_rotation.rotate(None))
    assert held.began_unix_milliseconds == round((NOW + timedelta(minutes=1)).timestamp() * 1000)
    assert json.loads((tmp_path / "ca/rotation.json").read_text()) == {
        "began_unix_milliseconds": held.began_unix_milliseconds
    }
