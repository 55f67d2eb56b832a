# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Checks the certificates of the authority, of the collector and of the machines."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509

from veilleuse.collector import clock
from veilleuse.collector.cli.doctor.findings import Finding, outcome_of
from veilleuse.collector.enrolment.ca_files import MOST_BYTES, Phase
from veilleuse.collector.enrolment.root_key import FOLDER, root_key_files
from veilleuse.collector.ipc import CollectorNotRunning, ask
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader
from veilleuse.wire.files import read_owned
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

_CERTIFICATES: Final = (
    ("root", "root.pem", "'veilleuse ca rotate' begins a rotation: docs/operations.md"),
    ("intermediate", "intermediate.pem", "'veilleuse ca renew-intermediate', with the off-line root key"),
    ("server", "server.pem", "restart the collector: it makes a new one"),
)
RENEWABLE: Final = timedelta(days=400)
"""Longest time after its end that a certificate can still be renewed: docs/wire.md §6."""
ROTATION_SECONDS: Final = 60.0
"""Longest wait for `ca_show`: it reads the certificates of every machine."""
_LATE_SHARE: Final = 1 / 6
"""A certificate is late with less than this share of its life left: agents renew at two thirds of it."""
_MANY_SHARE: Final = 0.1
"""Largest share of machines with ended certificates that machines that are off can explain."""


def check_certificates(settings: CollectorSettings) -> Iterator[Finding]:
    """Check when the certificates of the authority and the collector end, and that no root key is here."""
    folder, now = settings.data_dir / FOLDER, clock.now()
    for name, file, remedy in _CERTIFICATES:
        if name == "server" and not (folder / file).exists():
            continue  # the first start of the collector makes it
        try:
            end = x509.load_pem_x509_certificate(read_owned(folder / file, MOST_BYTES)).not_valid_after_utc
        except (ValueError, FileNotFoundError) as error:
            what = "is damaged" if isinstance(error, ValueError) else "is missing"
            yield Finding("certificates", "failed", f"{folder / file} {what}", "restore it from a backup")
            continue
        text = f"{name} ends on {end:%Y-%m-%d}"
        outcome = outcome_of(f"{name}_certificate", (end - now).total_seconds())
        yield Finding("certificates", outcome, text, "" if outcome == "good" else remedy)
    for path in root_key_files(settings.data_dir):
        remedy = "move it off-line: the collector never needs it"
        yield Finding("certificates", "warning", f"the key of a root is still in {path}", remedy)


def check_rotation(settings: CollectorSettings) -> Iterator[Finding]:
    """Report the state of a rotation of the authority, and for how many machines it waits."""
    try:
        shown = ask(settings.data_dir, "ca_show", timeout_seconds=ROTATION_SECONDS)
    except CollectorNotRunning:
        return
    if shown["phase"] == Phase.STEADY.value:
        yield Finding("rotation", "good", "no rotation of the authority is under way")
        return
    began = shown["began_unix_milliseconds"]
    since = f" since {datetime.fromtimestamp(began / MILLISECONDS_PER_SECOND, UTC):%Y-%m-%d}" if began else ""
    text = (
        f"a rotation of the authority is under way{since} ({shown['phase']}); of {shown['hosts']} "
        f"machine(s), {shown['hosts_without_new_root']} do not have the new root yet"
    )
    yield Finding("rotation", "good", text, "'veilleuse ca show' says what comes next")


def check_renewals(settings: CollectorSettings) -> Iterator[Finding]:
    """Count machines that did not renew in time: they are off, or something prevents the renewal."""
    with open_reader(settings.data_dir) as store:
        certificates = store.data.latest_certificates()
    now = clock.unix_milliseconds()
    ended = late = lost = 0
    for certificate in certificates:
        end = certificate.not_after_unix_milliseconds
        if end <= now - RENEWABLE.total_seconds() * MILLISECONDS_PER_SECOND:
            lost += 1
        elif end <= now:
            ended += 1
        elif end - now < _LATE_SHARE * (end - certificate.issued_unix_milliseconds):
            late += 1
    text = (
        f"of {len(certificates)} active machine(s), {ended} ended without renewal, {late} should have "
        "renewed by now"
    )
    if ended > _MANY_SHARE * len(certificates):
        remedy = "machines that were off renew at their next contact; read the log of one that is on"
        yield Finding("renewals", "warning", text, remedy)
    else:
        yield Finding("renewals", "good", text)
    if lost:
        yield Finding(
            "renewals",
            "warning",
            f"{lost} machine(s) cannot renew any more: their certificate ended more than {RENEWABLE.days} "
            "days ago",
            "enrol them again with a new token, or revoke them",
        )
