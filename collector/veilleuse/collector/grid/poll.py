# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Runs one poll: chooses the connectors that are due, sends requests and stores values.

A failure stops no other connector.

Few calls: a quarter-hourly series costs one call an hour and dataset; the consolidated table is asked once a
day.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from veilleuse.collector.errors import ConfigurationError
from veilleuse.collector.grid import electricity_maps, odre
from veilleuse.collector.grid.values import Unreadable
from veilleuse.collector.http_client import FetchError, HttpClient, Route, get_json
from veilleuse.collector.model.grid import (
    CONNECTORS,
    CONSOLIDATED,
    DATASETS,
    ECO2MIX_COMBUSTION,
    ELECTRICITY_MAPS,
    ODRE,
    ODRE_CONSUMPTION,
    ODRE_ZONE,
    Dataset,
    GridIntensity,
    IntensityImport,
    IntensityKind,
    IntensityStatus,
    PollState,
    SeriesState,
)
from veilleuse.collector.settings import IntensitySettings as Settings
from veilleuse.wire.units import MILLISECONDS_PER_DAY, MILLISECONDS_PER_HOUR, MILLISECONDS_PER_MINUTE

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

OVERLAP_MILLISECONDS: Final = 20 * MILLISECONDS_PER_HOUR
"""Part of the past that each poll asks again: real-time values are corrected for some hours. One page of 100
rows with the new hour."""
CHUNK_MILLISECONDS: Final = 31 * MILLISECONDS_PER_DAY
CONSOLIDATED_MILLISECONDS: Final = 20 * MILLISECONDS_PER_HOUR
LONGEST_WAIT_MILLISECONDS: Final = 24 * MILLISECONDS_PER_HOUR
"""Longest wait after failures; each failure doubles the wait up to this."""
_QUARTER: Final = 15 * MILLISECONDS_PER_MINUTE
_MOST_PAGES: Final = 4


class PollStore(Protocol):
    """PollStore reads and writes the data of a poll."""

    def states(self) -> Sequence[SeriesState]: ...
    def polls(self) -> Sequence[PollState]: ...
    def count_call(self, connector: str) -> bool:
        """Count a call; False when the month's calls are used up."""

    def put(self, values: Sequence[GridIntensity]) -> IntensityImport: ...
    def note(self, connector: str, outcome: str) -> None: ...


@dataclass(frozen=True, slots=True)
class PollResult:
    """A PollResult is the result of one connector."""

    connector: str
    outcome: str
    text: str = ""
    """One line about a failure; else empty."""
    stored: IntensityImport = field(default_factory=IntensityImport)
    left: Counter[str] = field(default_factory=Counter)


Now = Callable[[], int]
"""Clock in Unix milliseconds."""


def enabled_connectors(settings: Settings) -> tuple[str, ...]:
    """Return the enabled connectors."""
    on = {
        ODRE: settings.odre,
        CONSOLIDATED: settings.odre,
        ELECTRICITY_MAPS: bool(settings.electricity_maps_token_file),
    }
    return tuple(name for name in CONNECTORS if on[name])


def check_route(settings: Settings) -> None:
    """Check the addresses, the proxy and the file of authorities, also where nothing polls yet.

    Raises FetchError, not_configured.
    """
    route = Route(settings.timeout_seconds, settings.proxy, settings.ca_file)
    for base in (settings.odre_url, settings.electricity_maps_url):
        HttpClient(base, route)


def require_series(series: str, states: Iterable[SeriesState]) -> None:
    """Raise ConfigurationError unless a connector polls this series, or it has a value."""
    known = {ODRE_CONSUMPTION, ECO2MIX_COMBUSTION, ELECTRICITY_MAPS, *(one.series for one in states)}
    if series not in known:
        raise ConfigurationError(
            f"intensity.series is {series}, which has no value: use one of {', '.join(sorted(known))}, or import "
            "its values first"
        )


def is_due(state: PollState | None, connector: str, poll_minutes: int, now: int, jitter: float) -> bool:
    """Tell if a poll is due.

    `jitter`: 0 to 1, a new random value each time, so that collectors spread their calls.
    """
    if state is None or now < state.tried_unix_milliseconds:
        return True  # never tried, or the clock was set back
    if state.failures:
        wait = poll_minutes * MILLISECONDS_PER_MINUTE << min(state.failures, 12)
        return now - state.tried_unix_milliseconds >= min(wait, LONGEST_WAIT_MILLISECONDS) * (
            0.75 + jitter / 2
        )
    waits = CONSOLIDATED_MILLISECONDS if connector == CONSOLIDATED else 0
    return now - state.tried_unix_milliseconds >= waits


def poll(settings: Settings, ledger: PollStore, connectors: Sequence[str], now: Now) -> Iterator[PollResult]:
    """Poll each connector, store its values and its outcome. Raises only the errors of `ledger`."""
    route = Route(settings.timeout_seconds, settings.proxy, settings.ca_file)
    for connector in connectors:
        if connector == ELECTRICITY_MAPS:
            done = _electricity_maps(settings, route, ledger, now)
        else:
            of = IntensityStatus.CONSOLIDATED if connector == CONSOLIDATED else IntensityStatus.REALTIME
            done = _odre(settings, route, ledger, connector, of, now)
        ledger.note(connector, done.outcome)
        yield done


def window(dataset: Dataset, states: Sequence[SeriesState], backfill_days: int, now: int) -> tuple[int, int]:
    """Return the window to ask of a dataset of ODRÉ: [start, end), Unix ms, on quarter hours."""
    own = {
        state.status: state for state in states if state.series == dataset.series and state.zone == ODRE_ZONE
    }
    known = own.get(dataset.status)
    if known is not None:
        start = known.newest_unix_milliseconds - OVERLAP_MILLISECONDS
    elif IntensityStatus.REALTIME in own:  # values not yet consolidated
        start = own[IntensityStatus.REALTIME].oldest_unix_milliseconds
    else:
        start = now - backfill_days * MILLISECONDS_PER_DAY
    return start - start % _QUARTER, now - now % _QUARTER


def _odre(
    settings: Settings, route: Route, ledger: PollStore, connector: str, of: IntensityStatus, now: Now
) -> PollResult:
    stored, left = IntensityImport(), Counter[str]()
    failed: FetchError | None = None
    states = ledger.states()
    for dataset in DATASETS:
        if dataset.status is not of:
            continue
        try:
            start, end = window(dataset, states, settings.backfill_days, now())
            for first in range(start, end, CHUNK_MILLISECONDS):
                rows = _rows(settings, route, ledger, dataset, first, min(end, first + CHUNK_MILLISECONDS))
                found = _parse(odre.read, dataset, rows, now())
                stored += ledger.put(found.values)
                left += found.left
        except FetchError as error:
            log.warning("intensity not fetched", extra={"dataset": dataset.name, "error": str(error)})
            failed = failed or error
    if failed is None:
        return PollResult(connector, "done", "", stored, left)
    return PollResult(connector, failed.outcome, str(failed), stored, left)


def _rows(
    settings: Settings, route: Route, ledger: PollStore, dataset: Dataset, start: int, end: int
) -> list[Any]:
    """Fetch a short window page by page, a longer one in one call."""
    if end - start > odre.PAGE_ROWS * _QUARTER:
        _count_call(ledger, ODRE)
        answer = get_json(settings.odre_url, odre.export_path(dataset, start, end), route)
        return list(_parse(odre.rows_of, answer))
    rows: list[Any] = []
    for _ in range(_MOST_PAGES):
        _count_call(ledger, ODRE)
        page = get_json(settings.odre_url, odre.records_path(dataset, start, end, len(rows)), route)
        more, total = _parse(odre.page_of, page)
        rows += more
        if not more or len(rows) >= total:
            return rows
    raise FetchError("not_understood", f"{dataset.name} has more rows in a window than it can have")


def _electricity_maps(settings: Settings, route: Route, ledger: PollStore, now: Now) -> PollResult:
    zone = settings.electricity_maps_zone
    try:
        token = electricity_maps.read_token(settings.electricity_maps_token_file)
        _count_call(ledger, ELECTRICITY_MAPS)
        answer = get_json(
            settings.electricity_maps_url,
            electricity_maps.history_path(zone),
            route,
            {electricity_maps.TOKEN_HEADER: token},
        )
        found = _parse(electricity_maps.read, zone, answer, now())
        return PollResult(ELECTRICITY_MAPS, "done", "", ledger.put(found.values), found.left)
    except FetchError as error:
        log.warning("intensity not fetched", extra={"dataset": electricity_maps.DATASET, "error": str(error)})
        return PollResult(ELECTRICITY_MAPS, error.outcome, str(error))


def _count_call(ledger: PollStore, connector: str) -> None:
    if not ledger.count_call(connector):
        raise FetchError(
            "quota", f"the month's calls of {connector} are used up: it is left alone until the next"
        )


def _parse(read: Callable[P, T], *values: P.args, **named: P.kwargs) -> T:
    try:
        return read(*values, **named)
    except Unreadable as error:
        raise FetchError("not_understood", str(error)) from error


Ask = Callable[..., Any]
"""(operation, **arguments) → result, decoded from JSON."""

_AT_ONCE: Final = 2_000
"""Maximum values in one request: some 0.2 MB."""


class RemoteLedger:
    """RemoteLedger is the ledger of a poll in another process: each method is one request or more to the
    collector.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def states(self) -> Sequence[SeriesState]:
        """Return how far each series goes, now."""
        found = self._ask("intensity_state")["series"]
        return [
            SeriesState(
                **{**one, "kind": IntensityKind(one["kind"]), "status": IntensityStatus(one["status"])}
            )
            for one in found
        ]

    def polls(self) -> Sequence[PollState]:
        """Return the state of the last polls."""
        return [PollState(**one) for one in self._ask("intensity_state")["polls"]]

    def count_call(self, connector: str) -> bool:
        """Count a call before it is sent; False when the month's calls are used up."""
        return bool(self._ask("intensity_call", connector=connector)["allowed"])

    def put(self, values: Sequence[GridIntensity]) -> IntensityImport:
        """Store all values; after a failed request, the values before it stay stored."""
        stored = IntensityImport()
        for first in range(0, len(values), _AT_ONCE):
            part = [list(one) for one in values[first : first + _AT_ONCE]]
            stored += IntensityImport(**self._ask("intensity_put", values=part))
        return stored

    def note(self, connector: str, outcome: str) -> None:
        """Store the outcome of a connector's poll."""
        self._ask("intensity_note", connector=connector, outcome=outcome)
