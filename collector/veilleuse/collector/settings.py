# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The collector's settings. TOML file < environment `VEILLEUSE__…` < flags. Read once, in the composition roots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from veilleuse.wire.settings_file import load, setting

ENVIRONMENT_PREFIX: Final = "VEILLEUSE"
DEFAULT_FILE: Final = Path("/etc/veilleuse/collector.toml")


@dataclass(frozen=True, slots=True)
class Grpc:
    """Where agents connect."""

    address: str = setting("127.0.0.1:8641", "host:port of the mTLS service (Hello, Push, Renew).")
    enrolment_address: str = setting("127.0.0.1:8642", "host:port of the enrolment service.")
    advertised_address: str = setting("", "host:port agents are told to use; empty = `grpc.address`.")
    advertised_enrolment_address: str = setting("", "host:port agents are told to enrol at; empty = `grpc.enrolment_address`.")
    workers: int = setting(8, "Threads that serve calls.", minimum=1, maximum=64)
    queue_pushes: int = setting(256, "Pushes waiting for the writer before agents are told to come back.", minimum=1, maximum=10000)
    tls_minimum: str = setting("1.3", "Lowest TLS version accepted.", choices=("1.2", "1.3"))


@dataclass(frozen=True, slots=True)
class Http:
    """Where people and Prometheus connect."""

    address: str = setting("127.0.0.1:8640", "host:port of the pages and /metrics.")
    metrics_token_file: str = setting("", "File with the bearer token /metrics asks for; required when not on loopback.")
    hosts_metrics: bool = setting(False, "Serve per-host series of servers on /metrics/hosts.")


@dataclass(frozen=True, slots=True)
class Pki:
    """The embedded certificate authority."""

    server_names: tuple[str, ...] = setting(
        ("localhost", "127.0.0.1", "::1"), "DNS names and IP addresses in the collector's own certificate."
    )
    server_leaf_hours: int = setting(24, "Life of a server's certificate.", minimum=1, maximum=24 * 30)
    pc_leaf_days: int = setting(7, "Life of a workstation's or classroom PC's certificate.", minimum=1, maximum=60)


@dataclass(frozen=True, slots=True)
class Store:
    """The database."""

    free_bytes_minimum: int = setting(
        256 * 1024 * 1024, "Free space under which no record is accepted any more.", minimum=0
    )
    free_ratio_minimum: float = setting(0.05, "The same as a share of the disk; the smaller of both counts.", minimum=0, maximum=0.5)


@dataclass(frozen=True, slots=True)
class Reporting:
    """How figures are cut."""

    time_zone: str = setting("Europe/Paris", "Civil dates of --from and --to.")
    zone: str = setting("FR", "Grid zone of sites that declare none.")
    k_anonymity: int = setting(10, "Fewest workstations or classroom PCs in a published cell.", minimum=10, maximum=1000)


@dataclass(frozen=True, slots=True)
class Log:
    """What the process says."""

    level: str = setting("info", "Least severe event logged.", choices=("debug", "info", "warning", "error"))


@dataclass(frozen=True, slots=True)
class CollectorSettings:
    """Everything."""

    data_dir: Path = setting(Path("/var/lib/veilleuse"), "Data directory; mode 0700.")
    grpc: Grpc = setting(Grpc(), "")
    http: Http = setting(Http(), "")
    pki: Pki = setting(Pki(), "")
    store: Store = setting(Store(), "")
    reporting: Reporting = setting(Reporting(), "")
    log: Log = setting(Log(), "")


def read_settings(
    file: Path | None, environment: Mapping[str, str], overrides: Mapping[str, str] | None = None
) -> CollectorSettings:
    """The settings. `file` None = DEFAULT_FILE when it exists. Raises ConfigurationError."""
    chosen = file if file is not None else (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    return load(CollectorSettings, file=chosen, environment=environment, prefix=ENVIRONMENT_PREFIX, overrides=overrides)
