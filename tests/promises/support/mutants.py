# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Runs collectors that keep all they get, each with one defect that the checker must find: `python -m
tests.promises.support.mutants <defect> serve`.

The product has no switch for a defect: a function of it is replaced in this process before the command runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from queue import Queue
from typing import Any, Final

from veilleuse.collector.__main__ import main
from veilleuse.collector.ingest.writer import Writer
from veilleuse.collector.model.records import AppendOutcome, AppendResult, DecodedRecord, ValidPush
from veilleuse.collector.months.retention import Retention, RetentionResult
from veilleuse.collector.store.sqlite import connection
from veilleuse.collector.store.sqlite.ingest import SqliteIngest
from veilleuse.collector.store.sqlite.periods import Elsewhere


def keeps_all() -> None:
    """Expire nothing, without a defect. Trials measure years in minutes, and must not count expired records
    as lost (P7 has its own test)."""
    setattr(Retention, "run", lambda self, today, stop=None: RetentionResult(0, 0, True))  # noqa: B010


def acknowledges_first() -> None:
    """Answer at once, and commit with the next push: a kill loses the last one at any moment."""
    append = Writer.append
    waiting: Queue[ValidPush] = Queue()

    def early(self: Writer, push: ValidPush, deadline: float | None = None) -> Future[AppendOutcome]:
        waiting.put(push)
        if waiting.qsize() > 1:
            append(self, waiting.get(), None)
        last = push.records[-1]
        answered: Future[AppendOutcome] = Future()
        answered.set_result(AppendOutcome(AppendResult.STORED, last.seq, last.chain, len(push.records)))
        return answered

    setattr(Writer, "append", early)  # noqa: B010  # a method is replaced on purpose


def stores_replays() -> None:
    """Do not check whether another epoch of the machine has brought a record already."""
    never: Callable[[Elsewhere, DecodedRecord], bool] = lambda self, record: False  # noqa: E731
    setattr(Elsewhere, "__contains__", never)  # noqa: B010


def adds_retries() -> None:
    """Add the sums of repeated records once more."""
    one = SqliteIngest._one

    def twice(self: SqliteIngest, push: ValidPush, batch: Any) -> AppendOutcome:
        outcome = one(self, push, batch)
        for record in push.records[: outcome.duplicate_records]:
            if record.period is not None:
                rows = len(batch._records)
                bucket, keys = self._keys(push.host_id, record.period)
                batch.measurement(push.host_id, 0, 0, record, record.period, bucket, keys)
                del batch._records[rows:]
        return outcome

    setattr(SqliteIngest, "_one", twice)  # noqa: B010


def ignores_the_chain() -> None:
    """Ignore the chain of a push, as from a machine that went back in time, or from a copy."""
    one = SqliteIngest._one

    def trusting(self: SqliteIngest, push: ValidPush, batch: Any) -> AppendOutcome:
        position = self.position(push.host_id, push.epoch)
        known = position.mark - push.first_seq + 1
        if known == 0:
            push = replace(push, chain_before=position.chain)
        elif 0 < known <= len(push.records):
            records = list(push.records)
            records[known - 1] = records[known - 1]._replace(chain=position.chain)
            push = replace(push, records=tuple(records))
        return one(self, push, batch)

    setattr(SqliteIngest, "_one", trusting)  # noqa: B010
    setattr(SqliteIngest, "_same", lambda self, stream, push: True)  # noqa: B010


def commits_without_fsync() -> None:
    """Set synchronous=NORMAL: a commit is in the page cache when it is acknowledged, not on the disk."""
    pragmas = tuple(p.replace("synchronous = FULL", "synchronous = NORMAL") for p in connection._WRITING)
    assert pragmas != connection._WRITING
    setattr(connection, "_WRITING", pragmas)  # noqa: B010


MUTANTS: Final = {
    mutant.__name__: mutant
    for mutant in (
        keeps_all,
        acknowledges_first,
        stores_replays,
        adds_retries,
        ignores_the_chain,
        commits_without_fsync,
    )
}

if __name__ == "__main__":
    keeps_all()
    MUTANTS[sys.argv.pop(1)]()
    sys.exit(main())
