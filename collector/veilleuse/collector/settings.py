# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the collector's settings.

TOML file < environment `VEILLEUSE__…` < flags. Read once, in the composition roots.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from veilleuse.wire.limits import (
    CPU_BUCKET_EDGES_PERCENT,
    IDLE_RUN_EDGES_MINUTES,
    MEMORY_BUCKET_EDGES_PERCENT,
    NETWORK_RATE_EDGES_BYTES_PER_SECOND,
)
from veilleuse.wire.settings_file import ConfigurationError, Section, describe, load, setting
from veilleuse.wire.values import (
    check_account_header,
    check_addresses,
    check_certificate_names,
    check_grid_zone,
    check_reused_purchases,
    check_series,
    check_time_zone,
    check_zone,
    parse_proxy,
    parse_reused_purchase,
    parse_url,
    split_address,
)

ENVIRONMENT_PREFIX: Final = "VEILLEUSE"
DEFAULT_FILE: Final = Path("/etc/veilleuse/collector.toml")
PROXY_SECRET_HEADER: Final = "X-Veilleuse-Proxy-Secret"
"""Header in which a reverse proxy shows the secret of `http.proxy_secret_file`."""
RETIRED: Final[Mapping[str, str]] = {}
"""Key of an earlier version → `since VERSION: why, and what to do`. Logged when the service starts; never an
error."""


class Grpc(Section):
    """Sets addresses and limits of the agents' services."""

    address: str = setting(
        "127.0.0.1:8641", "host:port of the mTLS service (Hello, Push, Renew).", check=split_address
    )
    enrolment_address: str = setting(
        "127.0.0.1:8642", "host:port of the enrolment service.", check=split_address
    )
    advertised_address: str = setting(
        "",
        "host:port that agents connect to; several, comma separated, are tried in order. Empty = "
        "`grpc.address`.",
        check=check_addresses,
    )
    advertised_enrolment_address: str = setting(
        "",
        "host:port that agents enrol at; several, comma separated, are tried in order. Empty = "
        "`grpc.enrolment_address`.",
        check=check_addresses,
    )
    workers: int = setting(
        64,
        "Threads that serve calls: at most seven in eight serve Push. Extra threads serve Hello (half as "
        "many) and renewals (two). Each waits for the commit of its call.",
        minimum=2,
        maximum=256,
    )
    queue_pushes: int = setting(
        56,
        "Maximum pushes served at once, and so in one commit; at most seven in eight of `grpc.workers`. Others "
        "wait in a queue for 2.5 s, then are asked to come back later.",
        minimum=1,
        maximum=224,
    )
    tls_minimum: str = setting("1.3", "Lowest TLS version accepted.", choices=("1.2", "1.3"))

    @property
    def admitted_pushes(self) -> int:
        """Return `queue_pushes`, limited to seven in eight of `workers`. ≥ 1."""
        return min(self.queue_pushes, self._most_pushes)

    @property
    def _most_pushes(self) -> int:
        return max(1, self.workers * 7 // 8)

    def check_pushes(self) -> None:
        """Raise ConfigurationError for more pushes than workers can serve.

        The default is never too many: it counts as what the workers can serve.
        """
        if self.queue_pushes != Grpc().queue_pushes and self.queue_pushes > self._most_pushes:
            raise ConfigurationError(
                f"grpc.queue_pushes is {self.queue_pushes}, and grpc.workers {self.workers} serve "
                f"{self._most_pushes} at most: lower the one, or raise the other"
            )


class Http(Section):
    """Sets address and limits of the pages, the API and /metrics."""

    address: str = setting("127.0.0.1:8640", "host:port of the pages and /metrics.", check=split_address)
    metrics_token_file: str = setting(
        "",
        "File, mode 0640 or 0600, with the bearer token that /metrics requires; required when not on loopback.",
    )
    proxy_secret_file: str = setting(
        "",
        f"File, mode 0600, with the secret that a reverse proxy shows in the header {PROXY_SECRET_HEADER} of every "
        "request, so that its connections have no bound. It needs http.metrics_token_file.",
    )
    account_header: str = setting(
        "",
        "Header in which a reverse proxy that signs people in names their account, e.g. X-Veilleuse-Account. "
        "Pages then know readers by it alone. It needs http.proxy_secret_file, and counts beside that secret only.",
        check=check_account_header,
    )
    hosts_metrics: bool = setting(False, "Serve per-host series of servers on /metrics/hosts.")
    api_requests_per_minute: int = setting(
        120, "Maximum requests of an account to /api/v1 in a minute.", minimum=1, maximum=60_000
    )
    api_answer_seconds: float = setting(
        20.0, "Maximum duration of one query over /api/v1, in seconds.", minimum=1, maximum=50
    )


class Pki(Section):
    """Sets up the embedded certificate authority."""

    server_names: tuple[str, ...] = setting(
        ("localhost", "127.0.0.1", "::1"),
        "DNS names and IP addresses in the collector's own certificate.",
        check=check_certificate_names,
    )
    server_leaf_hours: int = setting(
        24, "Lifetime of a server's certificate, in hours.", minimum=1, maximum=24 * 30
    )
    pc_leaf_days: int = setting(
        7, "Lifetime of a workstation's or classroom PC's certificate, in days.", minimum=1, maximum=60
    )
    register_file: str = setting(
        "",
        "File that keeps enrolments, revocations and forgotten machines across a restore. No backup contains it: "
        "put it on another disk. Empty = `register.jsonl` in the data directory.",
    )


class Store(Section):
    """Sets the free space that the database leaves."""

    free_bytes_minimum: int = setting(
        256 * 1024 * 1024,
        "Minimum free space, in bytes; below it, records are no longer accepted.",
        minimum=0,
    )
    free_ratio_minimum: float = setting(
        0.05,
        "Minimum free space as a share of the disk; the smaller of both limits counts.",
        minimum=0,
        maximum=0.5,
    )


class RetentionSettings(Section):
    """Sets how long rows of machines are kept.

    PC: workstation or classroom PC. Older rows are deleted every day.
    """

    pc_daily_days: int = setting(
        62,
        "Age limit of a PC's days and weeks, of their records, and of a classroom PC's hours. They are deleted once "
        "their month is stored. Below 59, the 8 weeks of history that fill gaps are incomplete.",
        minimum=35,
        maximum=62,
    )
    pc_monthly_months: int = setting(
        18,
        "Age limit of a PC's months; they are deleted earlier when their year is closed definitively.",
        minimum=13,
        maximum=18,
    )
    server_records_months: int = setting(
        13,
        "Age limit of a server's records and hours, and of readings of shared meters.",
        minimum=1,
        maximum=13,
    )
    server_daily_months: int = setting(36, "Age limit of a server's days and months.", minimum=13, maximum=36)


class Backup(Section):
    """Sets up backups of the data directory: `veilleuse backup`, `veilleuse restore`."""

    key_file: str = setting(
        "",
        "File with the key that encrypts and decrypts backups, created by `veilleuse backup --new-key`; keep a copy "
        "on another machine. Empty = backups are not encrypted.",
    )


class ReportingSettings(Section):
    """Sets how figures are grouped and published."""

    time_zone: str = setting(
        "Europe/Paris",
        "Time zone of the civil day of the pages and /metrics, and of sites that declare none; reports use each "
        "site's own.",
        check=check_time_zone,
    )
    zone: str = setting("FR", "Grid zone of sites that declare none.", check=check_zone)
    k_anonymity: int = setting(
        10,
        "Minimum number of workstations or classroom PCs in a published cell. A change counts for months that "
        "are published from then on.",
        minimum=10,
        maximum=1000,
    )
    random_roll_out: bool = setting(
        False,
        "True = agents were installed on machines drawn at random within class and entity, and a responsible person "
        "vouches for it. Reports then state that the sample is demonstrated to be representative, with 95 % "
        "intervals, unless model and age contradict it.",
    )


class ClosingSettings(Section):
    """Sets when a year may be closed definitively: `veilleuse close`."""

    coverage_minimum_ratio: float = setting(
        0.3,
        "Minimum share of machine time with a known state, and with derived energy, for classes that agents run on; "
        "below 0.3 the pedigree's completeness scores 2.",
        minimum=0,
        maximum=1,
    )


class Derive(Section):
    """Sets how energy is derived where it is not measured."""

    laptop_plugged_share: float = setting(
        0.5, "Share of its off and asleep time that a laptop is on its charger.", minimum=0, maximum=1
    )


def _edge_check(edges: tuple[int, ...]) -> Callable[[int], None]:
    """Return a check that a value is one of the bucket edges of agents."""

    def check(value: int) -> None:
        if value not in edges:
            raise ValueError(
                f"it must be one of {', '.join(map(str, edges))}, the edges of what agents count"
            )

    return check


class Indicators(Section):
    """Sets targets and tests of the sobriety indicators: docs/methodology.md §12."""

    out_of_hours_target_ratio: float = setting(
        0.05,
        "I1: maximum share of the closed hours during which a machine should be on.",
        minimum=0,
        maximum=1,
    )
    display_off_minutes: int = setting(
        15, "I3: maximum minutes until a display on mains goes off; ENERGY STAR.", minimum=1, maximum=240
    )
    sleep_minutes: int = setting(
        30,
        "I3: maximum minutes until a PC on mains sleeps; ENERGY STAR. I4: idle time beyond it is avoidable.",
        check=_edge_check(IDLE_RUN_EDGES_MINUTES),
    )
    comatose_cpu_percent: int = setting(
        5,
        "I6: CPU load in percent; a comatose server is below it for 95 % of its time on.",
        check=_edge_check(CPU_BUCKET_EDGES_PERCENT),
    )
    comatose_network_bytes_per_second: int = setting(
        1_000,
        "I6: network traffic of others; a comatose server is below it for 95 % of its time on.",
        check=_edge_check(NETWORK_RATE_EDGES_BYTES_PER_SECOND),
    )
    underused_mean_cpu_ratio: float = setting(
        0.10, "I7: mean CPU below which a server is under-used.", minimum=0, maximum=1
    )
    underused_cpu_percent: int = setting(
        30,
        "I7: CPU load in percent; an under-used server is below it for 95 % of its time on.",
        check=_edge_check(CPU_BUCKET_EDGES_PERCENT),
    )
    oversized_cpu_percent: int = setting(
        20,
        "I8: CPU load in percent; an oversized server is below it for 95 % of its time on.",
        check=_edge_check(CPU_BUCKET_EDGES_PERCENT),
    )
    oversized_memory_percent: int = setting(
        40,
        "I8: memory in use in percent; an oversized server is below it for 95 % of its time on.",
        check=_edge_check(MEMORY_BUCKET_EDGES_PERCENT),
    )
    oversized_core_ratio: float = setting(
        0.01, "I8: maximum share of its time on with a core at 80 % or more.", minimum=0, maximum=1
    )
    server_observed_ratio: float = setting(
        0.9,
        "I6 to I8: minimum share of the days observed, and of the time on measured, for a server to be judged.",
        minimum=0.5,
        maximum=1,
    )
    lifetime_years: float = setting(8.0, "I9: age that equipment should reach.", minimum=0, maximum=50)
    reused_purchases_targets: tuple[str, ...] = setting(
        (),
        "I10: minimum reused share of the euros of a legal category, from a year on: CATEGORY@YEAR=SHARE, e.g. laptops@2027=0.25; "
        "empty = no target.",
        check=check_reused_purchases,
    )
    reused_retirements_ratio: float = setting(
        0.5,
        "I11: minimum share of retired equipment to be reused; 0.5 from 2025, décret 2023-266.",
        minimum=0,
        maximum=1,
    )

    @property
    def reused_purchases(self) -> tuple[tuple[str, int, float], ...]:
        """Return (category, first year, share)."""
        return tuple(parse_reused_purchase(target) for target in self.reused_purchases_targets)


class IntensitySettings(Section):
    """Sets up polls of grid intensities, for the indicative ledger.

    No server is called unless a connector is on.
    """

    odre: bool = setting(
        False, "Poll ODRÉ, the open data of France's networks (RTE's éCO2mix); no account is needed."
    )
    odre_url: str = setting(
        "https://odre.opendatasoft.com",
        "Address of ODRÉ; https, or http on this machine.",
        check=parse_url,
    )
    odre_calls_per_month: int = setting(
        40_000,
        "Maximum calls of ODRÉ in a month; its own quota is 50,000.",
        minimum=100,
        maximum=50_000,
    )
    electricity_maps_token_file: str = setting(
        "", "File with the token of Electricity Maps, mode 0600; empty = it is not polled."
    )
    electricity_maps_url: str = setting(
        "https://api.electricitymaps.com", "Address of Electricity Maps.", check=parse_url
    )
    electricity_maps_zone: str = setting("FR", "Zone to ask Electricity Maps for.", check=check_grid_zone)
    electricity_maps_calls_per_month: int = setting(
        10_000, "Maximum calls of Electricity Maps in a month.", minimum=100
    )
    poll_minutes: int = setting(60, "Minutes between two polls, ± 10 %.", minimum=15, maximum=1_440)
    backfill_days: int = setting(
        30, "Number of past days that the first poll of a series asks for.", minimum=1, maximum=400
    )
    proxy: str = setting(
        "", "HTTP proxy, e.g. http://proxy.example.org:3128; empty = none.", check=parse_proxy
    )
    ca_file: str = setting("", "PEM file of the CAs to trust instead of the system's; empty = the system's.")
    timeout_seconds: float = setting(
        20.0, "Maximum duration of one call, in seconds.", minimum=1, maximum=300
    )
    series: str = setting(
        "odre_consumption",
        "The one series that the indicative ledger is computed with; `veilleuse intensity show` lists all series.",
        check=check_series,
    )

    @property
    def polled(self) -> bool:
        """Tell if any connector is on."""
        return self.odre or bool(self.electricity_maps_token_file)


class OtlpSettings(Section):
    """Sends what /metrics shows to an OTLP endpoint: an OpenTelemetry Collector, VictoriaMetrics, Mimir …

    Off unless an endpoint is set.
    """

    endpoint: str = setting(
        "",
        "URL that takes OTLP metrics over HTTP, e.g. https://otel.example.org/v1/metrics; https, or http on this "
        "machine. Empty = nothing is sent.",
        check=parse_url,
    )
    headers_file: str = setting(
        "",
        "File of HTTP headers, `Name: value` a line, mode 0600, e.g. Authorization: Bearer …; empty = none.",
    )
    instance: str = setting(
        "",
        "Resource attribute service.instance.id, which tells collectors apart; empty = this machine's name.",
    )
    interval_seconds: int = setting(60, "Seconds between two sendings.", minimum=1, maximum=3_600)
    proxy: str = setting(
        "", "HTTP proxy, e.g. http://proxy.example.org:3128; empty = none.", check=parse_proxy
    )
    ca_file: str = setting("", "PEM file of the CAs to trust instead of the system's; empty = the system's.")
    timeout_seconds: float = setting(
        10.0, "Maximum duration of one sending, in seconds.", minimum=1, maximum=60
    )


class Log(Section):
    """Sets the log level."""

    level: str = setting("info", "Least severe event logged.", choices=("debug", "info", "warning", "error"))


class CollectorSettings(Section):
    """Holds all settings of the collector."""

    data_dir: Path = setting(Path("/var/lib/veilleuse"), "Data directory; mode 0700.")
    grpc: Grpc = setting(Grpc(), "")
    http: Http = setting(Http(), "")
    pki: Pki = setting(Pki(), "")
    store: Store = setting(Store(), "")
    retention: RetentionSettings = setting(RetentionSettings(), "")
    backup: Backup = setting(Backup(), "")
    reporting: ReportingSettings = setting(ReportingSettings(), "")
    closing: ClosingSettings = setting(ClosingSettings(), "")
    derive: Derive = setting(Derive(), "")
    indicators: Indicators = setting(Indicators(), "")
    intensity: IntensitySettings = setting(IntensitySettings(), "")
    otlp: OtlpSettings = setting(OtlpSettings(), "")
    log: Log = setting(Log(), "")


def read_settings(
    file: Path | None,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, str] | None = None,
    tell: Callable[[str], object] | None = None,
) -> CollectorSettings:
    """Return the settings. Raises ConfigurationError.

    `file` None = DEFAULT_FILE when it exists; `environment` None = the process's. `tell` is called with one
    line for each key that is no longer used.
    """
    settings = load(
        CollectorSettings,
        file=file or (DEFAULT_FILE if DEFAULT_FILE.exists() else None),
        environment=os.environ if environment is None else environment,
        prefix=ENVIRONMENT_PREFIX,
        overrides=overrides,
        retired=RETIRED,
        tell=tell,
        is_typed=True,
    )
    settings.grpc.check_pushes()
    return settings


def child_environment(settings: CollectorSettings) -> dict[str, str]:
    """Return this process's environment with every setting, so that a child reads the same settings."""
    return {**os.environ, **settings_environment(settings)}


def settings_environment(settings: CollectorSettings) -> dict[str, str]:
    """Return every setting in the form that `read_settings` reads from the environment."""
    values: dict[str, str] = {}
    for described in describe(CollectorSettings):
        value: object = settings
        for name in described.dotted.split("."):
            value = getattr(value, name)
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        values[f"{ENVIRONMENT_PREFIX}__{described.dotted.upper().replace('.', '__')}"] = text
    return values


def is_french() -> bool:
    """Tell if the locale of this process is French for messages."""
    from veilleuse.wire.translations import is_french  # late: only commands translate

    return is_french(os.environ)


def notify_socket() -> str:
    """Return the address of systemd's socket for state messages: sd_notify(3).

    Empty when systemd did not start us.
    """
    return os.environ.get("NOTIFY_SOCKET", "")
