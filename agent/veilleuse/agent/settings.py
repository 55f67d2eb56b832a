# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Settings of the agent: TOML file < environment `VEILLEUSE_AGENT__…` < flags.

Read once, in composition roots.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Final

from veilleuse.agent.platforms import here
from veilleuse.wire.files import read_with_status
from veilleuse.wire.limits import HOUR_MILLISECONDS
from veilleuse.wire.settings_file import Section, load, setting
from veilleuse.wire.units import (
    MILLISECONDS_PER_DAY,
    MILLISECONDS_PER_MINUTE,
    MILLISECONDS_PER_SECOND,
    UNIX_EPOCH_DAY,
)
from veilleuse.wire.values import MAX_ADDRESSES, check_addresses, check_reachable, parse_day, split_addresses
from veilleuse.wire.vocabulary import Population

ENVIRONMENT_PREFIX: Final = "VEILLEUSE_AGENT"
DEFAULT_FILE: Final = here.CONFIGURATION
RETIRED: Final[Mapping[str, str]] = {}
"""Key of an earlier version → `since VERSION: why, and what to do`.

Told when the service starts; never an error.
"""
DIRECT: Final = "direct"
"""Word of `collector.proxy` for a connection without a proxy."""
JOIN_FILE: Final = "join.json"
"""File name inside `paths.state`."""
MAX_JOIN_FILE_BYTES: Final = 64 * 1024
CONTACT_SECONDS: Final = {Population.WORKSTATION: 86_400, Population.CLASSROOM: 3_600, Population.SERVER: 900}
"""Source: docs/privacy.md §1."""
_PERIOD_SECONDS: Final = {Population.WORKSTATION: 3_600, Population.CLASSROOM: 3_600, Population.SERVER: 300}
_SHORTEST_PERIOD_SECONDS: Final = 10
_SHA256_DIGITS: Final = 64
_FIRST_DAY: Final = date(2024, 1, 1).toordinal()
"""First plausible day, as state.EARLIEST_UNIX_MILLISECONDS.

Before it the clock is not set yet, and it is not known whether a day is over.
"""
_PRIVACY: Final = (Population.WORKSTATION, Population.CLASSROOM, Population.SERVER)
"""Ordered from the most private."""


def split_proxies(text: str) -> list[str]:
    """Return host:port of each proxy of `collector.proxy`, in order; an empty text means without a proxy.

    Raises ValueError that states the right form.
    """
    proxies = []
    for one in split_addresses(text) or [DIRECT]:
        scheme, slashes, address = one.removesuffix("/").partition("://")
        if one == DIRECT:
            address = ""
        elif scheme != "http" or not slashes:
            raise ValueError(f"it must be http://host:port or {DIRECT}; no other kind of proxy is known")
        elif "@" in address:
            raise ValueError("the user and the password go into the file of collector.proxy_credentials_file")
        else:
            check_reachable(address)
        proxies.append(address)
    if len(proxies) > MAX_ADDRESSES:
        raise ValueError(f"it must be {MAX_ADDRESSES} at most")
    return proxies


def normalise_fingerprint(text: str) -> str:
    """Normalise a SHA-256 as people write it (upper case, colons, spaces) for comparison."""
    return "".join(letter for letter in text if letter != ":" and not letter.isspace()).lower()


def _check_fingerprints(text: str) -> None:
    for one in text.split(","):
        found = normalise_fingerprint(one)
        if found and (len(found) != _SHA256_DIGITS or set(found) - set("0123456789abcdef")):
            raise ValueError(
                f"a SHA-256 has {_SHA256_DIGITS} hexadecimal digits; several, separated by commas"
            )


def _check_period(seconds: int) -> None:
    if seconds < _SHORTEST_PERIOD_SECONDS or HOUR_MILLISECONDS % (seconds * MILLISECONDS_PER_SECOND):
        raise ValueError(f"use a divisor of 3600 from {_SHORTEST_PERIOD_SECONDS} up, e.g. 60 or 300")


class Paths(Section):
    """Paths of files and directories."""

    state: Path = setting(here.STATE, "Directory of the identity, the spool and the locks; mode 0700.")
    sysfs: Path = setting(
        Path("/sys"), "Root of sysfs; another one for tests and `doctor` on a captured tree."
    )
    procfs: Path = setting(
        Path("/proc"), "Root of procfs; another one for tests and `doctor` on a captured tree."
    )
    meters: Path = setting(
        here.METERS,
        "File of the external meters that this machine reads: UPS, PDU, plugs, a BMC by network. Other "
        "machines need none.",
    )
    rapl_helper: Path = setting(
        here.RAPL_HELPER,
        "File that the RAPL helper writes. It is read where the agent may not read the processor's "
        "energy counters.",
    )


class Collector(Section):
    """Collector to which the records go. Normally empty: the join file sets the addresses at enrolment."""

    address: str = setting(
        "",
        "host:port of the collector's mTLS port (8641); several, comma separated, are tried in order. "
        "Empty = the join file's.",
        check=check_addresses,
    )
    enrolment_address: str = setting(
        "",
        "host:port of the collector's enrolment port (8642); several, comma separated, are tried in "
        "order. Empty = the join file's.",
        check=check_addresses,
    )
    proxy: str = setting(
        "",
        "HTTP proxy of every address, as http://host:port; `direct` = without one. Several, comma "
        "separated, are tried in order for each address. Empty = direct; variables such as HTTPS_PROXY "
        "are ignored.",
        check=split_proxies,
    )
    proxy_credentials_file: str = setting(
        "",
        "File with `user:password` of the proxies (Basic), which others may not read; empty = none.",
    )
    ca_sha256: str = setting(
        "",
        "SHA-256 of the CA certificate, hexadecimal; several, comma separated, during a rotation. Empty = "
        "the join file's CA "
        "is trusted.",
        check=_check_fingerprints,
    )
    join_file: str = setting(
        "",
        "Join file with which an agent without identity enrols by itself, and which it deletes; empty = "
        "join.json in paths.state.",
    )
    entity: str = setting(
        "",
        "Entity under which this machine must be enrolled: a join file of another entity is refused. Empty = "
        "any.",
    )
    contact_seconds: int = setting(
        0,
        "Seconds between two contacts; 0 = the population's: 86400 workstation, 3600 classroom, 900 server.",
        minimum=0,
    )
    accept_configuration: bool = setting(
        True,
        "Let the collector make the tick, the period and the contacts longer than set here, never shorter.",
    )
    deadline_seconds: float = setting(15.0, "Deadline of one call.", minimum=1, maximum=120)


class Measure(Section):
    """Frequency and resolution of measuring."""

    population: str = setting(
        "",
        "workstation, classroom or server: the more private one of this, the join file and the enrolment "
        "holds. Empty = as enrolled, and workstation until then.",
        choices=("", "workstation", "classroom", "server"),
    )
    tick_seconds: float = setting(10.0, "Seconds between two polls of the sources.", minimum=1, maximum=60)
    period_seconds: int = setting(
        0,
        "Length of a record in seconds: a divisor of 3600, at least 10. 0 = the population's: 300 "
        "server, 3600 classroom. Only this file can set less than 60. Workstations use days and weeks "
        "and ignore it.",
        minimum=0,
        maximum=3600,
        check=_check_period,
    )
    fine_until: str = setting(
        "",
        "Last day, YYYY-MM-DD (UTC), on which period_seconds may be less than 60, for a reference unit "
        "that is being calibrated. The population's period follows. Empty = no end.",
        check=parse_day,
    )
    sources: tuple[str, ...] = setting(
        (), "Sources to use, by name; empty = all that this machine has, `fake` excepted."
    )
    units: bool = setting(
        False,
        "Send the CPU time of each systemd service (without its instance) and of each QEMU guest (under "
        "a pseudonym). Servers only.",
    )
    fake_watts: float = setting(
        0.0, "Power the `fake` source pretends to measure. For tests only.", minimum=0, maximum=100000
    )
    device_class: str = setting(
        "",
        "Form of the machine when the hardware does not report it; empty = as detected.",
        choices=(
            "",
            "laptop",
            "mini_pc",
            "sff",
            "tower",
            "all_in_one",
            "thin_client",
            "server",
            "virtual_machine",
        ),
    )
    checkpoint_seconds: int = setting(
        0,
        "Seconds between two checkpoints of the open record; 0 = 60 on servers, 300 elsewhere.",
        minimum=0,
        maximum=3600,
    )

    def period_milliseconds(self, population: Population, unix_milliseconds: int) -> int:
        """Return the length of a record at that time, in ms."""
        seconds = self.period_seconds or _PERIOD_SECONDS[population]
        fine = seconds * MILLISECONDS_PER_SECOND < MILLISECONDS_PER_MINUTE
        if population is not Population.SERVER or (fine and _is_over(self.fine_until, unix_milliseconds)):
            seconds = _PERIOD_SECONDS[population]  # a classroom's finest grain is one hour
        return seconds * MILLISECONDS_PER_SECOND


class Spool(Section):
    """Spool: the buffer on disk."""

    max_bytes: int = setting(
        64 * 1024 * 1024,
        "Largest size of the spool on the disk, with its journal and all that is set aside; 8 to 512 "
        "MiB. In a full spool, a gap replaces the oldest records.",
        minimum=8 * 1024 * 1024,
        maximum=512 * 1024 * 1024,
    )
    disk_reserve_bytes: int = setting(
        500_000_000,
        "Free space on the disk that the spool never touches; 5 % of the disk where that is less.",
        minimum=0,
    )
    ring_hours: int = setting(
        72,
        "Hours for which acknowledged records are kept, for a collector restored from a backup.",
        minimum=0,
    )
    ring_records: int = setting(14, "Number of acknowledged records that are always kept.", minimum=0)


class Privacy(Section):
    """Data that may be sent."""

    send_host_name: bool = setting(False, "Send the host name at enrolment. Servers only; ignored elsewhere.")
    send_asset_pseudonyms: bool = setting(
        True,
        "Send HMACs of the chassis serial and the SMBIOS UUID once, at enrolment, to match the inventory.",
    )


class Log(Section):
    """Log output of the process."""

    level: str = setting("info", "Least severe event logged.", choices=("debug", "info", "warning", "error"))


class AgentSettings(Section):
    """All settings of the agent."""

    paths: Paths = setting(Paths(), "")
    collector: Collector = setting(Collector(), "")
    measure: Measure = setting(Measure(), "")
    spool: Spool = setting(Spool(), "")
    privacy: Privacy = setting(Privacy(), "")
    log: Log = setting(Log(), "")


def read_settings(
    file: Path | None,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, str] | None = None,
    tell: Callable[[str], object] | None = None,
) -> AgentSettings:
    """The settings.

    `file` None = DEFAULT_FILE when it exists; `environment` None = the process's. Raises ConfigurationError.

    `tell` is called with one line for each key that is no longer used.
    """
    return load(
        AgentSettings,
        file=file or (DEFAULT_FILE if DEFAULT_FILE.exists() else None),
        environment=os.environ if environment is None else environment,
        prefix=ENVIRONMENT_PREFIX,
        overrides=overrides,
        retired=RETIRED,
        tell=tell,
    )


def is_french() -> bool:
    """Tell if the locale of this process is French for messages."""
    from veilleuse.wire.translations import is_french  # late: only commands translate

    return is_french(os.environ)


def allowed_population(settings: AgentSettings, enrolled: str | None) -> Population:
    """Return the more private population of the local file and the enrolment, or the join file before it.

    It is workstation when none of them is set. Both processes use this function.
    """
    said = (settings.measure.population, enrolled or _population_to_be(join_file_path(settings)))
    known = [population for population in _PRIVACY if population in said]
    return known[0] if known else Population.WORKSTATION


def join_file_path(settings: AgentSettings) -> Path:
    """Return the path where an agent without identity looks for a join file."""
    return Path(settings.collector.join_file or settings.paths.state / JOIN_FILE)


def _population_to_be(join_file: Path) -> str:
    """Return the population of a waiting join file; empty without one, or without a population in it.

    The sender checks the file when it enrols; here it can only make the records coarser.
    """
    try:
        content, _ = read_with_status(join_file, MAX_JOIN_FILE_BYTES, regular=True)
        return str(json.loads(content).get("population", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def _is_over(last_day: str, unix_milliseconds: int) -> bool:
    """Tell whether the day YYYY-MM-DD has ended in UTC, or may have; an empty day never ends."""
    if not last_day:
        return False
    today = unix_milliseconds // MILLISECONDS_PER_DAY + UNIX_EPOCH_DAY
    return not _FIRST_DAY <= today <= date.fromisoformat(last_day).toordinal()
