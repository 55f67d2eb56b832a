# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Turns the calendar and configuration of a Hello answer into control values.

No other part changes the machine.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from typing import Any, Final

from veilleuse.agent.ports import ControlKey
from veilleuse.agent.remote_config import NONE, RemoteConfig, Trial, parse_or_none
from veilleuse.wire.configuration import Configuration, ConfigurationOutOfBounds
from veilleuse.wire.v1 import telemetry_pb2 as pb

log = logging.getLogger(__name__)

SHA256_BYTES: Final = 32
Control = Callable[[str], str | None]


def configuration_control(
    message: pb.RemoteConfiguration, control: Control, *, accept: bool
) -> dict[str, str | None]:
    """Return the control values after a pulled configuration: a candidate, or a failure.

    `accept`: the local switch.
    """
    sha256 = message.sha256.hex()
    if len(message.sha256) != SHA256_BYTES:
        log.error("configuration without a name, left alone", extra={"sha256": sha256[:80]})
        return {}
    try:
        if not accept:
            raise ConfigurationOutOfBounds("collector.accept_configuration is off")
        configuration = _configuration(message).check()
    except ConfigurationOutOfBounds as error:
        log.error("configuration refused, the former one stays", extra={"reason": str(error)})
        return {ControlKey.CONFIGURATION_FAILED: sha256, ControlKey.CONFIGURATION_CANDIDATE: None}
    good = parse_or_none(RemoteConfig.from_json, control(ControlKey.CONFIGURATION)) or NONE
    trial = parse_or_none(Trial.from_json, control(ControlKey.CONFIGURATION_TRIAL))
    candidate = RemoteConfig(sha256, configuration)
    if candidate == good and trial is None:  # the collector withdrew a failed one
        return {ControlKey.CONFIGURATION_FAILED: None, ControlKey.CONFIGURATION_CANDIDATE: None}
    if sha256 == control(ControlKey.CONFIGURATION_FAILED) or (
        trial is not None and candidate == trial.remote
    ):
        return {ControlKey.CONFIGURATION_CANDIDATE: None}
    return {ControlKey.CONFIGURATION_CANDIDATE: candidate.to_json()}


def configuration_status(control: Control, *, accept: bool) -> pb.DocumentStatus | None:
    """Return the status of the configuration for Hello; None when there never was one."""
    failed = control(ControlKey.CONFIGURATION_FAILED)
    trial = parse_or_none(Trial.from_json, control(ControlKey.CONFIGURATION_TRIAL))
    good = parse_or_none(RemoteConfig.from_json, control(ControlKey.CONFIGURATION)) or NONE
    in_use = good.sha256 if trial is None else trial.remote.sha256
    if failed is not None or (in_use and not accept):
        state, sha256 = pb.APPLIED_STATE_FAILED, failed or in_use
    elif trial is not None:
        state, sha256 = pb.APPLIED_STATE_APPLIED, in_use
    elif in_use:
        state, sha256 = pb.APPLIED_STATE_CONFIRMED, in_use
    else:
        return None
    return pb.DocumentStatus(sha256=unhex(sha256), state=state)


def confirmation(trial: str) -> tuple[dict[str, str | None], dict[str, str | None]]:
    """Return (values that must still hold, values to set) for a good contact begun during this trial."""
    expected: dict[str, str | None] = {
        ControlKey.CONFIGURATION_TRIAL: trial,
        ControlKey.CONFIGURATION_CANDIDATE: None,
    }
    remote = Trial.from_json(trial).remote
    return expected, {ControlKey.CONFIGURATION: remote.to_json(), ControlKey.CONFIGURATION_TRIAL: None}


def _configuration(message: pb.RemoteConfiguration) -> Configuration:
    return Configuration(
        **{name: getattr(message, name) for name in Configuration._fields if message.HasField(name)}
    )


def unhex(text: str | None) -> bytes:
    """Decode a control value to bytes; empty when it is absent or damaged."""
    try:
        return bytes.fromhex(text or "")
    except ValueError:
        return b""


def calendar_control(message: pb.Calendar) -> dict[str, str | None]:
    """Return the control values of a pulled calendar; the former one stays when it is unusable."""
    from datetime import date

    from veilleuse.wire.bands import Calendar, CalendarError, OpenSpan

    def spans(weekly: Any) -> tuple[OpenSpan, ...]:
        return tuple(
            sorted(OpenSpan(span.iso_weekday, span.start_minute, span.end_minute) for span in weekly)
        )

    try:
        calendar = Calendar(
            time_zone=message.time_zone,
            open_spans=spans(message.open_spans),
            closures=tuple(sorted({date(day.year, day.month, day.day) for day in message.closures})),
            update_windows=spans(message.update_windows),
        )
    except (CalendarError, ValueError, OverflowError) as error:
        # OverflowError: a year out of the range of `date`
        log.error("calendar refused, the former one stays", extra={"reason": str(error)})
        return {ControlKey.CALENDAR_STATE: "failed"}
    text = calendar.to_json()
    return {
        ControlKey.CALENDAR: text,
        ControlKey.CALENDAR_SHA256: hashlib.sha256(text.encode()).hexdigest(),
        ControlKey.CALENDAR_STATE: "applied",
    }
