# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The polled sources in `doctor`, and `veilleuse-agent poll`.

Asks each meter now, without the polling process.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from veilleuse.agent.commands.language import print_lines
from veilleuse.agent.errors import ConfigurationError
from veilleuse.agent.model import EnergyCounter, PowerGauge, Reading
from veilleuse.agent.polling.process import poll_once
from veilleuse.agent.polling.worker import SourceStatus
from veilleuse.agent.settings import AgentSettings
from veilleuse.agent.sources import SELF_DETECTING, OpenedSource, Sources, Unavailable, polls
from veilleuse.wire.units import MICROJOULES_PER_JOULE, MICROJOULES_PER_MILLIJOULE, MILLIWATTS_PER_WATT
from veilleuse.wire.vocabulary import POLLED_SOURCES

EXIT_WARNINGS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --once, --json, --attached."""
    parser.add_argument(
        "--once", action="store_true", help="ask every source once, print the answers, and end"
    )
    parser.add_argument("--json", action="store_true", help="with --once: for a machine")
    parser.add_argument(
        "--attached", action="store_true", help="end when standard input does (as the service starts it)"
    )


def run(parsed: argparse.Namespace, settings: AgentSettings) -> int:
    """Poll until SIGTERM; with --once return 0, or 3 when a source failed.

    Raises AgentError, ConfigurationError.
    """
    from veilleuse.agent.polling.process import poll, poll_once

    if not parsed.once:
        if parsed.json:
            raise ConfigurationError("--json needs --once: add it")
        return poll(settings, attached=parsed.attached)
    seen = poll_once(settings)
    if parsed.json:
        print(json.dumps({"sources": [plain(one) for one in seen]}, ensure_ascii=False, indent=2))
    else:
        print_lines(lines(seen))
    return EXIT_WARNINGS if any(one.outcome.word == "failed" for one in seen) else 0


def plain(seen: SourceStatus) -> dict[str, Any]:
    """Return one source as JSON values."""
    outcome = seen.outcome
    return {
        "source": seen.job.source,
        "meter": seen.job.meter,
        "word": outcome.word,
        "reason": outcome.reason,
        "remedy": outcome.remedy,
        "points": [
            {"kind": p.kind.value, "domain": p.domain, "boundary": p.boundary.value, "subject": p.subject}
            for p in seen.points
        ],
        "readings": [_reading_values(one.reading) for one in seen.readings],
    }


def _reading_values(reading: Reading) -> dict[str, Any]:
    if isinstance(reading, EnergyCounter):
        energy = reading.energy_microjoules // MICROJOULES_PER_MILLIJOULE
        return {"domain": reading.point.domain, "energy_millijoules": energy}
    assert isinstance(reading, PowerGauge)  # the worker lets no other kind through
    return {"domain": reading.point.domain, "power_milliwatts": reading.power_milliwatts}


def lines(seen: Iterable[SourceStatus]) -> Iterator[str]:
    """Yield the lines for people."""
    some = False
    for one in seen:
        some = True
        if one.outcome.word != "ok":
            yield f"- {one.job.name}: {one.outcome.reason}"
            if one.outcome.remedy:
                yield f"    remedy: {one.outcome.remedy}"
            continue
        yield f"+ {one.job.name}"
        for each in one.readings:
            yield f"    {_text(each.reading)}"
    if not some:
        yield "Nothing is polled here: measure.sources names no polled source."


def _text(reading: Reading) -> str:
    if isinstance(reading, EnergyCounter):
        joules = reading.energy_microjoules / MICROJOULES_PER_JOULE
        return f"{reading.point.kind} {reading.point.domain} ({reading.point.boundary}): {joules:.1f} J counted so far"
    assert isinstance(reading, PowerGauge)  # the worker lets no other kind through
    watts = reading.power_milliwatts / MILLIWATTS_PER_WATT
    return f"{reading.point.kind} {reading.point.domain} ({reading.point.boundary}): {watts:.1f} W"


RESIDENT_SOURCE = "polled"
"""Source of the resident process that offers the same points again, from the snapshot."""


class PollResult(NamedTuple):
    """Polled sources, each tried once."""

    seen: tuple[SourceStatus, ...]
    chosen: tuple[str, ...]
    trouble: str
    """Reason why the meters file is unusable; empty when it is usable or absent."""
    meters: str
    """Path of the meters file."""


def try_polled_sources(settings: AgentSettings) -> PollResult:
    """Ask every device; it takes as long as the slowest one, at most 21 s with usual timeouts."""
    chosen, meters = polls(settings.measure.sources), str(settings.paths.meters)
    try:
        return PollResult(poll_once(settings), chosen, "", meters)
    except ConfigurationError as error:
        return PollResult((), chosen, str(error), meters)


def rows(slow: PollResult) -> list[dict[str, Any]]:
    """Build one row per meter and self-detecting source, and per source without configuration."""
    found = [_row(one) for one in slow.seen]
    tried = {one.job.source for one in slow.seen}
    for name in POLLED_SOURCES:
        if name in tried:
            continue
        if name in slow.chosen:
            word, reason = "not_configured", slow.trouble or f"no meter in {slow.meters} names it"
            # such a source is searched for in all other cases
            if not slow.trouble and name in SELF_DETECTING:
                reason = f"a meter in {slow.meters} asks this machine's controller already"
        else:
            word, reason = "not_chosen", "measure.sources does not name it"
        found.append({**_NONE, "name": name, "word": word, "reason": reason})
    return found


def join_sources(sources: Sources, slow: PollResult) -> Sources:
    """Combine all sources for the ladder: polled ones as they answered now, not as in the snapshot."""
    opened = [one for one in sources.opened if one.source.name != RESIDENT_SOURCE]
    opened += [
        OpenedSource(_ClosedSource(one.job.name), one.points) for one in slow.seen if one.outcome.word == "ok"
    ]
    missing = [one for one in sources.unavailable if one.name != RESIDENT_SOURCE]
    missing += [
        Unavailable(one.job.name, one.outcome.word, one.outcome.reason, one.outcome.remedy)
        for one in slow.seen
        if one.outcome.word != "ok"
    ]
    return sources._replace(opened=tuple(opened), unavailable=tuple(missing))


def warnings(slow: PollResult) -> Iterator[str]:
    """Yield the warnings that need action. `doctor` itself reports missing rights and libraries."""
    if slow.trouble:
        yield f"none of the polled sources is read: {slow.trouble}"
    for one in slow.seen:
        if one.outcome.word == "failed" or (one.job.meter and one.outcome.word == "no_device"):
            remedy = f"; {one.outcome.remedy}" if one.outcome.remedy else ""
            yield f"{one.job.name}: {one.outcome.reason}{remedy}"


def watts_text(reading: dict[str, Any]) -> str:
    """Return the power of a reading for people; empty for a counter, whose single value says nothing."""
    milliwatts = reading.get("power_milliwatts")
    return "" if milliwatts is None else f"{milliwatts / MILLIWATTS_PER_WATT:.1f} W"


_NONE: dict[str, Any] = {"available": False, "points": [], "reason": "", "remedy": "", "word": ""}


def _row(seen: SourceStatus) -> dict[str, Any]:
    said = plain(seen)
    available = seen.outcome.word == "ok"
    return {
        "name": seen.job.name,
        "available": available,
        "points": said["points"],
        "reason": said["reason"],
        "remedy": said["remedy"],
        "word": "" if available else said["word"],
        "readings": said["readings"],
    }


class _ClosedSource:
    """Implements `ports.Source` for a closed source, of which only the name is left."""

    def __init__(self, name: str) -> None:
        self.name = name

    def open(self) -> tuple[()]:
        """Return nothing."""
        return ()

    def read(self) -> tuple[()]:
        """Return nothing."""
        return ()

    def close(self) -> None:
        """Do nothing."""
