# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Checks that the OTLP endpoint takes metrics."""

from __future__ import annotations

from collections.abc import Iterator

from veilleuse.collector import clock
from veilleuse.collector.cli.doctor.findings import Finding
from veilleuse.collector.errors import CollectorError
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.web.metrics.otlp import OtlpEndpoint


def check_otlp(settings: CollectorSettings) -> Iterator[Finding]:
    """Send an empty request, where an endpoint is set: address, certificate, token and answer are checked."""
    endpoint = settings.otlp.endpoint
    if not endpoint:
        return
    try:
        OtlpEndpoint(settings.otlp).send((), clock.unix_seconds())
    except CollectorError as error:
        yield Finding("otlp", "warning", f"metrics are not sent: {error}", "look at [otlp] of the settings")
    else:
        yield Finding("otlp", "good", f"{endpoint} takes metrics")
