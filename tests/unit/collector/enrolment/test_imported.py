# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of an organisation's own intermediate: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support import clock
from tests.support.authorities import Form, Organisation
from tests.support.closed_years import lead_commands_to
from tests.support.machines import settings_in
from veilleuse.collector.cli.main import run
from veilleuse.collector.enrolment.external_ca import ExternalCa, read_external_ca, try_handshake
from veilleuse.collector.errors import UsageError

NAMES = ("localhost", "127.0.0.1", "::1")
DAY = timedelta(days=1)
OTHER = Organisation()


def read(organisation: Organisation, **instead: bytes) -> ExternalCa:
    """Read the organisation's files, as `init` and `ca import` do; `instead` replaces files."""
    files = {
        "certificate_pem": organisation.chain_pem,
        "key_pem": organisation.key_pem,
        "root_pem": organisation.root_pem,
    }
    now = clock.now()
    made = read_external_ca(**{**files, **instead}, now=now)
    try_handshake(made, NAMES, now)
    return made


@pytest.mark.parametrize("kind", ["P-256", "P-384", "RSA 3072"])
@pytest.mark.parametrize("between", [0, 2])
def test_what_is_taken(kind, between):
    """The three kinds of key are accepted, directly under the root or deeper; the root may end the chain
    file."""
    organisation = Organisation(kind, between=between)
    assert len(read(organisation).chain) == 1 + between
    with_root = organisation.chain_pem + organisation.root_pem
    assert len(read(organisation, certificate_pem=with_root).chain) == 1 + between


def test_an_intermediate_without_extended_usage_is_taken():
    """A certificate without extended key usage is valid for every usage."""
    assert read(Organisation(form=Form(usages=())))


@pytest.mark.parametrize(
    ("organisation", "words"),
    [
        (Organisation("P-521"), "secp521r1: accepted are P-256, P-384 and RSA of 3072 bits or more"),
        (Organisation("RSA 2048"), "RSA of 2048 bits: accepted are"),
        (Organisation("Ed25519"), "Ed25519 key\\): accepted are"),
        (Organisation(form=Form(ca=False)), "Ville issuing CA' is not a certificate authority"),
        (Organisation(form=Form(signs=False)), "key usage keyCertSign"),
        (
            Organisation(form=Form(usages=(ExtendedKeyUsageOID.SERVER_AUTH,))),
            "is not for client authentication",
        ),
        (
            Organisation(form=Form(usages=(ExtendedKeyUsageOID.CLIENT_AUTH,))),
            "is not for server authentication",
        ),
        (Organisation(form=Form(begins=DAY)), "begins on"),
        (Organisation(form=Form(begins=-2 * DAY, ends=-DAY)), "ended on"),
        (Organisation(root_form=Form(path_length=0), between=0), "Ville root' allows 0 certificate"),
        (Organisation(root_form=Form(path_length=1), between=1), "this chain has 2"),
        (Organisation(root_form=Form(path_length=None, ends=-timedelta(seconds=1))), "Ville root' ended on"),
    ],
)
def test_what_is_refused(organisation, words):
    """The refusal is one line that names the certificate, its defect and what to ask for."""
    with pytest.raises(UsageError, match=words):
        read(organisation)


GOOD = Organisation("P-256", between=1)


@pytest.mark.parametrize(
    ("instead", "words"),
    [
        ({"certificate_pem": b"rubbish"}, "the intermediate's file holds no certificate"),
        ({"root_pem": b""}, "the root's file holds no certificate"),
        ({"root_pem": GOOD.root_pem + OTHER.root_pem}, "holds 2 certificates"),
        ({"certificate_pem": GOOD.root_pem}, "is the root itself"),
        ({"key_pem": OTHER.key_pem}, "the key is not the one of 'CN=Ville issuing CA'"),
        ({"key_pem": b"rubbish"}, "the key cannot be used"),
        ({"key_pem": GOOD.encrypted_key_pem(b"secret")}, "the key is encrypted"),
        ({"root_pem": OTHER.root_pem}, "was not signed by 'CN=Ville root'"),
        (
            {
                "certificate_pem": GOOD.chain_pem.partition(b"-----END CERTIFICATE-----\n")[0]
                + b"-----END CERTIFICATE-----\n"
            },
            "was not signed by",
        ),
        ({"root_pem": GOOD.chain_pem[GOOD.chain_pem.rindex(b"-----BEGIN") :]}, "is no root"),
    ],
)
def test_files_that_do_not_belong_together(instead, words):
    """The refusal names the file and which one to give."""
    with pytest.raises(UsageError, match=words):
        read(GOOD, **instead)


def test_name_constraints_are_tried_out():
    """A trial handshake refuses only constraints that exclude the collector's names."""
    names = x509.NameConstraints(permitted_subtrees=[x509.DNSName("ville.example")], excluded_subtrees=None)
    organisation = Organisation(form=Form(constraints=names))
    with pytest.raises(
        UsageError, match=r"trial handshake .* failed \(permitted subtree violation\).*server_names"
    ):
        read(organisation)
    made = read_external_ca(organisation.chain_pem, organisation.key_pem, organisation.root_pem, clock.now())
    try_handshake(made, ("collector.ville.example",), clock.now())
    try_handshake(made, ("*.ville.example",), clock.now())
    uris = x509.NameConstraints(
        permitted_subtrees=[x509.UniformResourceIdentifier("ville.example")], excluded_subtrees=None
    )
    with pytest.raises(UsageError, match="trial handshake"):
        read(Organisation(form=Form(constraints=uris)))


def test_init_with_an_organisation_s_own(tmp_path, monkeypatch, capsys):
    """`veilleuse init --ca-…` makes no root key; with some of the three options, or a bad file, it creates
    nothing."""
    settings = settings_in(tmp_path)
    lead_commands_to(settings, monkeypatch)
    organisation = Organisation("RSA 3072", between=1)
    arguments = organisation.files(tmp_path, "--ca-")
    assert run(["init", *arguments[:4]]) == 2
    assert run(["init", *arguments[:5], str(tmp_path / "absent.pem")]) == 2
    assert "absent.pem: No such file" in capsys.readouterr().err
    (tmp_path / "encrypted.pem").write_bytes(organisation.encrypted_key_pem(b"secret"))
    assert run(["init", *arguments, "--ca-key", str(tmp_path / "encrypted.pem")]) == 2
    assert "encrypted.pem is encrypted: run the command on a terminal" in capsys.readouterr().err
    assert not settings.data_dir.exists()
    assert run(["init", *arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["root_key"] is None
    assert sorted(path.name for path in (settings.data_dir / "ca").iterdir()) == [
        "intermediate.key",
        "intermediate.pem",
        "root.pem",
    ]
    assert run(["ca", "show", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    roles = [each["role"] for each in shown["certificates"]]
    assert roles == ["root", "intermediate", "intermediate", "server"]
    assert shown["certificates"][1]["key"] == "RSA 3072"
