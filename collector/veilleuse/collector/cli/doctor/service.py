# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Checks the running collector and its ports."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

from veilleuse.collector.cli.doctor.findings import Finding
from veilleuse.collector.errors import AdminError
from veilleuse.collector.ipc import CollectorNotRunning, ask
from veilleuse.collector.settings import CollectorSettings


def check_service(settings: CollectorSettings) -> Iterator[Finding]:
    """Check that `serve` runs and its ports answer, or that its ports are free."""
    try:
        health: dict[str, Any] | None = ask(settings.data_dir, "health")
    except CollectorNotRunning:
        health = None
        yield Finding(
            "service", "warning", "no collector runs on this data directory", "start 'veilleuse serve'"
        )
    except AdminError as error:
        yield Finding("service", "failed", str(error), "read the log of 'veilleuse serve'")
        return
    if health is not None:
        yield Finding("service", "good", f"version {health['version']} runs as pid {health['pid']}")
        errors = {kind: number for kind, number in health["store_errors"].items() if number}
        if errors:
            yield Finding(
                "service",
                "warning",
                f"the store had errors since the collector started: {errors}",
                "read the log of 'veilleuse serve'",
            )
    for name, address in (
        ("grpc.address", settings.grpc.address),
        ("grpc.enrolment_address", settings.grpc.enrolment_address),
        ("http.address", settings.http.address),
    ):
        answers = _is_answering(address)
        if answers == (health is not None):
            yield Finding("ports", "good", f"{name} {address} {'answers' if answers else 'is free'}")
        elif answers:
            yield Finding(
                "ports", "failed", f"{name} {address} is in use by another program", f"stop it, or set {name}"
            )
        else:
            yield Finding(
                "ports", "failed", f"{name} {address} does not answer", "read the log of 'veilleuse serve'"
            )


def _is_answering(address: str) -> bool:
    host, _, port = address.rpartition(":")
    host = {"": "localhost", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.strip("[]"), host.strip("[]"))
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True
