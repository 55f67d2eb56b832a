# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the identity on disk and how it is created: docs/wire.md §6, §7 and §8, docs/guarantees.md S5, S20."""

from __future__ import annotations

import hashlib
import os
import stat
from datetime import timedelta

import pytest
from cryptography import x509

from tests.support.fakes.agent import Agent, energies, record
from tests.support.fakes.authority import TestAuthority
from tests.support.fakes.collector import FakeCollector
from veilleuse.agent.errors import CollectorAway, IdentityError, NotEnrolled, RequestRefused
from veilleuse.agent.host.hardware_ids import require_machine_id
from veilleuse.agent.identity import keys
from veilleuse.agent.identity.store import IdentityStore, ders_of, pem_of
from veilleuse.agent.settings import Collector
from veilleuse.wire.pseudonym import normalise_serial, normalise_uuid, pseudonym
from veilleuse.wire.v1 import telemetry_pb2 as pb


def test_enrolling_makes_an_identity_and_uses_up_the_join_file(agent, collector, tmp_path):
    """Id, roots, validity and place are kept; the join file is deleted; the spool holds the population."""
    identity = agent.enrol(collector)
    assert not (tmp_path / "join").exists()
    assert identity.agent_id in collector.enrolments.values()
    assert (identity.place.org_entity, identity.place.site, identity.place.population) == (
        "DINUM",
        "Part-Dieu",
        "server",
    )
    assert not identity.place.ca_pinned
    assert agent.control()["population"] == "server"
    assert identity.not_after_unix_milliseconds - identity.not_before_unix_milliseconds == 86_400_000
    assert ders_of(identity.roots_pem) == [collector.authority.root.der]


def test_nobody_else_can_read_it(agent, collector):
    """S20: the directory is 0700 and every file 0600, whatever the umask."""
    before = os.umask(0)
    try:
        agent.enrol(collector)
    finally:
        os.umask(before)
    assert stat.S_IMODE((agent.state / "id").stat().st_mode) == 0o700
    files = list((agent.state / "id").iterdir())
    assert {file.name for file in files} >= {
        "key.pem",
        "certificate.pem",
        "roots.pem",
        "agent_id",
        "salt",
        "collector.json",
    }
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_lost_reply_does_not_burn_the_token(agent, collector):
    """S5: the second try uses the same key and gets the same identity."""
    collector.lose_replies = 1
    with pytest.raises(CollectorAway):
        agent.enrol(collector)
    assert (agent.state.parent / "join").exists()
    identity = agent.enrol(collector)
    assert list(collector.enrolments.values()) == [identity.agent_id]
    requests = [one for one in collector.requests if isinstance(one, pb.EnrolRequest)]
    first, second = (x509.load_der_x509_csr(one.certificate_request_der).public_key() for one in requests)
    assert first == second


def test_a_wrong_fingerprint_is_refused_before_anything_is_sent(tmp_path, collector):
    """A collector.ca_sha256 of another CA gives one error, no key and no call; the join file remains."""
    agent = Agent(tmp_path / "state", **{"collector.ca_sha256": "AA:" * 31 + "AA"})
    with pytest.raises(IdentityError, match="wrong fingerprint"):
        agent.enrol(collector)
    assert collector.requests == []
    assert not (agent.state / "id").exists()
    assert (tmp_path / "join").exists()


def test_a_pinned_ca_is_remembered(tmp_path, collector):
    """The fingerprint may be in upper case with colons, as openssl prints it."""
    digest = collector.join_file(tmp_path / "probe").read_text().split('"ca_sha256": "')[1][:64].upper()
    pinned = ":".join(digest[position : position + 2] for position in range(0, 64, 2))
    agent = Agent(tmp_path / "state", **{"collector.ca_sha256": pinned})
    assert agent.enrol(collector).place.ca_pinned


def test_an_impostor_is_refused(agent, collector, tmp_path):
    """A collector of another CA at the same address never receives the token."""
    other = TestAuthority()
    from veilleuse.agent.sending.enrol import enrol

    join = collector.join_file(
        tmp_path / "join",
        ca_pem=other.root.pem.decode(),
        ca_sha256=hashlib.sha256(other.root.der).hexdigest(),
    )
    with pytest.raises(CollectorAway, match="another CA"):
        enrol(agent.settings, join)
    assert collector.requests == []


def test_the_join_file_of_another_entity_is_refused(agent, collector, tmp_path):
    """A machine set up for one entity does not enrol with the file of another; a file of 0.2 names none."""
    from veilleuse.agent.sending.enrol import enrol

    settings = agent.settings._replace(collector=Collector(entity="College Rimbaud"))
    join = collector.join_file(tmp_path / "join", org_entity="DSI")
    with pytest.raises(IdentityError, match=r"enrols machines of DSI, .* says College Rimbaud"):
        enrol(settings, join)
    assert (collector.requests, join.exists()) == ([], True)
    join.unlink()
    assert enrol(settings, collector.join_file(tmp_path / "join")).place.org_entity
    assert not join.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 2}, "upgrade the agent"),
        ({"address": "host"}, "address is 'host': it must be host:port"),
        ({"enrolment_address": "::1:8642"}, "enrolment_address is '::1:8642': its host must be"),
        ({"enrolment_address": "0.0.0.0:8642"}, "nobody can connect"),
        ({"address": 8641}, "must be host:port"),
        ({"token": "short"}, "43 characters"),
        ({"fleet_key": "00"}, "32 bytes"),
        ({"fleet_key": "zz"}, "not a join file"),
        ({"ca_pem": "none"}, "no PEM certificate"),
        ({"ca_sha256": "00" * 32}, "does not match"),
    ],
)
def test_a_spoilt_join_file_is_told_in_one_line(agent, collector, tmp_path, changes, words):
    """The message is one line with the file and the fault, and never shows the token."""
    from veilleuse.agent.sending.enrol import enrol

    join = collector.join_file(tmp_path / "join", **changes)
    with pytest.raises(IdentityError, match=words) as caught:
        enrol(agent.settings, join)
    assert str(join) in str(caught.value)
    assert collector.token not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"[" * 60_000, b"[]", b"\xff\xfe", b"", b" " * 70_000])
def test_what_is_no_join_file_at_all(agent, tmp_path, content):
    """Any other content gives one error, whatever its depth or length."""
    from veilleuse.agent.sending.enrol import enrol

    (tmp_path / "join").write_bytes(content)
    with pytest.raises(IdentityError, match="is not a join file"):
        enrol(agent.settings, tmp_path / "join")


@pytest.mark.parametrize("name", ["folder", "pipe", "nothing"])
def test_a_join_file_is_a_file(agent, tmp_path, name):
    """A pipe, a folder and a missing file are refused; reading a pipe would never end."""
    from veilleuse.agent.sending.enrol import enrol

    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(IdentityError, match="cannot read the join file"):
        enrol(agent.settings, tmp_path / name)


def test_only_the_certificate_that_was_pinned_is_trusted(agent, collector, tmp_path):
    """A second CA in the file is not trusted: it would make the fingerprint worthless."""
    from veilleuse.agent.sending.enrol import enrol

    behind = TestAuthority("another")
    with FakeCollector(behind) as impostor:
        join = collector.join_file(
            tmp_path / "join",
            enrolment_address=impostor.enrolment_address,
            ca_pem=collector.authority.root.pem.decode() + behind.root.pem.decode(),
        )
        with pytest.raises(CollectorAway, match="another CA"):
            enrol(agent.settings, join)
        assert impostor.requests == []


def test_a_used_token_is_told(tmp_path, collector):
    """The collector's own message reaches the operator."""
    Agent(tmp_path / "one").enrol(collector)
    with pytest.raises(IdentityError, match="token is unknown, used or expired"):
        Agent(tmp_path / "two").enrol(collector)


def test_enrolling_again_is_another_machine_to_the_collector(agent, collector):
    """A second enrolment begins a new stream: it delivers only the records that the first did not."""
    first = agent.enrol(collector)
    agent.measure(record(0))
    assert agent.send()
    agent.measure(record(1))
    collector.token = "u" * 43
    second = agent.enrol(collector)
    assert second.agent_id != first.agent_id
    assert agent.send()
    assert energies(collector.stored(second.agent_id)) == [1_001]


def test_asset_numbers_leave_as_pseudonyms_only(tmp_path, collector):
    """Only HMAC(fleet key, normalised serial) leaves the machine, and nothing when opted out."""
    dmi = tmp_path / "sys/class/dmi/id"
    dmi.mkdir(parents=True)
    (dmi / "chassis_serial").write_text("abc-123 x\n")
    (dmi / "product_uuid").write_text("4C4C4544-0042-3510-8052-B4C04F4A4E32\n")
    agent = Agent(tmp_path / "state", **{"paths.sysfs": str(tmp_path / "sys")})
    agent.enrol(collector)
    request = collector.requests[0]
    assert request.chassis_pseudonym == pseudonym(collector.fleet_key, "ABC123X")
    assert request.smbios_pseudonym == pseudonym(collector.fleet_key, "4c4c4544004235108052b4c04f4a4e32")
    assert not request.HasField("host_name")
    everything = request.SerializeToString()
    assert b"123" not in everything.replace(request.token.encode(), b"")
    collector.token = "u" * 43
    silent = Agent(
        tmp_path / "other",
        **{"paths.sysfs": str(tmp_path / "sys"), "privacy.send_asset_pseudonyms": "false"},
    )
    silent.enrol(collector)
    assert collector.requests[-1].chassis_pseudonym == b""


@pytest.mark.parametrize(("population", "sent"), [("server", True), ("workstation", False), ("", False)])
def test_the_host_name_is_for_servers_that_allow_it(tmp_path, collector, population, sent):
    """The host name is sent only if the local file names a server and allows it."""
    agent = Agent(tmp_path / "state", **{"privacy.send_host_name": "true", "measure.population": population})
    agent.enrol(collector)
    assert collector.requests[0].HasField("host_name") is sent


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("abc-123", "ABC123"),
        ("  5CG 1234 xyz ", "5CG1234XYZ"),
        ("To be filled by O.E.M.", None),
        ("Default string", None),
        ("00000000", None),
        ("", None),
        ("None", None),
    ],
)
def test_serials_are_compared_as_people_write_them(text, normal):
    """Case, spaces and dashes are ignored; a maker's placeholder gives None."""
    assert normalise_serial(text) == normal


def test_dummy_uuids_are_no_uuid():
    """UUIDs of equal digits, invalid ones and common placeholders give None."""
    assert normalise_uuid("4C4C4544-0042-3510-8052-B4C04F4A4E32") == "4c4c4544004235108052b4c04f4a4e32"
    for dummy in (
        "03000200-0400-0500-0006-000700080009",
        "0" * 32,
        "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
        "x",
        "",
    ):
        assert normalise_uuid(dummy) is None


# --------------------------------------------------------------------------------------- renewal


def test_a_certificate_is_renewed_at_two_thirds_with_a_new_key(agent, collector):
    """The first contact after that time renews the certificate; the next one uses it."""
    collector.leaf_age = timedelta(hours=20)
    old = agent.enrol(collector)
    collector.leaf_age = timedelta(minutes=5)
    assert agent.send()
    new = agent.identity
    assert new.key_pem != old.key_pem
    assert new.not_after_unix_milliseconds > old.not_after_unix_milliseconds
    assert new.agent_id == old.agent_id
    agent.measure(record(0))
    assert agent.send()
    assert len([one for one in collector.requests if isinstance(one, pb.RenewRequest)]) == 1


def test_a_renewal_is_spread_by_the_agents_id(agent, collector):
    """Renewal falls between 2/3 of the certificate's life and a tenth of its life later, always at the same
    time for one agent."""
    identity = agent.enrol(collector)
    life = identity.not_after_unix_milliseconds - identity.not_before_unix_milliseconds
    share = (identity.renewal_due_unix_milliseconds() - identity.not_before_unix_milliseconds) / life
    assert 2 / 3 - 0.001 <= share <= 2 / 3 + 0.101
    assert agent.identity.renewal_due_unix_milliseconds() == identity.renewal_due_unix_milliseconds()


def test_an_expired_certificate_is_renewed_with_its_own_key(agent, collector):
    """An agent with an expired certificate renews it and delivers records in the same contact."""
    collector.leaf_age = timedelta(hours=25)
    old = agent.enrol(collector)
    collector.leaf_age = timedelta(minutes=5)
    agent.measure(record(0))
    assert agent.send()
    assert [type(one).__name__ for one in collector.requests][1] == "RenewExpiredRequest"
    assert agent.identity.key_pem != old.key_pem
    assert energies(collector.stored(old.agent_id)) == [1_000]


def test_a_clock_that_is_behind_does_not_lock_us_out(agent, collector):
    """The late clock accepts an expired certificate and TLS refuses it: the second contact renews it."""
    collector.leaf_age = timedelta(hours=25)
    identity = agent.enrol(collector)
    collector.leaf_age = timedelta(minutes=5)
    behind = identity.not_before_unix_milliseconds + 1_000
    assert not agent.send(clock=lambda: behind)
    assert agent.send(clock=lambda: behind)
    assert agent.identity.key_pem != identity.key_pem


def test_a_crash_between_certificate_and_key_is_mended(agent, collector):
    """On load, a pending key that matches the certificate replaces the old key."""
    agent.enrol(collector)
    store = IdentityStore(agent.state)
    pending = keys.new_key_pem()
    store.keep_pending_key(pending)
    issued = collector.issued(keys.request_der(pending), agent.identity.agent_id)
    real = store._finish_renewal
    store._finish_renewal = lambda: None  # type: ignore[method-assign]  # a power cut happens here
    store.keep_certificate(
        [issued.certificate_der, *issued.intermediates_der], list(issued.roots_der), (1, 2)
    )
    store._finish_renewal = real  # type: ignore[method-assign]
    assert IdentityStore(agent.state).load().key_pem == pending
    assert store.pending_key() is None


def test_a_key_the_collector_will_never_take_is_dropped(agent, collector):
    """If the collector refuses a key for renewal, the agent drops that key."""
    from typing import cast

    from veilleuse.agent.identity import certificates

    agent.enrol(collector)
    store = IdentityStore(agent.state)

    def refuses(request: pb.RenewRequest) -> pb.RenewResponse:
        raise RequestRefused("key reused")

    with pytest.raises(RequestRefused):
        certificates.renew(refuses, cast("certificates.Keys", keys), store)
    assert store.pending_key() is None


def test_a_request_names_nobody():
    """The request has an empty subject and a valid signature."""
    request = x509.load_der_x509_csr(keys.request_der(keys.new_key_pem()))
    assert list(request.subject) == []
    assert request.is_signature_valid


# ------------------------------------------------------------------------------------ machine-id


@pytest.mark.parametrize("text", ["", "\n", "uninitialized\n"])
def test_an_image_that_never_started_has_no_identity(tmp_path, text):
    """machine-id(5): the file is empty or `uninitialized` until the end of the first boot."""
    file = tmp_path / "machine-id"
    file.write_text(text)
    with pytest.raises(IdentityError, match=r"first start.*In a container, mount the host's file"):
        require_machine_id(file)


def test_a_machine_id_or_none_at_all_will_do(tmp_path):
    """A missing machine-id is accepted, since not every system has one."""
    assert require_machine_id(tmp_path / "none") is None
    (tmp_path / "machine-id").write_text("e08d2021fbdd6f894fde550c98aff54d\n")
    assert require_machine_id(tmp_path / "machine-id") == "e08d2021fbdd6f894fde550c98aff54d"


def test_no_identity_and_a_damaged_one_are_told_apart(agent, collector):
    """A missing identity raises NotEnrolled with the command; a damaged one raises IdentityError."""
    with pytest.raises(NotEnrolled, match="veilleuse-agent enrol"):
        IdentityStore(agent.state).load()
    agent.enrol(collector)
    (agent.state / "id/certificate.pem").write_bytes(b"\x00" * 100)
    with pytest.raises(IdentityError, match="damaged"):
        IdentityStore(agent.state).load()


def test_pem_and_der_are_one():
    """PEM made without the package cryptography equals its own and is read back."""
    root = TestAuthority().root
    assert pem_of(root.der) == root.pem
    assert ders_of(root.pem + b"text\n" + root.pem) == [root.der, root.der]
