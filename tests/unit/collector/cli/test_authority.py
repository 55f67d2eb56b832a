# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The certificate authority: the certificates that it issues and recognises, and its files."""

from __future__ import annotations

import contextlib
import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from veilleuse.collector.enrolment import x509 as certificates
from veilleuse.collector.enrolment.ca import Authority, create
from veilleuse.collector.enrolment.x509 import read_request
from veilleuse.collector.errors import DataDirectoryError, EnrolmentRefused, NotAuthorised
from veilleuse.collector.model.records import AgentId
from veilleuse.collector.settings import Pki
from veilleuse.wire.vocabulary import Population

AGENT = AgentId(bytes(range(16)))
NOW = datetime(2026, 3, 10, 14, 35, 7, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())


class Clock:
    """Gives a time that tests set."""

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
    """Create an authority."""
    create(tmp_path, NOW)
    return Authority(tmp_path, Pki(), clock)


def leaf(der: bytes) -> x509.Certificate:
    """Parse a certificate."""
    return x509.load_der_x509_certificate(der)


def csr(key, digest=hashes.SHA256()) -> bytes:  # noqa: B008
    """Return a certificate request for the key."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, digest).public_bytes(Encoding.DER)


def test_files_are_private(authority, tmp_path):
    """The folder is 0700, every file 0600 (S20)."""
    authority.server_identity()
    assert (tmp_path / "ca").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "ca").iterdir()} == {0o600}


def test_never_made_twice(authority, tmp_path):
    """A second authority would make every agent's certificate invalid."""
    with pytest.raises(DataDirectoryError, match="exists already"):
        create(tmp_path, NOW)


def test_interrupted_creation_starts_again(tmp_path):
    """The files of an interrupted init are not an authority."""
    (tmp_path / "ca.new").mkdir()
    (tmp_path / "ca.new/root.pem").write_text("half")
    create(tmp_path, NOW)
    assert Authority(tmp_path, Pki()).root_sha256


def test_chain(authority):
    """The root signs the intermediate, which signs the leaf; each has only the rights it needs."""
    root, intermediate = authority.root, authority.intermediate
    intermediate.verify_directly_issued_by(root)
    der = authority.issue(KEY.public_key(), AGENT, Population.SERVER, 1).certificate_der
    leaf(der).verify_directly_issued_by(intermediate)
    constraints = [
        each.extensions.get_extension_for_class(x509.BasicConstraints).value
        for each in (root, intermediate, leaf(der))
    ]
    assert [(each.ca, each.path_length) for each in constraints] == [(True, 1), (True, 0), (False, None)]
    usage = leaf(der).extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert list(usage.value) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_leaf_names_the_agent_only(authority):
    """A leaf has an empty subject, one critical URI name and the generation, and no fact of the machine."""
    der = authority.issue(KEY.public_key(), AGENT, Population.SERVER, 3).certificate_der
    assert leaf(der).subject.rdns == []
    names = leaf(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [
        f"urn:veilleuse:agent:{AGENT.hex()}"
    ]
    read = authority.recognise(der)
    assert (read.agent_id, read.generation) == (AGENT, 3)
    assert read.public_key_sha256 == certificates.public_key_sha256(KEY.public_key())


def test_life_of_a_server(authority):
    """A leaf ends in 24 hours and began minutes ago, for clocks that are behind."""
    facts = authority.issue(KEY.public_key(), AGENT, Population.SERVER, 1).facts
    assert facts.not_after == NOW + timedelta(hours=24)
    assert NOW - timedelta(minutes=10) < facts.not_before < NOW


@pytest.mark.parametrize("population", [Population.WORKSTATION, Population.CLASSROOM])
def test_life_of_a_pc_tells_no_time_of_day(authority, clock, population):
    """A leaf lasts 7 whole UTC days, so machines enrolled at different hours have the same dates."""
    clock.now = NOW + timedelta(days=1)  # the intermediate began on the day before
    first = authority.issue(KEY.public_key(), AGENT, population, 1).facts
    clock.now += timedelta(hours=5, minutes=3)
    second = authority.issue(KEY.public_key(), AGENT, population, 1).facts
    assert (first.not_before, first.not_after) == (second.not_before, second.not_after)
    assert first.not_before == datetime(2026, 3, 11, tzinfo=UTC)
    assert first.not_after - first.not_before == timedelta(days=7)


def test_pc_enrolled_on_the_authority_s_first_day(authority):
    """A leaf does not begin before its issuer, and ends on a whole day."""
    facts = authority.issue(KEY.public_key(), AGENT, Population.WORKSTATION, 1).facts
    assert facts.not_before == authority.intermediate.not_valid_before_utc
    assert facts.not_after == datetime(2026, 3, 17, tzinfo=UTC)


def test_leaf_never_outlives_its_issuer(authority, clock):
    """Near its end the intermediate shortens leaves; after its end it issues none."""
    last = authority.intermediate.not_valid_after_utc
    clock.now = last - timedelta(hours=1)
    assert authority.issue(KEY.public_key(), AGENT, Population.SERVER, 1).facts.not_after == last
    clock.now = last + timedelta(hours=1)
    with pytest.raises(DataDirectoryError, match="renew-intermediate"):
        authority.issue(KEY.public_key(), AGENT, Population.SERVER, 1)


def test_a_clock_before_the_authority_is_one_clear_line(authority, clock):
    """A machine that starts in 1970 signs nothing, and the error asks to set the clock."""
    clock.now = datetime(1970, 1, 1, tzinfo=UTC)
    with pytest.raises(DataDirectoryError, match="set the clock"):
        authority.issue(KEY.public_key(), AGENT, Population.SERVER, 1)
    with pytest.raises(DataDirectoryError, match="set the clock"):
        authority.server_identity()


def test_a_server_certificate_of_a_clock_that_was_ahead_is_made_again(authority, clock):
    """A certificate that is not valid yet would be kept until near its end and refuse every agent."""
    clock.now = NOW + timedelta(days=365)
    ahead = authority.server_identity()
    clock.now = NOW
    assert authority.server_identity() != ahead
    assert authority.server_identity().not_after == NOW.replace(microsecond=0) + timedelta(days=90)


def test_a_server_certificate_asked_for_from_many_threads_is_one(authority):
    """Both servers and `health` request it at once when the old one nears its end."""
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: authority.server_identity(), range(8)))) == 1


@given(st.integers(1, 2**60))
def test_generation_survives_its_encoding(generation):
    """Any generation survives DER encoding."""
    der = certificates._encode_generation(generation)
    assert certificates._decode_generation(der) == generation


@pytest.mark.parametrize(
    "der", [b"", b"\x02", b"\x02\x01", b"\x02\x01\x00", b"\x02\x01\xff", b"\x04\x01\x01", b"\x02\x02\x01"]
)
def test_generation_must_be_a_positive_integer(der):
    """Other values are refused as no agent's certificate."""
    with pytest.raises(NotAuthorised):
        certificates._decode_generation(der)


def test_other_authorities_and_servers_are_not_recognised(authority, tmp_path):
    """Certificates of another authority, the collector's own and rubbish are refused with their reason."""
    (tmp_path / "other").mkdir()
    create(tmp_path / "other", NOW)
    other = Authority(tmp_path / "other", Pki(), Clock())
    foreign = other.issue(KEY.public_key(), AGENT, Population.SERVER, 1).certificate_der
    own = authority.server_identity().chain_pem
    for certificate, reason in (
        (foreign, "not_ours"),
        (own, "not_an_agent"),
        (b"x", "not_an_agent"),
        (b"", "not_an_agent"),
    ):
        with pytest.raises(NotAuthorised) as refused:
            authority.recognise(certificate)
        assert refused.value.reason == reason


def test_server_certificate_is_kept_while_good(authority, clock, tmp_path):
    """It is made again only near its end, when its names change, or when a file is damaged."""
    first = authority.server_identity()
    assert authority.server_identity() == first
    clock.now = NOW + timedelta(days=61)
    second = authority.server_identity()
    assert second != first
    renamed = Authority(tmp_path, Pki(server_names=("collector.example", "192.0.2.7")), clock)
    third = renamed.server_identity()
    assert third != second
    names = leaf(
        ssl.PEM_cert_to_DER_cert(
            third.chain_pem.decode().partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----"
        )
    )
    alternative = names.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert alternative.get_values_for_type(x509.DNSName) == ["collector.example"]
    (tmp_path / "ca/server.key").write_bytes(b"rubbish")
    assert renamed.server_identity() != third


def test_a_server_certificate_cannot_pose_as_an_agent_nor_the_reverse(authority):
    """The server's certificate has the usage SERVER_AUTH alone."""
    der = ssl.PEM_cert_to_DER_cert(
        authority.server_identity().chain_pem.decode().split("-----END")[0] + "-----END CERTIFICATE-----"
    )
    usage = leaf(der).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


@pytest.mark.parametrize("name", ["root.pem", "intermediate.pem", "intermediate.key"])
def test_missing_and_damaged_files_are_one_clear_line(authority, tmp_path, name):
    """The error names the file and asks to restore it."""
    path = tmp_path / "ca" / name
    path.write_bytes(b"rubbish")
    with pytest.raises(DataDirectoryError, match=f"{name} \\(damaged\\)"):
        Authority(tmp_path, Pki())
    path.unlink()
    with pytest.raises(DataDirectoryError, match=f"{name} .*restore it"):
        Authority(tmp_path, Pki())


def test_key_of_another_intermediate_is_noticed(authority, tmp_path):
    """An authority whose key and certificate do not belong together is refused."""
    (tmp_path / "other").mkdir()
    create(tmp_path / "other", NOW)
    (tmp_path / "other/ca/intermediate.key").replace(tmp_path / "ca/intermediate.key")
    with pytest.raises(DataDirectoryError, match="do not belong together"):
        Authority(tmp_path, Pki())


def test_requests():
    """A P-256 request signed by its own key within 4 KiB is accepted, every other one refused."""
    assert read_request(csr(KEY)) == KEY.public_key()
    tampered = bytearray(csr(KEY))
    tampered[-1] ^= 1
    bad = [
        b"",
        b"\0" * 4097,
        b"rubbish",
        csr(ec.generate_private_key(ec.SECP384R1())),
        csr(rsa.generate_private_key(65537, 2048)),
        bytes(tampered),
    ]
    for der in bad:
        with pytest.raises(EnrolmentRefused) as refused:
            read_request(der)
        assert refused.value.reason == "bad_request"


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.parametrize("value", [0, 1, 2, 3, 5, 0x30, 0x7F, 0x80, 0xA0, 0xFF])
def test_a_changed_byte_makes_no_agent(authority, value):
    """Bytes are set to values with a meaning in DER, in DER and PEM. The certificate is refused with a reason
    or gives the same agent where the byte is outside the signature.
    A stranger may send such a certificate, and must not cause a traceback in the log.
    """
    der = authority.issue(KEY.public_key(), AGENT, Population.SERVER, 3).certificate_der
    said = authority.recognise(der)
    for good in (der, leaf(der).public_bytes(Encoding.PEM)):
        for position in range(len(good)):
            mutated = good[:position] + bytes([value]) + good[position + 1 :]
            with contextlib.suppress(NotAuthorised):
                assert authority.recognise(mutated) == said


@given(st.binary(max_size=300))
def test_rubbish_requests_never_crash(der):
    """Any bytes are refused with a reason."""
    with pytest.raises(EnrolmentRefused):
        read_request(der)


@pytest.mark.parametrize("value", range(256))
def test_a_changed_byte_never_passes_for_another_request(value):
    """A changed request is refused or asks for the same key: padding bits of the signature mean nothing."""
    good = csr(KEY)
    for position in range(len(good)):
        mutated = good[:position] + bytes([value]) + good[position + 1 :]
        with contextlib.suppress(EnrolmentRefused):
            assert read_request(mutated).public_numbers() == KEY.public_key().public_numbers()
