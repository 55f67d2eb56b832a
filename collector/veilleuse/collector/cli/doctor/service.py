# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The running collector and its ports."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

from veilleuse.collector.cli.doctor.findings import Finding
from veilleuse.collector.errors import AdminError
from veilleuse.collector.ipc.unix_socket import CollectorNotRunning, ask
from veilleuse.collector.settings import CollectorSettings


def check_service(settings: CollectorSettings) -> Iterator[Finding]:
    """Whether `serve` runs, and whether its ports answer or are free."""
    try:
        health: dict[str, Any] | None = ask(settings.data_dir, "health")
    except CollectorNotRunning:
        health = None
        yield Finding(
            "service", "warning", "no collector runs on this data directory", "start 'veilleuse serve'"
        )
    except AdminError as error:
        yield Finding("service", "failed", str(error), "look at the log of 'veilleuse serve'")
        return
    if health is not None:
        yield Finding("service", "good", f"version {health['version']} runs as pid {health['pid']}")
        errors = {kind: number for kind, number in health["store_errors"].items() if number}
        if errors:
            yield Finding(
                "service", "warning", f"the store has failed since it started: {errors}", "look at its log"
            )
    for name, address in (
        ("grpc.address", settings.grpc.address),
        ("grpc.enrolment_address", settings.grpc.enrolment_address),
        ("http.address", settings.http.address),
    ):
        answers = _answers(address)
        if answers == (health is not None):
            yield Finding("ports", "good", f"{name} {address} {'answers' if answers else 'is free'}")
        elif answers:
            yield Finding(
                "ports", "failed", f"{name} {address} is in use by another program", f"stop it, or set {name}"
            )
        else:
            yield Finding(
                "ports", "failed", f"{name} {address} does not answer", "look at the log of 'veilleuse serve'"
            )


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    host = {"": "localhost", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.strip("[]"), host.strip("[]"))
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True
