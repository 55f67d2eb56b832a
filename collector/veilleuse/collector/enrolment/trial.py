# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A trial of an organisation's intermediate: two leaves under it, and a handshake between them in memory.

The explicit checks of `imported` give the clear errors; this one finds what nobody thought of (name constraints that shut
out the collector's names, a critical extension), with OpenSSL, which is stricter than what agents verify with.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from veilleuse.collector.enrolment.certificates import agent_extensions
from veilleuse.collector.enrolment.external_ca import Brought
from veilleuse.collector.enrolment.x509 import (
    digest,
    general_names,
    issued_by,
    key_pem,
    key_usage,
    new_key,
    pem,
)
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.records import AgentId
from veilleuse.wire.limits import AGENT_ID_BYTES

ROUNDS: Final = 10
"""Flights of a handshake, and some more."""


def try_out(brought: Brought, server_names: Sequence[str], now: datetime) -> None:
    """Raises UsageError when a machine and a collector of these names could not meet under it."""
    names = x509.SubjectAlternativeName(general_names(server_names))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Veilleuse collector")])
    with tempfile.TemporaryDirectory() as folder:
        roots = pem(brought.root).decode()
        collector = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        collector.verify_mode = ssl.CERT_REQUIRED
        collector.load_verify_locations(cadata=roots)
        agent = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        agent.load_verify_locations(cadata=roots)
        for context, form, usage, extensions in (
            (collector, subject, ExtendedKeyUsageOID.SERVER_AUTH, ((names, False),)),
            (
                agent,
                x509.Name([]),
                ExtendedKeyUsageOID.CLIENT_AUTH,
                agent_extensions(AgentId(bytes(AGENT_ID_BYTES)), 1),
            ),
        ):
            file = Path(folder) / "leaf.pem"  # of a key for this handshake alone
            file.write_bytes(_leaf(brought, form, usage, extensions, now))
            context.load_cert_chain(file)
        try:
            _shake_hands(collector, agent, server_names[0].replace("*", "collector"))
        except ssl.SSLError as error:
            why = getattr(error, "verify_message", "") or error.reason or str(error)
            raise UsageError(
                f"a trial handshake under '{brought.chain[0].subject.rfc4514_string()}' failed ({why}) for the names in "
                "pki.server_names: ask for an intermediate without such constraints, or correct pki.server_names"
            ) from error


def _leaf(
    brought: Brought,
    subject: x509.Name,
    usage: x509.ObjectIdentifier,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
    now: datetime,
) -> bytes:
    key = new_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - timedelta(minutes=5), brought.chain[0].not_valid_before_utc))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    leaf = issued_by(builder, brought.chain[0]).sign(brought.key, digest(brought.key))
    return key_pem(key) + pem(leaf) + b"".join(map(pem, brought.chain))


def _shake_hands(collector: ssl.SSLContext, agent: ssl.SSLContext, name: str) -> None:
    """Raises ssl.SSLError when either side does not believe the other."""
    to_agent, to_collector = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        agent.wrap_bio(to_agent, to_collector, server_hostname=name),
        collector.wrap_bio(to_collector, to_agent, server_side=True),
    ]
    for _ in range(ROUNDS):
        waiting = 0
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                waiting += 1
        if not waiting:
            return
    raise ssl.SSLError("the handshake does not end")
