# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test when the sender is started, with a real child process, a real spool and a settable clock."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.fakes.measuring import FakeClock
from tests.support.processes import HANGS
from tests.support.waiting import until
from veilleuse.agent.ports import ControlKey
from veilleuse.agent.resident.sender_child import IDENTITY_FILE, Contacts
from veilleuse.agent.spool.database import Bounds
from veilleuse.agent.spool.recovery import open_spool
from veilleuse.wire.vocabulary import Population


class ChildBench:
    """Runs contacts over a spool, with a child that leaves a mark."""

    def __init__(self, state: Path, code: str = "") -> None:
        self.state = state
        self.mark = state / "mark"
        self.clock = FakeClock()
        body = f"import sys; open({str(self.mark)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n'); {code}"
        self.spool = open_spool(state / "spool.db", Bounds(1 << 26, 0), self.clock.unix)
        self.contacts = Contacts(
            state, Path("/c.toml"), 0, command=[sys.executable, "-c", body], below=lambda bound: bound
        )

    def enrol(self) -> None:
        path = self.state / IDENTITY_FILE
        path.parent.mkdir(parents=True)
        path.write_text("x")

    def step(
        self, milliseconds: int = 10_000, population: Population = Population.SERVER, period: int = 300_000
    ) -> None:
        self.clock.advance(milliseconds)
        self.contacts.step(self.clock.now(), self.clock.unix, self.spool, population, period)

    def finish(self) -> None:
        """Step until the child has ended."""

        def ended() -> bool:
            if self.contacts.running:
                self.step(1)
            return not self.contacts.running

        until(ended)

    def starts(self) -> list[str]:
        return self.mark.read_text().splitlines() if self.mark.exists() else []


@pytest.fixture
def child_bench(tmp_path: Path) -> Iterator[Callable[..., ChildBench]]:
    """Return a function that makes a bench, and stop the benches afterwards."""
    made: list[ChildBench] = []

    def make(code: str = "") -> ChildBench:
        made.append(ChildBench(tmp_path, code))
        return made[-1]

    yield make
    for bench in made:
        bench.contacts.stop()
        bench.spool.close()


def test_not_enrolled_nothing_is_started(child_bench, caplog):
    """The missing enrolment is logged once and checked at every tick."""
    bench = child_bench()
    bench.step()
    bench.step()
    assert bench.starts() == []
    assert caplog.text.count("not enrolled") == 1
    bench.enrol()
    bench.step()
    bench.finish()
    assert bench.starts() == ["--config /c.toml"]


def test_contacts_keep_their_date(child_bench):
    """A contact waits for NEXT_SEND; a date long past is spread, so that a fleet does not call at once."""
    bench = child_bench()
    bench.enrol()
    due = bench.clock.unix + 100_000
    bench.spool.append([], {ControlKey.NEXT_SEND: str(due)})
    for _ in range(9):
        bench.step()
    assert not bench.contacts.running
    bench.step()
    bench.finish()
    assert len(bench.starts()) == 1
    bench.step(600_000)
    assert not bench.contacts.running  # late by ten minutes: waits up to 120 s more
    bench.step(110_000)
    assert not bench.contacts.running
    bench.step()
    bench.finish()
    assert len(bench.starts()) == 2


def test_a_date_from_another_clock_is_not_waited_for(child_bench):
    """A NEXT_SEND years ahead or unreadable is due now."""
    bench = child_bench()
    bench.enrol()
    for text in (str(bench.clock.unix + 10**12), "nonsense"):
        bench.spool.append([], {ControlKey.NEXT_SEND: text})
        bench.step(60_000)
        bench.finish()
    assert len(bench.starts()) == 2


def test_a_sender_that_fails_is_not_restarted_at_once(child_bench):
    """The waits are 5, 10, 20 … s, at most 15 min."""
    bench = child_bench("sys.exit(1)")
    bench.enrol()
    moments = []
    for _ in range(40):
        bench.step(1_000)
        if bench.contacts.running:
            moments.append(bench.clock.boottime)
            bench.finish()
    assert len(moments) == 4
    assert [
        b - a >= wait for a, b, wait in zip(moments, moments[1:], (5_000, 10_000, 20_000), strict=False)
    ] == [True] * 3


def test_short_periods_hold_the_sender(child_bench):
    """With periods under a minute the sender stays open until `stop`."""
    bench = child_bench(HANGS)
    bench.enrol()
    bench.step(period=10_000)
    until(bench.starts)
    for _ in range(100):
        bench.step(period=10_000)
    assert bench.contacts.running
    assert bench.starts() == ["--config /c.toml --hold --attached"]
    bench.contacts.stop()
    assert not bench.contacts.running


def test_a_sender_that_cannot_start(child_bench, tmp_path):
    """A missing command leaves no child and raises nothing."""
    bench = child_bench()
    bench.enrol()
    bench.contacts = Contacts(tmp_path, None, 0, command=[str(tmp_path / "missing")])
    bench.step()
    assert not bench.contacts.running


@pytest.mark.parametrize("way", ["join.json", "original/certificate.pem"])
def test_what_has_a_way_in_asks_within_a_minute(tmp_path, way):
    """A machine with a join file or a copied identity starts a sender within a minute, never a held one."""
    asked: list[int] = []

    def below(bound: int) -> int:
        asked.append(bound)
        return bound

    bench = ChildBench(tmp_path)
    mark = f"open({str(bench.mark)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')"
    bench.contacts = Contacts(
        tmp_path,
        None,
        0,
        join_file=tmp_path / "join.json",
        command=[sys.executable, "-c", f"import sys; {mark}"],
        below=below,
    )
    bench.step(period=10_000)
    assert asked == []
    (tmp_path / way).parent.mkdir(exist_ok=True)
    (tmp_path / way).write_text("x")
    bench.step(period=10_000)
    assert asked == [60_000]
    bench.step(59_999, period=10_000)
    assert not bench.mark.exists()
    bench.step(period=10_000)
    bench.finish()
    assert bench.starts() == [""]
    bench.spool.close()


def test_a_copy_is_noticed_when_the_sender_has_ended(child_bench):
    """The mark of a copy counts once the sender has ended."""
    bench = child_bench(HANGS)
    bench.enrol()
    bench.step()
    (bench.state / "id/copied").write_text("x")
    found = [bench.contacts.copy_found]
    bench.contacts._child._process.terminate()
    bench.finish()
    found.append(bench.contacts.copy_found)
    assert found == [False, True]
