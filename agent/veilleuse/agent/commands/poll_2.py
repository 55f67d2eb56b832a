# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse-agent poll`: the process that reads slow sources. The resident process starts it; `--once` is for people."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from typing import Any

from veilleuse.agent.errors import ConfigurationError
from veilleuse.agent.model import EnergyCounter, GpuBusyReading, PowerGauge, Reading
from veilleuse.agent.polling.worker import Seen
from veilleuse.agent.settings import AgentSettings
from veilleuse.wire.units import MICROJOULES_PER_MILLIJOULE

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


def plain(seen: Seen) -> dict[str, Any]:
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


def lines(seen: Iterable[Seen]) -> Iterator[str]:
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
        joules = reading.energy_microjoules / 1_000_000
        return f"{reading.point.kind} {reading.point.domain} ({reading.point.boundary}): {joules:.1f} J counted so far"
    if isinstance(reading, PowerGauge):
        watts = reading.power_milliwatts / 1_000
        return f"{reading.point.kind} {reading.point.domain} ({reading.point.boundary}): {watts:.1f} W"
    assert isinstance(reading, GpuBusyReading)  # the worker lets no other kind through
    return f"GPUs busy: {reading.busy_ratio:.0%}"
