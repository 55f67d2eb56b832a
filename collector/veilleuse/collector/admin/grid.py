# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Intensities of grids, as a poll or a file brings them. In slices, so that no acknowledgement waits for them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.grid import (
    CONNECTORS,
    ELECTRICITY_MAPS,
    ODRE,
    OUTCOMES,
    GridIntensity,
    IntensityImport,
    IntensityKind,
    IntensityStatus,
    check_value,
)

if TYPE_CHECKING:
    from veilleuse.collector.admin.operations import Operations

log = logging.getLogger(__name__)

MAXIMUM_VALUES: Final = 4_000
"""In one request: 40 days of quarter hours."""
_SLICE: Final = 200
"""In one job of the writer: some milliseconds."""


def state(operations: Operations) -> dict[str, Any]:
    """How far each series goes, and how the last polls went."""
    states, polls = operations.office.commit(
        lambda: (operations.intensities.states(), operations.intensities.polls())
    )
    return {"series": [asdict(one) for one in states], "polls": [asdict(one) for one in polls]}


def put(operations: Operations, *, values: Sequence[Sequence[Any]]) -> dict[str, int]:
    """Keep values, each as the list of an Intensity's fields. Raises UsageError, AdminError for what is none or not its series'."""
    if len(values) > MAXIMUM_VALUES:
        raise UsageError(f"{len(values)} values: at most {MAXIMUM_VALUES} at once")
    brought = [_intensity(fields) for fields in values]
    now = operations.office.now_unix_milliseconds()
    stored = IntensityImport()
    for first in range(0, len(brought), _SLICE):
        part = brought[first : first + _SLICE]
        stored += operations.office.commit(partial(operations.intensities.put, part, now))
    log.info("intensities kept", extra=asdict(stored))
    return asdict(stored)


def call(operations: Operations, *, connector: str) -> dict[str, bool]:
    """Count a call that is about to be made; whether it may be."""
    settings = operations.settings.intensity
    at_most = {
        ODRE: settings.odre_calls_per_month,
        ELECTRICITY_MAPS: settings.electricity_maps_calls_per_month,
    }
    if connector not in at_most:
        raise UsageError(f"unknown connector '{connector}'")
    now = operations.office.now()
    month = now.year * 12 + now.month - 1
    allowed = operations.office.commit(
        lambda: operations.intensities.count_call(connector, month, at_most[connector])
    )
    return {"allowed": allowed}


def note(operations: Operations, *, connector: str, outcome: str) -> dict[str, str]:
    """How a poll ended."""
    if connector not in CONNECTORS or outcome not in OUTCOMES:
        raise UsageError(f"unknown connector '{connector}' or outcome '{outcome}'")
    now = operations.office.now_unix_milliseconds()
    operations.office.commit(lambda: operations.intensities.note(connector, outcome, now))
    return {"connector": connector, "outcome": outcome}


def _intensity(fields: Sequence[Any]) -> GridIntensity:
    zone, series, dataset, kind, status, start, minutes, milligrams = fields
    if not all(isinstance(one, str) for one in (zone, series, dataset)) or not all(
        type(one) is int for one in (start, minutes, milligrams)
    ):
        raise UsageError("a value is [zone, series, dataset, kind, status, start, minutes, milligrams]")
    return check_value(
        GridIntensity(
            zone,
            series,
            dataset,
            IntensityKind(kind),
            IntensityStatus(status),
            start,
            minutes,
            milligrams,
        )
    )


OPERATIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "intensity_state": state,
    "intensity_put": put,
    "intensity_call": call,
    "intensity_note": note,
}
"""Name on the socket → what it does."""
