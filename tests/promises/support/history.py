# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Records what agents have seen as it happens, one JSON object a line.

The checker (check.py) reads nothing else of the agents.

    {"e": "made",   "t": s, "a": agent, "h": sha, "day": n, "ms": produced,
     "cells": [[band, state, supply, ms, mJ]], "of": sha | null}
    {"e": "put",    "t": s, "a": agent, "s": stream, "q": seq, "h": sha}
    {"e": "branch", "t": s, "a": agent, "s": stream, "from": stream, "at": seq}
    {"e": "sent",   "t": s, "a": agent, "s": stream, "f": first seq, "l": last seq}
    {"e": "ack",    "t": s, "sent": s, "a": agent, "s": stream, "m": mark, "h": chain,
     "o": outcome, "hello": true | false}
    {"e": "failed", "t": s, "a": agent, "s": stream, "why": status}
    {"e": "fault",  "t": s, "what": kill | start | …}

`t` and `sent` are seconds of the monotonic clock, which all processes of a machine share. `a` is the agent
id, hexadecimal. A machine and the SHA-256 of the bytes identify a record; `put` gives it a number in a
stream. A stream is an epoch and a branch of it, "0011223344556677/0". An agent that goes back in time, or
replaces a record, continues in another branch of the same epoch, which begins with the former branch's
records up to `at`. `of` is the record that a gap replaces; a gap has no cells. An answer whose chain at its
mark is not the agent's is written with the outcome of a conflict.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

STORED = 1
"""The value of PushOutcome that acknowledges."""
StreamName: TypeAlias = tuple[str, str]
"""(agent id, "epoch/branch")."""


class Log:
    """Appends events to one file; one writer a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="ascii")

    def write(self, event: str, **facts: Any) -> float:
        """Write an event; return its monotonic time, seconds."""
        now = time.monotonic()
        self._file.write(json.dumps({"e": event, "t": round(now, 6), **facts}, separators=(",", ":")) + "\n")
        return now

    def flush(self) -> None:
        """Pass buffered events to the operating system."""
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def events(files: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """Yield all events, file by file, without a last line that was cut."""
    for path in files:
        with path.open(encoding="ascii") as lines:
            for line in lines:
                if line.endswith("\n"):
                    yield json.loads(line)


@dataclass(frozen=True, slots=True)
class Made:
    """One record as its agent made it."""

    day: int
    milliseconds: int
    """Time that it measures, or that the gap declares lost."""
    cells: tuple[tuple[int, int, int, int, int], ...]
    """(band, state, supply, ms, mJ of all points)."""
    of: str | None
    """The record that this gap replaces; None for a measurement."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the collector."""

    at: float
    sent: float
    stream: StreamName
    mark: int
    chain: str
    outcome: int
    hello: bool


@dataclass
class History:
    """All events of the agents and the collector."""

    made: dict[tuple[str, str], Made] = field(default_factory=dict)
    """(agent, SHA-256) → record. Two machines may declare the same gap."""
    streams: dict[StreamName, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    """Stream → sequence number → SHA-256."""
    answers: list[Answer] = field(default_factory=list)
    failures: int = 0
    faults: list[tuple[float, str]] = field(default_factory=list)
    sent: dict[StreamName, int] = field(default_factory=lambda: defaultdict(int))
    """Stream → highest sequence number that was sent."""

    @property
    def acknowledged(self) -> dict[StreamName, int]:
        """Stream → highest mark that the collector acknowledged."""
        marks: dict[StreamName, int] = defaultdict(int)
        for answer in self.answers:
            if answer.outcome == STORED:
                marks[answer.stream] = max(marks[answer.stream], answer.mark)
        return marks

    @property
    def branches(self) -> dict[tuple[str, str], list[StreamName]]:
        """(agent, epoch) → its streams."""
        found: dict[tuple[str, str], list[StreamName]] = defaultdict(list)
        for agent, stream in self.streams:
            found[agent, stream.partition("/")[0]].append((agent, stream))
        return found


def read(files: Sequence[Path], until: float = float("inf")) -> History:
    """Return the history up to `until` (monotonic, s). Raises KeyError or ValueError on other content."""
    history = History()
    for event in events(files):
        if event["t"] > until:
            continue
        kind = event["e"]
        if kind == "fault":
            history.faults.append((event["t"], event["what"]))
            continue
        agent = event["a"]
        if kind == "made":
            if (agent, event["h"]) in history.made:
                raise ValueError(f"{agent} made {event['h']} twice: the load generator is at fault")
            cells = tuple(tuple(cell) for cell in event["cells"])
            history.made[agent, event["h"]] = Made(event["day"], event["ms"], cells, event["of"])
            continue
        name = (agent, event["s"])
        if kind == "put":
            history.streams[name][event["q"]] = event["h"]
        elif kind == "branch":
            before = history.streams[agent, event["from"]]
            history.streams[name] = {seq: sha for seq, sha in before.items() if seq <= event["at"]}
            history.sent[name] = min(history.sent[agent, event["from"]], event["at"])
        elif kind == "sent":
            history.sent[name] = max(history.sent[name], event["l"])
        elif kind == "ack":
            answer = Answer(
                event["t"], event["sent"], name, event["m"], event["h"], event["o"], event["hello"]
            )
            history.answers.append(answer)
        else:
            history.failures += 1
    history.answers.sort(key=lambda answer: answer.at)
    history.faults.sort()
    return history
