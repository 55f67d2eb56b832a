# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R14, collector: with bytes of its databases flipped or cut off it serves, or stops with one clear line."""

from __future__ import annotations

import logging
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.promises.results import in_words
from tests.support import clock
from tests.support.records import clock_record, spool_of
from tests.support.stack import Stack, get
from tests.support.waiting import until
from veilleuse.collector.errors import CollectorError, StoreDamaged
from veilleuse.collector.settings import Store
from veilleuse.collector.store import open_store
from veilleuse.wire.units import MILLISECONDS_PER_HOUR

SEED = 20_261_126
MINUTE = 60_000
DATABASES = ("data.db", "identity.db")


class Damaged:
    """A data directory with one machine's records; each mutation starts from the same original."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.chance = random.Random(SEED)
        collector = stack.start_collector()
        stack.enrol()
        start = (clock.unix_milliseconds() // MILLISECONDS_PER_HOUR - 24) * MILLISECONDS_PER_HOUR
        with closing(spool_of(stack.state)) as spool:
            bodies = [
                clock_record(start + n * MINUTE, MINUTE, metered_millijoules=9).to_json() for n in range(300)
            ]
            spool.append(bodies, {})
        stack.must("veilleuse-agent", "send")
        stack.stop(collector)
        self.original = stack.folder / "original"
        shutil.copytree(stack.data, self.original)

    def mutate(self) -> str:
        """Damage one database in a fresh copy; return the database's name."""
        shutil.rmtree(self.stack.data)
        shutil.copytree(self.original, self.stack.data)
        chance = self.chance
        name = chance.choice(DATABASES)
        content = bytearray((self.original / name).read_bytes())
        if chance.random() < 0.3:
            del content[chance.randrange(len(content)) :]
        for _ in range(chance.choice([1, 1, 2, 8, 300]) if content else 0):
            content[chance.randrange(len(content))] = chance.randrange(256)
        (self.stack.data / name).write_bytes(content)
        return name


@pytest.fixture
def damaged(tmp_path: Path) -> Iterator[Damaged]:
    """Yield a data directory after one real contact."""
    logging.getLogger("veilleuse").setLevel(logging.CRITICAL)
    with Stack(tmp_path) as stack:
        yield Damaged(stack)
    logging.getLogger("veilleuse").setLevel(logging.NOTSET)


@pytest.mark.promise("R14")
@pytest.mark.parametrize("count", [50, pytest.param(1_000, marks=pytest.mark.long)])
def test_the_store_opens_or_says_one_line(damaged, count, figure):
    """The store opens, or its error is one line; an error of damage names the file and the repair."""
    outcomes: Counter[str] = Counter()
    for number in range(count):
        name = damaged.mutate()
        error = _opened(damaged.stack.data)
        outcomes["open" if error is None else "refused with one line"] += 1
        where = f"mutation {number} of seed {SEED}, {name}: {error!r}"
        assert error is None or isinstance(error, CollectorError), where
        assert error is None or "\n" not in str(error), where
        if isinstance(error, StoreDamaged):
            outcomes["name the file and the repair"] += 1
            assert name in str(error), where
            assert "restore the data directory from a backup" in str(error), where
    figure(f"{count:,} damaged data directories of a collector: {in_words(outcomes)}")
    assert outcomes["name the file and the repair"] > count // 10


def _opened(data_dir: Path) -> Exception | None:
    """Return the error that `open_store` raised, or None."""
    try:
        open_store(data_dir, Store()).close()
    except Exception as error:  # noqa: BLE001  # whatever it is, it is looked at
        return error
    return None


@pytest.mark.promise("R14")
@pytest.mark.parametrize("count", [3, pytest.param(40, marks=pytest.mark.long)])
def test_the_real_collector_serves_or_stops_with_one_line(damaged, count, figure):
    """`veilleuse serve` on a damaged directory answers, or ends with code 1 and one clear line."""
    outcomes: Counter[str] = Counter()
    damaged.chance.seed(SEED + 1)
    log = damaged.stack.folder / "veilleuse.log"
    for number in range(count):
        name = damaged.mutate()
        log.unlink(missing_ok=True)
        process = damaged.stack.start("veilleuse", "serve")
        serves = [False]

        def is_decided(process: subprocess.Popen[bytes] = process, serves: list[bool] = serves) -> bool:
            serves[0] = _answers(damaged.stack.url)
            return serves[0] or process.poll() is not None

        until(is_decided, f"{number} {name}")
        if serves[0]:
            assert damaged.stack.stop(process) == 0, f"{number} {name}: {log.read_text()}"
            outcomes["serve"] += 1
        else:
            said = log.read_text().strip()
            assert process.returncode == 1, f"{number} {name}: {said}"
            assert "Traceback" not in said, f"{number} {name}: {said}"
            assert "restore the data directory from a backup" in said.splitlines()[-1], (
                f"{number} {name}: {said}"
            )
            outcomes["stop with one line"] += 1
        damaged.stack.processes.remove(process)
    figure(f"{count} collectors started on a damaged directory: {in_words(outcomes)}")


def _answers(url: str) -> bool:
    try:
        get(url + "healthz", 1)
    except OSError:
        return False
    return True
