# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Says what is wrong now, one sentence each: what /metrics shows, judged by the table of conditions.

For readers of the whole fleet. Of PCs only the counts of silent machines, as at the first read of the day,
and released months.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from veilleuse.collector.documents.text import Words
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.exposition.conditions import LEVELS, Occurrence, Severity, find_occurrences
from veilleuse.collector.silence import SilenceLevel, sentence_of
from veilleuse.collector.web.metrics.released_month import last_month
from veilleuse.collector.web.metrics.samples import judged_exposition
from veilleuse.collector.web.metrics.snapshot import Snapshot
from veilleuse.wire.units import MILLISECONDS_PER_SECOND, SECONDS_PER_DAY

_HOUR: Final = 3600
_DAYS_FROM: Final = 2 * SECONDS_PER_DAY
"""Durations from here on are told in days."""


def find_conditions(snapshot: Snapshot, k: int, w: Words) -> Iterator[str]:
    """Yield a sentence about each condition that somebody should mend, the most severe first."""
    for one in occurrences_of(snapshot, k):
        if one.severity is not Severity.INFO:
            yield f"{_sentence(one, snapshot, w)} {remedy_of(one, snapshot, w)}"


def occurrences_of(snapshot: Snapshot, k: int) -> list[Occurrence]:
    """Return what holds now, the most severe first."""
    now = snapshot.fleet.now_unix_milliseconds / MILLISECONDS_PER_SECOND
    found = find_occurrences(judged_exposition(snapshot, k), now)
    return sorted(found, key=lambda one: -LEVELS[one.severity])


def waiting_silences(snapshot: Snapshot, w: Words) -> Iterator[str]:
    """Yield a sentence about each population whose silence cannot be judged yet."""
    return (sentence_of(one, w) for one in snapshot.silence if one.level is SilenceLevel.WAITING)


def text_of(one: Occurrence, w: Words) -> str:
    """Write what is, with its numbers."""
    labels = {name: _word(name, value, w) for name, value in one.labels.items()}
    return w(
        f"conditions.{one.condition.name}",
        **labels,
        n=w.number(round(one.value)),
        ratio=w.number(round(one.value, 1)),
        percent=w.percent(one.value),
        duration=_duration(one.value, w),
        memory=f"{w.number(round(one.value / 2**20))} {w('condition_words.mebibytes')}",
    )


def remedy_of(one: Occurrence, snapshot: Snapshot, w: Words) -> str:
    """Write what to do; of the last released month, with its days."""
    first, end = last_month(snapshot.today)
    return w(f"remedies.{one.condition.name}", first=first, end=end)


def _sentence(one: Occurrence, snapshot: Snapshot, w: Words) -> str:
    """Write what is; of silence, how many machines."""
    if one.condition.metric is c.SILENCE_LEVEL:
        silences = {silence.population.value: silence for silence in snapshot.silence}
        return sentence_of(silences[one.labels["population"]], w)
    return text_of(one, w)


def _word(label: str, value: str, w: Words) -> str:
    words = w.texts["condition_words"]
    return str(words[value]) if value in words else w.word(label, value)


def _duration(seconds: float, w: Words) -> str:
    """Write whole days, or hours below two days; "less than an hour" once a time has passed."""
    if seconds >= _DAYS_FROM:
        return w.count("condition_words.days", int(seconds // SECONDS_PER_DAY))
    if seconds >= _HOUR:
        return w.count("condition_words.hours", int(seconds // _HOUR))
    return w("condition_words.moments")
