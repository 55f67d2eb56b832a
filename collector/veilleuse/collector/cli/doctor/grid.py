# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Checks the grid's intensity for the indicative ledger: age of the newest value, outcome of the polls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from veilleuse.collector import clock
from veilleuse.collector.cli.doctor.findings import Finding, outcome_of
from veilleuse.collector.errors import ConfigurationError
from veilleuse.collector.grid.electricity_maps import read_token
from veilleuse.collector.grid.poll import enabled_connectors, require_series
from veilleuse.collector.http_client import FetchError
from veilleuse.collector.model.grid import (
    CONSOLIDATED,
    ELECTRICITY_MAPS,
    ODRE,
    IntensityStatus,
    PollState,
    SeriesState,
)
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader
from veilleuse.wire.units import MILLISECONDS_PER_HOUR

LATE_HOURS: Final = 6
"""A newest value that is older is late: ODRÉ's real time lags some two hours, and a poll may fail."""
_NEARLY: Final = 0.9
"""Share of the monthly calls above which a warning is given."""


def check_intensity(settings: CollectorSettings) -> Iterator[Finding]:
    """Check each stored series and each connector that is on."""
    now = clock.unix_milliseconds()
    on = enabled_connectors(settings.intensity)
    with open_reader(settings.data_dir) as store:
        grid = store.data.intensities()
        states, polls = grid.states(), {poll.connector: poll for poll in grid.polls()}
    try:
        require_series(settings.intensity.series, states)
    except ConfigurationError as error:
        yield Finding("intensity", "failed", str(error))
        return
    if not on and not states:
        yield Finding("intensity", "good", "the grid's intensity is not polled: no indicative ledger")
        return
    yield from _check_series(settings, states, now, polled=bool(on))
    for connector in on:
        yield from _check_connector(settings, connector, polls.get(connector))


def _check_series(
    settings: CollectorSettings, states: tuple[SeriesState, ...], now: int, *, polled: bool
) -> Iterator[Finding]:
    own = [one for one in states if one.series == settings.intensity.series]
    if not own:
        known = ", ".join(sorted({one.series for one in states})) or "none"
        yield Finding(
            "intensity",
            "warning",
            f"the indicative ledger uses the series {settings.intensity.series}, which has no value "
            f"(series with values: {known})",
            "'veilleuse intensity poll' or 'import'; or set intensity.series",
        )
    for one in states:
        hours = (now - one.newest_unix_milliseconds) / MILLISECONDS_PER_HOUR
        text = f"{one.series} of {one.zone}, {one.status}: the newest value is {hours:.1f} h old"
        late = polled and one.status is IntensityStatus.REALTIME and hours > LATE_HOURS
        if late:
            yield Finding("intensity", "warning", text, "check the connector below, and its publisher")
        else:
            yield Finding("intensity", "good", text)


def _check_connector(
    settings: CollectorSettings, connector: str, poll: PollState | None
) -> Iterator[Finding]:
    if connector == ELECTRICITY_MAPS:
        try:
            read_token(settings.intensity.electricity_maps_token_file)
        except FetchError as error:
            yield Finding("intensity", "warning", f"{connector}: {error}", "correct the file, or unset it")
            return
    if poll is None:
        yield Finding("intensity", "warning", f"{connector}: never polled", "let 'veilleuse serve' run")
        return
    at_most = {
        ODRE: settings.intensity.odre_calls_per_month,
        CONSOLIDATED: None,
        ELECTRICITY_MAPS: settings.intensity.electricity_maps_calls_per_month,
    }[connector]
    calls = "" if at_most is None else f", {poll.calls_this_month} of {at_most} calls this month"
    outcome = outcome_of("intensity_failing", poll.failures)
    if outcome != "good":
        yield Finding(
            "intensity",
            outcome,
            f"{connector}: {poll.failures} polls failed in a row, the last one: {poll.outcome}{calls}",
            "'veilleuse intensity poll' says why, and so does the log",
        )
    elif at_most is not None and poll.calls_this_month >= at_most * _NEARLY:
        yield Finding("intensity", "warning", f"{connector}: {poll.outcome}{calls}", "poll less often")
    else:
        yield Finding("intensity", "good", f"{connector}: {poll.outcome}{calls}")
