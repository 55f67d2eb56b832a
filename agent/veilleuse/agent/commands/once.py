# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse-agent once`: measures for a moment and shows the record; nothing is stored or sent."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from veilleuse.agent.commands.language import print_lines
from veilleuse.agent.commands.plain_text import plain, record_lines
from veilleuse.agent.errors import AgentError
from veilleuse.agent.host.machine import Machine
from veilleuse.agent.model import Reading, Record, Tick
from veilleuse.agent.platforms import SystemClock
from veilleuse.agent.ports import Clock
from veilleuse.agent.resident.fold import Fold
from veilleuse.agent.resident.open_sources import make_ticker, open_sources
from veilleuse.agent.sending.encode import encode_record
from veilleuse.agent.settings import AgentSettings
from veilleuse.agent.sources import Sources
from veilleuse.wire.limits import HOUR_MILLISECONDS
from veilleuse.wire.units import MILLISECONDS_PER_SECOND
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Population


class OnceResult(NamedTuple):
    """Result of a short measurement of this machine."""

    machine: Machine
    sources: Sources
    """Sources, closed already: those that were opened, and those that are not available."""
    readings: tuple[tuple[str, Reading], ...]
    """(source, reading) of the last poll."""
    ticks: tuple[Tick, ...]
    records: tuple[Record, ...]
    """One record, or two across the edge of an hour, in the grain of a server; not stored, not sent."""


def measure_once(settings: AgentSettings, seconds: float, clock: Clock | None = None) -> OnceResult:
    """Poll twice, `seconds` apart. Raises ConfigurationError."""
    if clock is not None:
        return _measure(settings, seconds, clock)
    own_clock = SystemClock(str(settings.paths.procfs))
    try:
        return _measure(settings, seconds, own_clock)
    finally:
        own_clock.close()


def _measure(settings: AgentSettings, seconds: float, clock: Clock) -> OnceResult:
    machine, sources = open_sources(settings)
    try:
        ticker = make_ticker(clock, machine, sources, round(seconds * MILLISECONDS_PER_SECOND))
        ticker.tick()
        clock.sleep(round(seconds * MILLISECONDS_PER_SECOND))
        _, ticks = ticker.tick(last=True)
    finally:
        sources.close()
    fold = Fold(Population.SERVER, HOUR_MILLISECONDS)
    closed = [record for tick in ticks for record in fold.add(tick)]
    readings = tuple((polled.source.name, reading) for polled in ticker.polled for reading in polled.readings)
    return OnceResult(machine, sources, readings, ticks, (*closed, *fold.flush()))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --seconds, --json."""
    parser.add_argument(
        "--seconds", type=_seconds, default=2.0, metavar="N", help="how long to measure (1 to 60; 2)"
    )
    parser.add_argument("--json", action="store_true", help="for a machine")


def run(parsed: argparse.Namespace, settings: AgentSettings) -> int:
    """Return 0 when something was measured. Raises AgentError when nothing can be measured."""
    glance = measure_once(settings, parsed.seconds)
    if not glance.sources.opened and glance.sources.load is None:
        raise AgentError("nothing can be measured on this machine: `veilleuse-agent doctor` says why")
    messages = [pb.Record.FromString(encode_record(record)) for record in glance.records]
    if parsed.json:
        result: dict[str, Any] = {
            "records": [plain(message) for message in messages],
            "unavailable": [
                {"name": one.name, "word": one.word, "reason": one.reason, "remedy": one.remedy}
                for one in glance.sources.unavailable
            ],
        }
        print(json.dumps(result, ensure_ascii=False, indent=2))
    else:
        print_lines(_lines(messages, glance.sources))
    return 0


def _lines(messages: list[pb.Record], sources: Sources) -> Iterator[str]:
    for message in messages:
        yield from record_lines(message)
    for one in sources.unavailable:
        yield f"{one.name}: not here: {one.reason}" + (f"; {one.remedy}" if one.remedy else "")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from error
    if not 1 <= seconds <= 60:
        raise argparse.ArgumentTypeError("1 to 60 seconds")
    return seconds
