# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What `doctor` says of the polled sources and of each meter: asked here and now, without the polling process."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from veilleuse.agent.errors import ConfigurationError
from veilleuse.agent.model import EnergyCounter, GpuBusyReading, PowerGauge, Reading
from veilleuse.agent.polling.process import look
from veilleuse.agent.polling.worker import SourceStatus
from veilleuse.agent.settings import AgentSettings
from veilleuse.agent.sources import POLLED, SELF_DETECTING, OpenedSource, Sources, Unavailable, polls
from veilleuse.wire.units import MICROJOULES_PER_JOULE, MICROJOULES_PER_MILLIJOULE, MILLIWATTS_PER_WATT

EXIT_WARNINGS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--once, --json, --attached."""
    parser.add_argument(
        "--once", action="store_true", help="ask every source once, say what it says, and end"
    )
    parser.add_argument("--json", action="store_true", help="with --once: for a machine")
    parser.add_argument(
        "--attached", action="store_true", help="end when standard input does (as the service starts it)"
    )


def run(parsed: argparse.Namespace, settings: AgentSettings) -> int:
    """Poll until SIGTERM; with --once 0, or 3 when a source failed. Raises AgentError or ConfigurationError."""
    from veilleuse.agent.polling.process import look, poll

    if not parsed.once:
        if parsed.json:
            raise ConfigurationError("--json is for one look: add --once")
        return poll(settings, attached=parsed.attached)
    seen = look(settings)
    if parsed.json:
        print(json.dumps({"sources": [plain(one) for one in seen]}, ensure_ascii=False, indent=2))
    else:
        print("\n".join(lines(seen)))
    return EXIT_WARNINGS if any(one.outcome.word == "failed" for one in seen) else 0


def plain(seen: SourceStatus) -> dict[str, Any]:
    """One source, as JSON keeps it."""
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
        "readings": [_reading(one.reading) for one in seen.readings],
    }


def _reading(reading: Reading) -> dict[str, Any]:
    if isinstance(reading, EnergyCounter):
        energy = reading.energy_microjoules // MICROJOULES_PER_MILLIJOULE
        return {"domain": reading.point.domain, "energy_millijoules": energy}
    if isinstance(reading, PowerGauge):
        return {"domain": reading.point.domain, "power_milliwatts": reading.power_milliwatts}
    assert isinstance(reading, GpuBusyReading)  # the worker lets no other kind through
    return {"gpu_busy_ratio": reading.busy_ratio}


def lines(seen: Iterable[SourceStatus]) -> Iterator[str]:
    """For people."""
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
    if isinstance(reading, PowerGauge):
        watts = reading.power_milliwatts / MILLIWATTS_PER_WATT
        return f"{reading.point.kind} {reading.point.domain} ({reading.point.boundary}): {watts:.1f} W"
    assert isinstance(reading, GpuBusyReading)  # the worker lets no other kind through
    return f"GPUs busy: {reading.busy_ratio:.0%}"


TAKES_THEM = "polled"
"""The resident's source: it offers the same points again, from what was published."""


class Slow(NamedTuple):
    """The polled sources, each tried once."""

    seen: tuple[SourceStatus, ...]
    chosen: tuple[str, ...]
    trouble: str
    """Why the meters file cannot be used; empty when it can, or is not there."""
    meters: str
    """The meters file."""


def look_slowly(settings: AgentSettings) -> Slow:
    """Ask every device; takes as long as the slowest, 21 s at most with usual timeouts."""
    chosen, meters = polls(settings.measure.sources), str(settings.paths.meters)
    try:
        return Slow(look(settings), chosen, "", meters)
    except ConfigurationError as error:
        return Slow((), chosen, str(error), meters)


def rows(slow: Slow) -> list[dict[str, Any]]:
    """One for each meter and self-detecting source, and for each source that nothing is configured for."""
    found = [_row(one) for one in slow.seen]
    tried = {one.job.source for one in slow.seen}
    for name in POLLED:
        if name in tried:
            continue
        if name in slow.chosen:
            word, reason = "not_configured", slow.trouble or f"no meter in {slow.meters} names it"
            if not slow.trouble and name in SELF_DETECTING:  # it is looked for everywhere else
                reason = f"a meter in {slow.meters} asks this machine's controller already"
        else:
            word, reason = "not_chosen", "measure.sources does not name it"
        found.append({**_NONE, "name": name, "word": word, "reason": reason})
    return found


def joined(sources: Sources, slow: Slow) -> Sources:
    """All sources of this machine, for the ladder: the polled ones as they are now, not as they were published."""
    opened = [one for one in sources.opened if one.source.name != TAKES_THEM]
    opened += [
        OpenedSource(_Named(one.job.name), one.points) for one in slow.seen if one.outcome.word == "ok"
    ]
    missing = [one for one in sources.unavailable if one.name != TAKES_THEM]
    missing += [
        Unavailable(one.job.name, one.outcome.word, one.outcome.reason, one.outcome.remedy)
        for one in slow.seen
        if one.outcome.word != "ok"
    ]
    return sources._replace(opened=tuple(opened), unavailable=tuple(missing))


def warnings(slow: Slow) -> Iterator[str]:
    """What somebody can do something about; what is missing for want of rights or a library, `doctor` says of all alike."""
    if slow.trouble:
        yield f"none of the polled sources is read: {slow.trouble}"
    for one in slow.seen:
        if one.outcome.word == "failed" or (one.job.meter and one.outcome.word == "no_device"):
            remedy = f"; {one.outcome.remedy}" if one.outcome.remedy else ""
            yield f"{one.job.name}: {one.outcome.reason}{remedy}"


def watts_text(reading: dict[str, Any]) -> str:
    """What a reading says for people, where it is a power: a counter tells nothing at one look."""
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


class _Named:
    """`ports.Source` that was looked at and closed: what is left of it is its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def open(self) -> tuple[()]:
        """Nothing any more."""
        return ()

    def read(self) -> tuple[()]:
        """Nothing any more."""
        return ()

    def close(self) -> None:
        """It is."""
