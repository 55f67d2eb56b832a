# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The spool part of `doctor`: room left, versions of both sides, and the collector's configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from veilleuse.agent import clock
from veilleuse.agent.commands.state_view import SpoolView, measured_population
from veilleuse.agent.platforms import here
from veilleuse.agent.ports import ControlKey
from veilleuse.agent.remote_config import NONE, RemoteConfig, Trial, grain_of, parse_or_none, read_in_use
from veilleuse.agent.settings import AgentSettings
from veilleuse.agent.spool.database import DISK_SHARE, Bounds
from veilleuse.wire.configuration import Configuration
from veilleuse.wire.units import MILLISECONDS_PER_DAY
from veilleuse.wire.version import VERSION
from veilleuse.wire.vocabulary import Population

TYPICAL_ROW_BYTES: Final = 900
"""Measured size of a row of one state and one point; used until the spool has rows of this machine."""
_MANY_DAYS: Final = 400
"""Days after which a certificate can no longer be renewed: docs/wire.md §6."""
FEW_DAYS: Final = 3.0
"""A spool with room for fewer days than a long weekend gets a warning."""
_VERSION = re.compile(r"(\d+)\.(\d+)")


def room(settings: AgentSettings, spool: SpoolView) -> dict[str, Any]:
    """Estimate how long the machine can stay offline from now on, at the present rate. Bytes and days."""
    bounds = Bounds(settings.spool.max_bytes, settings.spool.disk_reserve_bytes)
    per_day = _rows_per_day(
        settings, measured_population(settings, spool), _configuration_in_use(settings, spool)
    )
    disk_bytes, free = here.disk_room(spool.path.parent)
    reserve = min(bounds.disk_reserve_bytes, int(disk_bytes * DISK_SHARE))
    growth = max(0, free - reserve)  # bytes that the files may still grow on this disk
    left = min(bounds.rows_bytes - spool.unsent_bytes, growth + spool.files_bytes - spool.unsent_bytes)
    row = spool.row_bytes or TYPICAL_ROW_BYTES
    return {
        "files_bytes": spool.files_bytes,
        "max_bytes": bounds.max_bytes,
        "unsent_bytes": spool.unsent_bytes,
        "disk_free_bytes": free,
        "disk_reserve_bytes": reserve,
        "rows_per_day": round(per_day, 1),
        "bytes_per_row": round(row),
        "days_left": round(max(0, left) / (per_day * row), 1),
    }


def versions(spool: SpoolView) -> dict[str, Any]:
    """Return both versions, and `skew`: agent minus collector in minor releases; None when unknown."""
    collector = spool.control.get(ControlKey.COLLECTOR_VERSION)
    own, other = _VERSION.match(VERSION), _VERSION.match(collector or "")
    same = own is not None and other is not None and own[1] == other[1]
    skew = int(own[2]) - int(other[2]) if same and own is not None and other is not None else None
    return {"agent": VERSION, "collector": collector, "skew": skew}


def configuration(settings: AgentSettings, spool: SpoolView) -> dict[str, Any]:
    """Describe the configuration from the collector and its state."""
    control = spool.control.get
    trial = parse_or_none(Trial.from_json, control(ControlKey.CONFIGURATION_TRIAL))
    good = parse_or_none(RemoteConfig.from_json, control(ControlKey.CONFIGURATION)) or NONE
    failed = control(ControlKey.CONFIGURATION_FAILED)
    if not settings.collector.accept_configuration:
        state = "refused by the local file"
    elif failed is not None:
        state = "failed"
    elif trial is not None:
        state = "applied"
    elif control(ControlKey.CONFIGURATION_CANDIDATE) is not None:
        state = "pulled, not tried yet"
    else:
        state = "confirmed" if good.sha256 else "none"
    values = _configuration_in_use(settings, spool)
    return {
        "state": state,
        "sha256": (trial.remote.sha256 if trial else good.sha256) or None,
        "failed_sha256": failed,
        "in_use": {name: value for name, value in values._asdict().items() if value is not None},
    }


def warnings(result: dict[str, Any]) -> Iterator[str]:
    """Yield the warnings for the result of `doctor`."""
    space, other = result["room"], result["versions"]
    if space["disk_free_bytes"] < space["disk_reserve_bytes"]:
        yield (
            f"only {_megabytes(space['disk_free_bytes'])} are free on the spool's disk: it does not grow any "
            "more, "
            "free some space"
        )
    if space["days_left"] < FEW_DAYS:
        yield f"the spool has room for {space['days_left']} more day(s) offline: then the oldest records go"
    if other["collector"] is not None and (other["skew"] is None or abs(other["skew"]) > 1):
        yield (
            f"the collector is of version {other['collector']}, this agent of {other['agent']}: more than "
            "one release "
            "apart is not supported, upgrade the older"
        )
    if result["configuration"]["state"] == "failed":
        yield "the collector's last configuration could not be kept here: the former one is in use"


def lines(result: dict[str, Any]) -> Iterator[str]:
    """Yield the lines for people."""
    space, other, document = result["room"], result["versions"], result["configuration"]
    yield (
        f"  takes {_megabytes(space['files_bytes'])} of {_megabytes(space['max_bytes'])}; disk: "
        f"{_megabytes(space['disk_free_bytes'])} free, the last {_megabytes(space['disk_reserve_bytes'])} "
        "are not touched"
    )
    days = space["days_left"]
    room = f"{days} more day(s)" if days < _MANY_DAYS else f"more than {_MANY_DAYS} days"
    yield f"  room for {room} offline, at {space['rows_per_day']:g} record(s) a day"
    yield f"Versions: agent {other['agent']}, collector {other['collector'] or 'not known yet'}"
    values = ", ".join(f"{name} {value}" for name, value in document["in_use"].items())
    yield f"Configuration from the collector: {document['state']}" + (f" ({values})" if values else "")


def _configuration_in_use(settings: AgentSettings, spool: SpoolView) -> Configuration:
    if not settings.collector.accept_configuration:
        return Configuration()
    return read_in_use(spool.control.get).configuration


def _rows_per_day(settings: AgentSettings, population: Population, remote: Configuration) -> float:
    if population is Population.WORKSTATION:
        return 1 + 1 / 7  # one record a day, and one a week for the open hours
    now = clock.unix_milliseconds()
    return MILLISECONDS_PER_DAY / grain_of(settings, population, remote, now).period_milliseconds


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
