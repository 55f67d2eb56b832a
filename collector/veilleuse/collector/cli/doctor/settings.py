# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Checks what the settings name: files of tokens, keys and certificates, the grid zone, the OTLP endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from veilleuse.collector import clock
from veilleuse.collector.backup.encryption import read_key_file
from veilleuse.collector.cli.doctor.findings import Finding
from veilleuse.collector.enrolment.register import register_file
from veilleuse.collector.errors import CollectorError, ConfigurationError
from veilleuse.collector.factors.book import KnownFactors
from veilleuse.collector.grid.poll import check_route
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader
from veilleuse.collector.web.access import read_metrics_auth
from veilleuse.collector.web.metrics.otlp import OtlpEndpoint


def check_settings(settings: CollectorSettings) -> Iterator[Finding]:
    """Check that each file that a setting names can be used, as the service does when it needs it."""
    grid = settings.intensity

    uses: list[tuple[bool, str, Callable[[], object]]] = [
        (True, "[http]", lambda: read_metrics_auth(settings.http)),
        (
            bool(settings.backup.key_file),
            "backup.key_file",
            lambda: read_key_file(Path(settings.backup.key_file)),
        ),
        (
            bool(settings.pki.register_file),
            "pki.register_file",
            lambda: register_file(settings.data_dir, settings.pki.register_file),
        ),
        (grid.polled or bool(grid.ca_file), "intensity.ca_file", lambda: check_route(grid)),
    ]
    wrong = False
    for is_used, name, use in uses:
        try:
            if is_used:
                use()
        except (CollectorError, ConfigurationError) as error:
            wrong = True
            yield Finding("settings", "failed", f"{name} cannot be used: {error}")
    if not wrong:
        yield Finding("settings", "good", "the files that the settings name can be used")


def check_zone(settings: CollectorSettings) -> Iterator[Finding]:
    """Check that the grid zone of sites that declare none has a factor."""
    with open_reader(settings.data_dir) as store:
        KnownFactors(store.factors.versions).book().require_zone(settings.reporting.zone)
    yield Finding("zone", "good", f"reporting.zone {settings.reporting.zone} has an electricity factor")


def check_otlp(settings: CollectorSettings) -> Iterator[Finding]:
    """Send an empty request, where an endpoint is set: address, certificate, token and answer are checked."""
    endpoint = settings.otlp.endpoint
    if not endpoint:
        return
    try:
        OtlpEndpoint(settings.otlp).send((), clock.unix_seconds())
    except (CollectorError, ConfigurationError) as error:
        yield Finding("otlp", "warning", f"metrics are not sent: {error}", "look at [otlp] of the settings")
    else:
        yield Finding("otlp", "good", f"{endpoint} takes metrics")
