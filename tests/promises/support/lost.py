# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Measures a loss of files under `veilleuse serve`: later acknowledgements, its end, what is left.
`python -m tests.promises.support.lost` (`make bench-faults`) prints the table of docs/operations.md;
`--write` writes it there.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.promises.check import Report
from tests.promises.support.history import STORED, events
from tests.promises.support.trial import ROOT, Trial
from tests.support.lost_files import DONE, LOST, Lost
from tests.support.waiting import PATIENCE_SECONDS

AGENTS: Final = 16
PUSHES_PER_SECOND: Final = 150
ACKS_BEFORE: Final = 150
AFTER_SECONDS: Final = 8.0
"""Longer than an idle collector waits between two checks (service.CHECK_SECONDS)."""
BEGIN, END = "<!-- make bench-faults -->", "<!-- end -->"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one fault."""

    lost: Lost
    acknowledged_after: int
    """Acknowledged pushes that were sent after the fault."""
    seconds: float
    """Time until the collector ended, or time of observation."""
    exit_code: int | None
    """None when the collector still runs."""
    last_line: str
    report: Report | None
    """Acknowledged records against those saved or left; None where the remedy is a backup."""

    @property
    def sound(self) -> bool:
        """True when no acknowledged record is missing from what is left, and none is duplicated."""
        return self.report is None or not (self.report.faults["lost"] or self.report.faults["duplicated"])

    def said(self) -> str:
        """Return the figure. Unsent records of killed agents are no fault of the collector's."""
        end = "the collector continues" if self.exit_code is None else f"exit code {self.exit_code}"
        lost = (
            ""
            if self.report is None
            else f", {self.report.faults['lost']} of {self.report.acknowledged:,} acknowledged records lost"
        )
        return f"{self.acknowledged_after} pushes acknowledged after the fault ({self.lost}), {end}{lost}"

    def row(self) -> str:
        """Return the row of the table."""
        end = "goes on" if self.exit_code is None else f"exit code {self.exit_code}"
        left = {
            "rescued": "a new file `….rescued-…`, with all of it",
            "whole": "the file itself, with all of it",
            "damaged": "a backup, or `.recover`",
            "goes on": "everything; a second `serve` is refused",
        }[self.lost.left]
        file = f"`{self.lost.file}`" if self.lost.file else "the folder"
        return f"| {file} | {DONE[self.lost.do.__name__]} | {self.acknowledged_after} | {end} | {left} |"


@contextmanager
def prepared(folder: Path) -> Iterator[Trial]:
    """Yield enrolled agents with a copy of the data directory, from which each fault begins."""
    with Trial(folder) as trial:
        trial.enrol(AGENTS)
        shutil.copytree(trial.stack.data, folder / "original", ignore=shutil.ignore_patterns("*.sock"))
        yield trial


def outcome(trial: Trial, lost: Lost) -> Outcome:
    """Run the collector under load, apply the fault, and return its outcome."""
    data = trial.stack.data
    _begin_again(trial, data)
    trial.start()
    trial.load(PUSHES_PER_SECOND)
    trial.wait_for_acks(ACKS_BEFORE)
    lost.apply(data)
    at = trial.note(str(lost))
    code = _ended(trial, AFTER_SECONDS if lost.left == "goes on" else PATIENCE_SECONDS)
    seconds = time.monotonic() - at
    if code is None:
        second = trial.stack.run("veilleuse", "serve")
        assert "is in use by pid" in second.stderr, second.stderr
    acknowledged = _acknowledged(trial, at)
    trial.give_up()
    last_line = trial.said().strip().splitlines()[-1]
    _follow_the_remedy(lost, data, last_line)
    if lost.left == "rescued" or lost.file.endswith("-shm"):
        _starts_again(trial, data)
    return Outcome(
        lost, acknowledged, seconds, code, last_line, None if lost.left == "damaged" else trial.compare()
    )


def _begin_again(trial: Trial, data: Path) -> None:
    for left in (*trial.folder.glob(f"{data.name}*"), *trial.folder.glob("*-[0-9]*")):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    for log in ("veilleuse.log", "faults.jsonl"):
        (trial.folder / log).write_text("")
    shutil.copytree(trial.folder / "original", data)


def _ended(trial: Trial, seconds: float) -> int | None:
    assert trial.collector is not None
    with suppress(subprocess.TimeoutExpired):
        return trial.collector.wait(seconds)
    return None


def _acknowledged(trial: Trial, since: float) -> int:
    """Count the acknowledgements of pushes that were sent after the fault."""
    return sum(
        event["e"] == "ack" and event["sent"] > since and event["o"] == STORED
        for event in events(trial.folder.glob("history-*.jsonl"))
    )


def _follow_the_remedy(lost: Lost, data: Path, last_line: str) -> None:
    """Follow the log's last line: put moved files back, and replace lost files by rescued ones."""
    moved = data.with_name(f"{data.name}.elsewhere")
    if moved.exists():
        moved.rename(data)
    for elsewhere in data.glob("*.db.elsewhere"):
        elsewhere.rename(elsewhere.with_suffix(""))
    for rescued in data.glob("*.db.rescued-*"):
        assert str(rescued) in last_line, last_line
        database = data / rescued.name.partition(".rescued-")[0]
        for ending in ("-wal", "-shm"):
            database.with_name(f"{database.name}{ending}").unlink(missing_ok=True)
        rescued.rename(database)


def _starts_again(trial: Trial, data: Path) -> None:
    """Restore what was lost with the folder from the copy, as from a backup; then start `serve`."""
    original = trial.folder / "original"
    for each in original.iterdir():
        if not (data / each.name).exists() and not each.name.startswith(("data.db", "identity.db")):
            shutil.copytree(each, data / each.name) if each.is_dir() else shutil.copy(each, data)
    trial.start()
    trial.stack.wait_for(trial.serves, "the collector serves again", process=trial.collector)
    trial.give_up()


def main(arguments: Sequence[str]) -> None:
    """Try every fault, and print the table."""
    rows = [
        "| file | fault | pushes sent after it and acknowledged | `serve` | what is left |",
        "| --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory(prefix="veilleuse-lost-") as folder, prepared(Path(folder)) as trial:
        for lost in LOST:
            found = outcome(trial, lost)
            assert found.sound, found.report
            rows.append(found.row())
            print(found.said(), f"{found.seconds:.1f} s", found.last_line, sep="\n    ", flush=True)
    table = "\n".join(rows)
    print(table)
    if "--write" in arguments:
        page = ROOT / "docs" / "operations.md"
        before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        page.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
