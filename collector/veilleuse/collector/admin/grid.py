# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Stores grid intensities of a poll or a file, in slices, so that no acknowledgement waits."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Final

from veilleuse.collector.admin.context import AdminContext
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

log = logging.getLogger(__name__)

MAXIMUM_VALUES: Final = 4_000
"""Most values in one request: 40 days of quarter hours."""
_SLICE: Final = 200
"""Values in one job of the writer: some milliseconds."""


def state(context: AdminContext) -> dict[str, Any]:
    """Return the range of each series, and the outcome of the last polls."""
    states, polls = context.issuing.commit(
        lambda: (context.store.intensities.states(), context.store.intensities.polls())
    )
    return {"series": [asdict(one) for one in states], "polls": [asdict(one) for one in polls]}


def put(context: AdminContext, *, values: Sequence[Sequence[Any]]) -> dict[str, int]:
    """Store values, each as the list of an intensity's fields.

    Raises UsageError or AdminError for a wrong value or one of another series.
    """
    if len(values) > MAXIMUM_VALUES:
        raise UsageError(f"{len(values)} values: at most {MAXIMUM_VALUES} at once")
    brought = [_intensity(fields) for fields in values]
    now = context.issuing.now_unix_milliseconds()
    stored = IntensityImport()
    for first in range(0, len(brought), _SLICE):
        part = brought[first : first + _SLICE]
        stored += context.issuing.commit(partial(context.store.intensities.put, part, now))
    log.info("intensities kept", extra=asdict(stored))
    return asdict(stored)


def call(context: AdminContext, *, connector: str) -> dict[str, bool]:
    """Count a call before it is made. `allowed`: False when the month's calls are used up."""
    settings = context.settings.intensity
    at_most = {
        ODRE: settings.odre_calls_per_month,
        ELECTRICITY_MAPS: settings.electricity_maps_calls_per_month,
    }
    if connector not in at_most:
        raise UsageError(f"unknown connector '{connector}'")
    now = context.issuing.now()
    month = now.year * 12 + now.month - 1
    allowed = context.issuing.commit(
        lambda: context.store.intensities.count_call(connector, month, at_most[connector])
    )
    return {"allowed": allowed}


def note(context: AdminContext, *, connector: str, outcome: str) -> dict[str, str]:
    """Note the outcome of a poll."""
    if connector not in CONNECTORS or outcome not in OUTCOMES:
        raise UsageError(f"unknown connector '{connector}' or outcome '{outcome}'")
    now = context.issuing.now_unix_milliseconds()
    context.issuing.commit(lambda: context.store.intensities.note(connector, outcome, now))
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
