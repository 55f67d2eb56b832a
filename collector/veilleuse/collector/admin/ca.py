# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Shows the certificate authority and runs the steps of a rotation. Decision 0012."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from veilleuse.collector.admin.context import AdminContext
from veilleuse.collector.enrolment import ca_rotation
from veilleuse.collector.enrolment.ca_files import CaKeys, Phase, fingerprint
from veilleuse.collector.enrolment.ca_rotation import Step
from veilleuse.collector.enrolment.external_ca import read_external_ca, try_handshake
from veilleuse.collector.enrolment.issuing import EXPIRED_LIMIT, unix_milliseconds
from veilleuse.collector.enrolment.root_key import root_key_files
from veilleuse.collector.errors import AdminError
from veilleuse.collector.model.hosts import CertificateDates
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RotationProgress:
    """Progress of a rotation among active machines, by the certificates that they used."""

    hosts: int
    """Active machines that can still renew: their last certificate did not end over 400 days ago."""
    hosts_without_new_root: int
    """Those of `hosts` that may know only the old root: they used no certificate that came with both."""
    hosts_with_old_intermediate: int
    """Those of the others with a valid certificate of the old intermediate."""


def show(context: AdminContext) -> dict[str, Any]:
    """Return phase, machines and every certificate: role, subject, sha256, key, begin and end in Unix ms."""
    issuing = context.issuing
    held, server = issuing.authority.keys, issuing.authority.server_identity()
    leaf = x509.load_pem_x509_certificates(server.chain_pem)[0]
    rows = [*_roles(held), ("server", leaf)]
    return {
        "phase": held.phase.value,
        "ca_sha256": issuing.authority.root_sha256,
        "cross_certificate": held.cross is not None,
        "root_key_files": [str(path) for path in root_key_files(context.settings.data_dir)],
        "began_unix_milliseconds": held.began_unix_milliseconds,
        "switched_unix_milliseconds": held.switched_unix_milliseconds,
        **asdict(measure_progress(context)),
        "certificates": [_describe(role, certificate) for role, certificate in rows],
    }


def rotate(context: AdminContext, *, root_key_pem: str | None = None, cross: bool = True) -> dict[str, Any]:
    """Begin a rotation: agents get the next root beside the present one."""
    return _run_step(context, "rotate", ca_rotation.rotate(_bytes(root_key_pem), cross=cross))


def renew_intermediate(context: AdminContext, *, root_key_pem: str | None = None) -> dict[str, Any]:
    """Make a new intermediate under the present root."""
    return _run_step(context, "renew_intermediate", ca_rotation.renew_intermediate(_bytes(root_key_pem)))


def import_intermediate(
    context: AdminContext,
    *,
    certificate_pem: str,
    key_pem: str,
    root_pem: str,
    root_key_pem: str | None = None,
    cross: bool = True,
) -> dict[str, Any]:
    """Import an organisation's own intermediate; a root other than the present one begins a rotation."""
    now = context.issuing.authority.now
    brought = read_external_ca(certificate_pem.encode(), key_pem.encode(), root_pem.encode(), now)
    try_handshake(brought, context.settings.pki.server_names, now)
    return _run_step(
        context, "import", ca_rotation.import_intermediate(brought, _bytes(root_key_pem), cross=cross)
    )


def switch(context: AdminContext, *, force: bool = False) -> dict[str, Any]:
    """Issue under the next intermediate.

    Raises AdminError without a cross certificate while machines do not have the new root.
    """
    held = context.issuing.authority.keys
    if held.phase is Phase.OVERLAP and held.cross is None and not force:
        missing = measure_progress(context).hosts_without_new_root
        if missing:
            raise AdminError(
                f"{missing} machine(s) do not have the new root yet and, without a cross certificate, would "
                "never trust this collector again: wait for them, or use --force"
            )
    return _run_step(context, "switch", ca_rotation.switch)


def retire(context: AdminContext, *, force: bool = False) -> dict[str, Any]:
    """Stop trusting the old root.

    Raises AdminError while machines would lose their access, for good or for a while.
    """
    if context.issuing.authority.keys.phase is Phase.SWITCHED and not force:
        found = measure_progress(context)
        if found.hosts_without_new_root or found.hosts_with_old_intermediate:
            raise AdminError(
                f"{found.hosts_without_new_root} machine(s) do not have the new root yet and would have to "
                f"enrol again, and {found.hosts_with_old_intermediate} would be refused until they notice "
                "and renew: wait for them ('veilleuse ca show'), or use --force"
            )
    return _run_step(context, "retire", ca_rotation.retire)


def cancel(context: AdminContext) -> dict[str, Any]:
    """Cancel a rotation before its switch."""
    return _run_step(context, "cancel", ca_rotation.cancel)


def forget(context: AdminContext, *, sha256: str) -> dict[str, Any]:
    """Reject the certificates of an earlier intermediate."""
    return _run_step(context, "forget", ca_rotation.forget(sha256))


def measure_progress(context: AdminContext) -> RotationProgress:
    """Count the active machines that have the new certificates. A job of the writer reads the issued ones."""
    issuing = context.issuing
    held, now = issuing.authority.keys, unix_milliseconds(issuing.authority.now)
    limit = now - round(EXPIRED_LIMIT.total_seconds()) * MILLISECONDS_PER_SECOND
    began, switched = held.began_unix_milliseconds, held.switched_unix_milliseconds
    dates = issuing.commit(lambda: list(issuing.registry.certificate_dates()))
    hosts = without = behind = 0
    for agent_id, kept in groupby(dates, key=lambda each: each.agent_id):
        given = list(kept)
        if max(each.not_after_unix_milliseconds for each in given) < limit:
            continue
        hosts += 1
        standing = issuing.access_table.get(agent_id)
        shown = _newest_used(given, standing.used if standing is not None else 0)
        if began is not None and (shown is None or shown.issued_unix_milliseconds < began):
            without += 1
        elif switched is not None and shown is not None and shown.issued_unix_milliseconds < switched:
            behind += shown.not_after_unix_milliseconds > now
    return RotationProgress(hosts, without, behind)


def _newest_used(given: list[CertificateDates], used: int) -> CertificateDates | None:
    """Return the newest certificate that a call used: the answer with a later one may have been lost.

    The first certificate counts as used.
    """
    return next((each for each in given if each.generation <= max(used, 1)), None)


def _run_step(context: AdminContext, word: str, step: Step) -> dict[str, Any]:
    authority = context.issuing.authority
    authority.change(step)
    authority.server_identity()  # now, so that the operator gets the error of a full disk
    log.info("certificate authority changed", extra={"step": word, "phase": authority.keys.phase.value})
    return show(context)


def _roles(held: CaKeys) -> Iterator[tuple[str, x509.Certificate]]:
    yield "root", held.current.root
    yield from (("intermediate", each) for each in held.current.chain)
    if held.coming is not None:
        yield "next_root", held.coming.root
        yield from (("next_intermediate", each) for each in held.coming.chain)
    if held.old_root is not None:
        yield "old_root", held.old_root
    if held.cross is not None:
        yield "cross", held.cross
    yield from (("previous_intermediate", kept.chain[0]) for kept in held.previous)


def _describe(role: str, certificate: x509.Certificate) -> dict[str, Any]:
    return {
        "role": role,
        "subject": certificate.subject.rfc4514_string(),
        "sha256": fingerprint(certificate),
        "key": _key_words(certificate.public_key()),
        "not_before_unix_milliseconds": unix_milliseconds(certificate.not_valid_before_utc),
        "not_after_unix_milliseconds": unix_milliseconds(certificate.not_valid_after_utc),
    }


def _key_words(key: object) -> str:
    if isinstance(key, ec.EllipticCurvePublicKey):
        return {"secp256r1": "P-256", "secp384r1": "P-384"}.get(key.curve.name, key.curve.name)
    return f"RSA {key.key_size}" if isinstance(key, rsa.RSAPublicKey) else "other"


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
