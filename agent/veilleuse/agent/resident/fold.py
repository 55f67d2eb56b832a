# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Fold ticks into one additive Record per period, at the grain allowed by the machine's owner.

Pure: no clock, no file. Servers and classroom PCs use periods of the UTC clock. Workstations use local days
(closed and night bands) and ISO weeks (open band). Values are split in integers, and the parts sum to the
whole. docs/privacy.md §1.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from veilleuse.agent.model import Cell, ClockPeriod, DatePeriod, Period, Record, Tick, WeekPeriod
from veilleuse.agent.resident.cell_sums import EMPTY, ON, Share, add_share, split_tick
from veilleuse.wire.bands import (
    DEFAULT_CALENDAR,
    Calendar,
    CalendarError,
    Segment,
    coarse_windows,
    day_segments,
    segments,
)
from veilleuse.wire.limits import HOUR_MILLISECONDS, IDLE_RULE_VERSION
from veilleuse.wire.units import MILLISECONDS_PER_DAY, MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import Band, GapReason, Population, State, Supply

_FAR_MILLISECONDS: Final = 2 * MILLISECONDS_PER_DAY
"""A clock set back by more than this starts a new timeline: closed periods of the old one do not count."""


_NOWHERE: Final = Segment(0, 0, Band.CLOSED, date.min)


class SiteCalendar(NamedTuple):
    """A calendar and its name on the wire."""

    calendar: Calendar = DEFAULT_CALENDAR
    sha256: str = ""
    """SHA-256 in hexadecimal; empty = the built-in default."""


DEFAULT_SITE: Final = SiteCalendar()


class _Piece(NamedTuple):
    """A part of a tick inside one segment and one period."""

    start: int
    milliseconds: int
    band: Band
    day: date
    """Civil day of the site."""
    period: Period
    site: SiteCalendar
    """Calendar that gave the band: a tick may span the change to another calendar."""
    in_window: bool | None
    """True inside an update window; None = not reported."""


class _Open:
    """A record that still grows."""

    __slots__ = ("due", "lengths", "record", "used")

    def __init__(self, record: Record, lengths: dict[Band, int], due: dict[Band, int]) -> None:
        """Take each band's milliseconds of the period (`lengths`) and its required sum of states (`due`)."""
        self.record = record
        self.lengths = lengths
        self.due = due
        self.used: dict[Band, int] = {}


class Fold:
    """Takes ticks in order, and gives the records whose period is over."""

    def __init__(
        self,
        population: Population,
        period_milliseconds: int,
        site: SiteCalendar = DEFAULT_SITE,
    ) -> None:
        """Start without any tick.

        `period_milliseconds` must divide an hour, else ValueError; workstations ignore it.
        """
        _check_grain(population, period_milliseconds)
        self.population = population
        self._period_milliseconds = period_milliseconds
        self._site = site
        self._zone = ZoneInfo(site.calendar.time_zone)
        self._next_site: tuple[SiteCalendar, date] | None = None
        self._segment = _NOWHERE
        self._open: dict[str, _Open] = {}
        self._closed: dict[str, int] = {}
        """Kind → start of the last closed period, so that a period is filled up with `unknown` only once."""
        self._end = 0
        """End of the last tick, Unix ms."""
        self._since = 0
        """Unix ms up to which another grain reported everything: nothing is filled up before it."""

    # ------------------------------------------------------------------------------------ ticks

    def add(self, tick: Tick) -> Iterator[Record]:
        """Add one tick; yield one by one the records that it closes. The caller must exhaust the iterator."""
        self._end = tick.start_unix_milliseconds + tick.duration_milliseconds
        if tick.state not in ON and not tick.energies:
            for piece in self._pieces(tick):  # one by one: weeks of silence give thousands of pieces
                yield from self._close_before(piece)
                self._grow(piece, EMPTY, tick)
            return
        pieces = list(self._pieces(tick))
        for piece, share in zip(
            pieces, split_tick(tick, [piece.milliseconds for piece in pieces]), strict=True
        ):
            yield from self._close_before(piece)
            self._grow(piece, share, tick)

    def _grow(self, piece: _Piece, share: Share, tick: Tick) -> None:
        opened = self._open_record(piece)
        opened.used[piece.band] = opened.used.get(piece.band, 0) + piece.milliseconds
        cell = opened.record.cells.setdefault((piece.band, tick.state, tick.supply), Cell())
        offset = piece.start - tick.start_unix_milliseconds
        add_share(
            cell,
            share,
            tick,
            offset,
            piece.milliseconds,
            population=self.population,
            in_window=piece.in_window,
        )
        for source, milliseconds in share.gaps:
            key = (GapReason.SENSOR_LOST, source)
            opened.record.gaps[key] = opened.record.gaps.get(key, 0) + milliseconds

    def flush(self) -> tuple[Record, ...]:
        """Return all open records as they are, not filled up. Used by `once` and before a change of grain."""
        records = tuple(opened.record for opened in self._open.values())
        self._open.clear()
        return records

    def change_grain(self, population: Population, period_milliseconds: int) -> tuple[Record, ...]:
        """Change the grain at the end of the last tick; return the open records as they are.

        Raises ValueError.

        No millisecond is lost or reported twice. The new period that contains the change is filled up only
        from the change on.
        """
        _check_grain(population, period_milliseconds)
        records = self.flush()
        self.population, self._period_milliseconds = population, period_milliseconds
        self._closed.clear()  # starts at the former grain; nothing before `_since` is filled up
        self._segment = _NOWHERE  # the population decides how update windows are reported
        self._since = self._end
        return records

    @property
    def end_unix_milliseconds(self) -> int:
        """End of the last folded tick, Unix ms; 0 = no tick yet, or a checkpoint of version 0.1."""
        return self._end

    # --------------------------------------------------------------------------------- calendars

    @property
    def site(self) -> SiteCalendar:
        """The calendar in use."""
        return self._site

    @property
    def next_sha256(self) -> str:
        """SHA-256 of the calendar scheduled last: the next one if there is one, else the one in use."""
        return self._site.sha256 if self._next_site is None else self._next_site[0].sha256

    def schedule(self, site: SiteCalendar, today_unix_milliseconds: int) -> date:
        """Schedule another calendar and return its first day. It splits no day, and no week of a workstation.

        docs/calendars.md: the first day is the next 1st of the month. On workstations it is the first Monday
        on or after it, because a week's record names one calendar. The first calendar replaces the built-in
        one, so it does not wait for a month. It starts tomorrow, on workstations next Monday.

        A calendar already scheduled for an earlier day is used first: call again once it is in use.
        Scheduling the calendar in use cancels the next one. Raises CalendarError when another time zone would
        split a workstation's day: the hours between the midnights of the two zones (docs/decisions/0028).
        """
        if self._next_site is not None and self._next_site[0].sha256 == site.sha256:
            return self._next_site[1]  # already scheduled: its day does not move
        if (
            self.population is Population.WORKSTATION
            and self._site.sha256
            and site.calendar.time_zone != self._site.calendar.time_zone
        ):
            raise CalendarError(
                f"time zone {site.calendar.time_zone} is not the machine's {self._site.calendar.time_zone}:"
                " to move it there, remove its state and enrol it again"
            )
        today = datetime.fromtimestamp(today_unix_milliseconds / MILLISECONDS_PER_SECOND, self._zone).date()
        first = today + timedelta(days=1)
        if self._site.sha256:
            first = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
        if self.population is Population.WORKSTATION:
            first += timedelta(days=-first.weekday() % 7)
        if self._next_site is not None and self._next_site[1] < first:
            return self._next_site[1]  # the calendar scheduled before this one is used first
        self._next_site = None if site.sha256 == self._site.sha256 else (site, first)
        return first

    def _switch(self, day: date) -> None:
        if self._next_site is not None and day >= self._next_site[1]:
            self._site = self._next_site[0]
            self._zone = ZoneInfo(self._site.calendar.time_zone)
            self._next_site = None

    # ----------------------------------------------------------------------------------- pieces

    def _pieces(self, tick: Tick) -> Iterator[_Piece]:
        start, end = tick.start_unix_milliseconds, tick.start_unix_milliseconds + tick.duration_milliseconds
        clock = self._open_clock_period()
        while start < end:
            segment = self._segment_at(start)
            stop = min(end, segment.end_unix_milliseconds)
            day = segment.local_date
            period: Period
            if self.population is Population.WORKSTATION:
                period, in_window = _local_period(segment.band, day), segment.in_window
            else:
                if clock is None or not _contains(clock, start):
                    clock = self._clock_period(start, start if tick.state in ON else end)
                stop = min(stop, clock.start_unix_milliseconds + clock.duration_milliseconds)
                period, in_window = clock, self._window_of(clock, segment)
            yield _Piece(start, stop - start, segment.band, day, period, self._site, in_window)
            start = stop

    def _segment_at(self, position: int) -> Segment:
        if self._segment.start_unix_milliseconds <= position < self._segment.end_unix_milliseconds:
            return self._segment
        day = datetime.fromtimestamp(position / MILLISECONDS_PER_SECOND, self._zone).date()
        self._switch(day)
        day = datetime.fromtimestamp(position / MILLISECONDS_PER_SECOND, self._zone).date()
        pieces = day_segments(self._site.calendar, day)
        if self.population is Population.WORKSTATION and self._site.calendar.update_windows:
            pieces = coarse_windows(pieces)
        # A civil day covers every instant of its date (in all zones from 2012 on): a segment always exists.
        self._segment = next(segment for segment in pieces if position < segment.end_unix_milliseconds)
        return self._segment

    def _window_of(self, period: ClockPeriod, segment: Segment) -> bool | None:
        """Return True when the whole period lies inside update windows, False when outside.

        None when the edge of a window splits the period: that would reveal finer times than the period.
        """
        if segment.in_window is None:
            return None
        start = period.start_unix_milliseconds
        end = start + period.duration_milliseconds
        if segment.start_unix_milliseconds <= start and end <= segment.end_unix_milliseconds:
            return segment.in_window
        return (
            segment.in_window
            if len({s.in_window for s in segments(self._site.calendar, start, end)}) == 1
            else None
        )

    def _clock_period(self, position: int, stretch_end: int) -> ClockPeriod:
        """Return the period at `position`; whole periods that a stretch covers are joined, up to the hour."""
        grain = self._period_milliseconds
        start = position - position % grain
        hour_end = position - position % HOUR_MILLISECONDS + HOUR_MILLISECONDS
        length = grain
        if position == start:
            whole = (min(stretch_end, hour_end) - start) // grain
            length = max(1, whole) * grain
        return ClockPeriod(start, length)

    def _open_clock_period(self) -> ClockPeriod | None:
        opened = self._open.get("clock")
        period = opened.record.period if opened is not None else None
        return period if isinstance(period, ClockPeriod) else None

    # ------------------------------------------------------------------------- opening and closing

    def _open_record(self, piece: _Piece) -> _Open:
        kind = _kind(piece.period)
        opened = self._open.get(kind)
        if opened is None:
            record = Record(piece.period, piece.site.sha256, IDLE_RULE_VERSION, {}, {})
            opened = self._open[kind] = self._begin(record, piece.site.calendar)
        return opened

    def _close_before(self, piece: _Piece) -> Iterator[Record]:
        """Close the records that are over or full when the timeline reaches `piece`."""
        if self.population is not Population.WORKSTATION:
            current: tuple[tuple[str, Period], ...] = (("clock", piece.period),)
        else:
            current = (("date", DatePeriod(piece.day)), ("week", _week(piece.day)))
        for kind, period in current:
            opened = self._open.get(kind)
            if opened is None:
                continue
            over = opened.record.period != period or opened.record.calendar_sha256 != piece.site.sha256
            full = kind == _kind(piece.period) and _is_full(opened, piece)
            if over or full:
                yield self._close(kind, ahead=_start(period) > _start(opened.record.period))

    def _close(self, kind: str, *, ahead: bool) -> Record:
        """Return the finished record, filled up to its length with `unknown`.

        It is not filled up when the clock goes back now, or when it or a later period was closed before.
        """
        opened = self._open.pop(kind)
        start = _start(opened.record.period)
        closed = self._closed.get(kind)
        if closed is not None and start < closed - _FAR_MILLISECONDS:
            closed = None
        if ahead and (closed is None or start > closed):
            for band, length in opened.due.items():
                missing = length - opened.used.get(band, 0)
                if missing > 0:
                    key = (band, State.UNKNOWN, Supply.UNKNOWN)
                    opened.record.cells.setdefault(key, Cell()).milliseconds += missing
        self._closed[kind] = start if closed is None else max(closed, start)
        return opened.record

    def _begin(self, record: Record, calendar: Calendar) -> _Open:
        """Open a record, with the sum that its states must reach."""
        period = record.period
        if isinstance(period, ClockPeriod):
            start = period.start_unix_milliseconds
            end = start + period.duration_milliseconds
            inside = (
                self._segment.start_unix_milliseconds <= start and end <= self._segment.end_unix_milliseconds
            )
            if inside and self._since <= start:
                lengths = {self._segment.band: period.duration_milliseconds}
                return _Open(record, lengths, lengths)
            pieces = tuple(segments(calendar, start, end))
        elif isinstance(period, DatePeriod):
            whole = day_segments(calendar, period.day)
            pieces = tuple(piece for piece in whole if piece.band is not Band.OPEN)
        else:
            monday = date.fromisocalendar(period.iso_year, period.iso_week, 1)
            days = (monday + timedelta(days=offset) for offset in range(7))
            week = (piece for day in days for piece in day_segments(calendar, day))
            pieces = tuple(piece for piece in week if piece.band is Band.OPEN)
        lengths = _band_lengths(pieces)
        if not pieces or pieces[-1].end_unix_milliseconds < self._since - _FAR_MILLISECONDS:
            return _Open(record, lengths, lengths)  # no piece, or another timeline than the reported one
        return _Open(record, lengths, _band_lengths(pieces, self._since))

    # -------------------------------------------------------------------------------- checkpoint

    def to_json(self) -> str:
        """Return the whole open state as one line."""
        pending = self._next_site
        return json.dumps(
            {
                "population": self.population,
                "period": self._period_milliseconds,
                "site": _site_to_plain(self._site),
                "next": None if pending is None else [_site_to_plain(pending[0]), pending[1].isoformat()],
                "open": [opened.record.to_json() for opened in self._open.values()],
                "closed": self._closed,
                "end": self._end,
                "since": self._since,
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_json(
        cls, text: str, population: Population, period_milliseconds: int
    ) -> tuple[Fold, tuple[Record, ...]]:
        """Return (the fold of the checkpoint, records closed because the grain has changed).

        Raises ValueError.
        """
        try:
            raw = json.loads(text)
            fold = cls(population, period_milliseconds, _site_from_plain(raw["site"]))
            if raw["next"] is not None:
                fold._next_site = (_site_from_plain(raw["next"][0]), date.fromisoformat(raw["next"][1]))
            records = tuple(Record.from_json(line) for line in raw["open"])
            fold._end = int(raw.get("end", 0))  # missing in 0.1
            if raw["population"] != population or raw["period"] != period_milliseconds:
                fold._since = fold._end
                return fold, records
            fold._since = int(raw.get("since", 0))
            fold._closed = {str(kind): int(start) for kind, start in raw["closed"].items()}
        except (KeyError, TypeError, IndexError, AttributeError, CalendarError) as error:
            raise ValueError(f"not a checkpoint: {error}") from error
        for record in records:
            fold._resume(record)
        return fold, ()

    def _resume(self, record: Record) -> None:
        opened = self._begin(record, self._site.calendar)
        for (band, _, _), cell in record.cells.items():
            opened.used[band] = opened.used.get(band, 0) + cell.milliseconds
        self._open[_kind(record.period)] = opened


# ----------------------------------------------------------------------------------------- periods


def _kind(period: Period) -> str:
    if isinstance(period, ClockPeriod):
        return "clock"
    return "date" if isinstance(period, DatePeriod) else "week"


def _week(day: date) -> WeekPeriod:
    year, week, _ = day.isocalendar()
    return WeekPeriod(year, week)


def _local_period(band: Band, day: date) -> Period:
    return _week(day) if band is Band.OPEN else DatePeriod(day)


def _start(period: Period) -> int:
    """Return the period's start in ms: comparable within one kind, exact for clock periods."""
    if isinstance(period, ClockPeriod):
        return period.start_unix_milliseconds
    if isinstance(period, DatePeriod):
        return period.day.toordinal() * MILLISECONDS_PER_DAY
    return date.fromisocalendar(period.iso_year, period.iso_week, 1).toordinal() * MILLISECONDS_PER_DAY


def _contains(period: ClockPeriod, position: int) -> bool:
    return 0 <= position - period.start_unix_milliseconds < period.duration_milliseconds


def _check_grain(population: Population, period_milliseconds: int) -> None:
    if population is not Population.WORKSTATION and (
        period_milliseconds < 1 or HOUR_MILLISECONDS % period_milliseconds
    ):
        raise ValueError(f"a period of {period_milliseconds} ms does not divide an hour")


def _band_lengths(pieces: tuple[Segment, ...], since: int = 0) -> dict[Band, int]:
    """Return the milliseconds of each band, from `since` (Unix ms) on."""
    lengths: dict[Band, int] = {}
    for piece in pieces:
        length = piece.end_unix_milliseconds - max(piece.start_unix_milliseconds, since)
        if length > 0:
            lengths[piece.band] = lengths.get(piece.band, 0) + length
    return lengths


def _is_full(opened: _Open, piece: _Piece) -> bool:
    """Tell whether the piece exceeds the time left in the record: the clock went back inside the period."""
    return opened.used.get(piece.band, 0) + piece.milliseconds > opened.lengths.get(piece.band, 0)


def _site_to_plain(site: SiteCalendar) -> list[str]:
    return ["" if not site.sha256 else site.calendar.to_json(), site.sha256]


def _site_from_plain(raw: list[Any]) -> SiteCalendar:
    return SiteCalendar(Calendar.from_json(raw[0]), str(raw[1])) if raw[1] else DEFAULT_SITE
