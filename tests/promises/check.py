# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Compares the history that agents recorded (support/history.py) with the database.

Shares no code with the product.

It checks, from the stored bytes and the tables alone:

- every acknowledged record is stored once, under its own machine, and under its number; a replayed record
  is stored under its first number;
- nothing is stored that this machine never made;
- a stream has no hole up to its mark; mark and chain are those of its records; no mark ever went back;
- sums, point_sums, unit_sums, state_totals, gap_sums, gap_periods and totals agree with the stored bytes;
- per machine and day: time produced = time stored + time of declared gaps (R18).
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
import sqlite3
import tempfile
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.promises.support.contract import EXPECTED_EARLIER, STORED, Record
from tests.promises.support.history import History
from tests.promises.support.recount import recount

DETAILS: Final = 12
FAULTS: Final = {
    "lost": "acknowledged records lost",
    "duplicated": "records duplicated",
    "never_made": "records that no machine made",
    "never_sent": "records that no machine sent",
    "foreign": "records of another machine",
    "misplaced": "records under another number",
    "values": "records with other values",
    "holes": "holes in a stream",
    "chains": "wrong chains",
    "marks_back": "marks set back",
    "sums": "wrong sums",
    "damage": "damaged databases",
    "unexplained_milliseconds": "ms unexplained",
}
"""Fault → its words in docs/promises.md."""


@dataclass
class Report:
    """The counts of one comparison. Only `faults` are faults of the product."""

    agents: int = 0
    acknowledged: int = 0
    """Distinct records that an answer acknowledged."""
    stored: int = 0
    """Rows of records."""
    replayed: int = 0
    """Numbers up to a mark whose record was stored under another number."""
    lost_answers: int = 0
    """Pushes that were stored though the agent got no answer; the next Hello reported them."""
    kills: int = 0
    first_ack_seconds: list[float] = field(default_factory=list)
    """From each start of the collector to the first acknowledgement after it."""
    produced_milliseconds: int = 0

    faults: Counter[str] = field(default_factory=Counter)
    """Counts of FAULTS."""
    details: list[str] = field(default_factory=list)
    """The first DETAILS faults, in words."""

    def fault(self, what: str, detail: str, number: int = 1) -> None:
        self.faults[what] += number
        if len(self.details) < DETAILS:
            self.details.append(f"{what}: {detail}")

    @property
    def sound(self) -> bool:
        """True when there is no fault."""
        return not any(self.faults.values())

    def __str__(self) -> str:
        lost = f"{self.faults['lost']:,} of {self.acknowledged:,} acknowledged records lost"
        others = {what: n for what, n in self.faults.items() if n and what not in ("lost", "duplicated")}
        return ", ".join(
            [
                lost,
                f"{self.faults['duplicated']:,} duplicated",
                *(f"{n:,} {FAULTS[what]}" for what, n in others.items()),
            ]
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One stored record."""

    agent: str
    epoch: str
    seq: int
    sha: str
    wire: bytes


def check(data_dir: Path, history: History) -> Report:
    """Compare copies of the database and its WAL with a history. The collector must not run."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("data.db", "data.db-wal"):
            if (data_dir / name).exists():
                shutil.copy(data_dir / name, folder)
        with closing(sqlite3.connect(Path(folder) / "data.db")) as database:
            return _check(database, history)


def _check(database: sqlite3.Connection, history: History) -> Report:
    report = Report(agents=len({agent for agent, _ in history.made}))
    if (found := database.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
        report.fault("damage", found)
    rows = [
        Row(agent.hex(), epoch.hex(), seq, hashlib.sha256(wire).hexdigest(), wire)
        for agent, epoch, seq, wire in database.execute(
            "SELECT agent_id, epoch, seq, wire FROM records JOIN streams USING (stream_id)"
            " JOIN hosts ON hosts.host_id = streams.host_id"
        )
    ]
    report.stored = len(rows)
    _rows(rows, history, report)
    held = {(row.agent, row.sha) for row in rows}
    _acknowledged(held, history, report)
    _streams(database, rows, history, report)
    for table, key, stored, counted in recount(database):
        report.fault("sums", f"{table} {key}: {stored} in the table, {counted} in the records")
    _produced(rows, history, report)
    _times(history, report)
    return report


def _rows(rows: list[Row], history: History, report: Report) -> None:
    """Report rows that their machine did not make or did not number so, and records that are stored twice."""
    numbered: dict[tuple[str, str, int], set[str]] = defaultdict(set)
    for (agent, stream), puts in history.streams.items():
        for seq, sha in puts.items():
            numbered[agent, stream.partition("/")[0], seq].add(sha)
    makers = {sha: agent for agent, sha in history.made}
    for row in rows:
        where = f"record {row.seq} of {row.agent[:8]}/{row.epoch[:8]}"
        if row.sha not in makers:
            report.fault("never_made", where)
        elif (row.agent, row.sha) not in history.made:
            report.fault("foreign", f"{where} is of {makers[row.sha][:8]}")
        elif row.sha not in numbered[row.agent, row.epoch, row.seq]:
            report.fault("misplaced", where)
    for (agent, sha), number in Counter((row.agent, row.sha) for row in rows).items():
        if number > 1:
            report.fault("duplicated", f"{sha[:8]} of {agent[:8]} is stored {number} times", number - 1)


def _acknowledged(held: set[tuple[str, str]], history: History, report: Report) -> None:
    """Report acknowledged records that are not stored, and marks that went back."""
    acknowledged: set[tuple[str, str]] = set()
    for (agent, stream), mark in history.acknowledged.items():
        puts = history.streams[agent, stream]
        for seq in range(1, mark + 1):
            if seq in puts and seq <= history.sent[agent, stream]:
                acknowledged.add((agent, puts[seq]))
            else:
                report.fault("never_sent", f"acknowledged {seq} of {agent[:8]}/{stream}")
    report.acknowledged = len(acknowledged)
    for agent, sha in sorted(acknowledged - held):
        report.fault("lost", f"{sha[:8]} of {agent[:8]} was acknowledged and is not stored")
    # A request that is sent after an answer came must not get a lower mark.
    best: dict[tuple[str, str], tuple[float, int]] = {}
    for answer in history.answers:
        agent, stream = answer.stream
        epoch = (agent, stream.partition("/")[0])
        at, mark = best.get(epoch, (0.0, 0))
        report.lost_answers += answer.hello and answer.mark > mark
        if answer.mark < mark and answer.sent > at:
            report.fault("marks_back", f"{answer.mark} after {mark} in {agent[:8]}/{stream}")
        if answer.mark >= mark:
            best[epoch] = (answer.at, answer.mark)


def _streams(database: sqlite3.Connection, rows: list[Row], history: History, report: Report) -> None:
    """Report streams whose mark, chain and rows no branch of the history explains."""
    by_stream: dict[tuple[str, str], dict[int, Row]] = defaultdict(dict)
    bytes_of = {(row.agent, row.sha): row.wire for row in rows}
    for row in rows:
        by_stream[row.agent, row.epoch][row.seq] = row
    marks = history.acknowledged
    branches = history.branches
    for agent, epoch, mark, chain in database.execute(
        "SELECT hex(agent_id), hex(epoch), mark, chain FROM streams JOIN hosts USING (host_id)"
    ):
        key = (agent.lower(), epoch.lower())
        stored = by_stream.pop(key, {})
        name = f"{key[0][:8]}/{key[1][:8]}"
        if beyond := [seq for seq in stored if seq > mark]:
            report.fault("holes", f"{len(beyond)} rows beyond mark {mark} of {name}", len(beyond))
        if not any(_explains(history.streams[b], stored, mark, bytes_of, chain, b) for b in branches[key]):
            report.fault("chains", f"no branch of {name} gives mark {mark} with its chain and its rows")
        report.replayed += mark - len(stored)
        given = max((marks[branch] for branch in branches[key]), default=0)
        if mark < given:
            report.fault("marks_back", f"{name} stands at {mark}, {given} was acknowledged")
    for key in by_stream:
        report.fault("holes", f"rows of a stream that does not exist: {key}")
    _chains_given(history, report, bytes_of)


def _explains(
    puts: dict[int, str],
    stored: dict[int, Row],
    mark: int,
    bytes_of: dict[tuple[str, str], bytes],
    chain: bytes,
    name: tuple[str, str],
) -> bool:
    """Return whether the stored stream is this branch: its rows and its chain are the branch's."""
    if any(puts.get(seq) != row.sha for seq, row in stored.items()):
        return False
    return _chain(puts, mark, bytes_of, name) == chain


def _chain(
    puts: dict[int, str], mark: int, bytes_of: dict[tuple[str, str], bytes], name: tuple[str, str]
) -> bytes | None:
    """Return the chain of SHA-256 up to the mark, from stored bytes; None when some bytes are missing."""
    agent, stream = name
    value = hashlib.sha256(bytes.fromhex(stream.partition("/")[0])).digest()
    for seq in range(1, mark + 1):
        wire = bytes_of.get((agent, puts.get(seq, "")))
        if wire is None:
            return None
        value = hashlib.sha256(value + wire).digest()
    return value


def _chains_given(history: History, report: Report, bytes_of: dict[tuple[str, str], bytes]) -> None:
    """Check the last chain that each stream got, conflicts left out: they give another branch's chain."""
    last = {}
    for answer in history.answers:
        if answer.outcome <= EXPECTED_EARLIER:
            last[answer.stream] = answer
    for name, answer in last.items():
        if _chain(history.streams[name], answer.mark, bytes_of, name) != bytes.fromhex(answer.chain):
            report.fault("chains", f"the chain told at {answer.mark} of {name[0][:8]}/{name[1]} is another")


def _produced(rows: list[Row], history: History, report: Report) -> None:
    """Check R18 per machine and day: milliseconds made = milliseconds stored, declared gaps included."""
    missing: dict[tuple[str, int], int] = defaultdict(int)
    for (agent, _), made in history.made.items():
        if made.of is None:
            missing[agent, made.day] += made.milliseconds
            report.produced_milliseconds += made.milliseconds
    for row in rows:
        if (made_as := history.made.get((row.agent, row.sha))) is None:
            continue
        if _values(Record.FromString(row.wire)) != (made_as.milliseconds, made_as.cells):
            report.fault("values", f"record {row.seq} of {row.agent[:8]} is not as it was made")
        missing[row.agent, made_as.day] -= made_as.milliseconds
    for (agent, day), milliseconds in missing.items():
        if milliseconds:
            report.fault(
                "unexplained_milliseconds", f"{milliseconds} of {agent[:8]} on {day}", abs(milliseconds)
            )


def _values(record: Any) -> tuple[int, tuple[tuple[int, int, int, int, int], ...]]:
    """Return milliseconds, and (band, state, supply, ms, mJ) of each cell."""
    if record.WhichOneof("body") == "gap":
        return sum(span.milliseconds for span in record.gap.spans), ()
    cells = tuple(
        (c.band, c.state, c.supply, c.milliseconds, sum(e.energy_millijoules for e in c.energies))
        for c in record.measurement.cells
    )
    return sum(cell[3] for cell in cells), cells


def _times(history: History, report: Report) -> None:
    report.kills = sum(what == "kill" for _, what in history.faults)
    acknowledgements = [a.at for a in history.answers if a.outcome == STORED and not a.hello]
    bounds = [*history.faults, (float("inf"), "end")]
    for (at, what), (until, _) in itertools.pairwise(bounds):
        if what == "start":
            first = next((ack for ack in acknowledgements if at < ack < until), None)
            if first is not None:
                report.first_ack_seconds.append(first - at)
