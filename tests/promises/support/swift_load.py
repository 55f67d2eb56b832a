# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Offers pushes at any rate over swift.py, answered or not. One process, one JSON line.

    python -m tests.promises.support.swift_load <plan.json> <seconds> <records> <a second> <pushes> <manner>
    python -m tests.promises.support.swift_load <plan.json> <seconds> <records> -<at once> <pushes> <manner>

The first form begins so many pushes a second, by agents without one under way, each timed from when it was
due. It is an open loop as long as an agent is free (`nobody_free` counts when none was). The second form is a
closed loop: it finds the capacity.

`pushes`: number that each agent of the plan prepares. Manners after a refusal: `obedient` agents wait for the
delay in the answer; `stubborn` ones push again at once; `impatient` ones do so too, and give up a call after
a tenth of a second.
"""

from __future__ import annotations

import heapq
import json
import selectors
import sys
import time
from collections import Counter, deque
from pathlib import Path
from typing import Final

from tests.promises.support.contract import STORED, PushResponse
from tests.promises.support.load import Plan
from tests.promises.support.overload import RETRY_SECONDS, run_of_pushes
from tests.promises.support.swift import LOST, Answer, Contexts, Line

IMPATIENT_SECONDS: Final = 0.1
PATIENT_SECONDS: Final = 15.0
RECONNECT_SECONDS: Final = 1.0


class Sender:
    """One agent with its next pushes."""

    def __init__(self, line: Line, requests: deque[bytes]) -> None:
        self.line = line
        self.requests = requests
        self.began = 0.0
        self.calling = False


class Load:
    """Sends until the time is over."""

    def __init__(self, plan: Plan, records: int, pushes: int, manner: str) -> None:
        self._contexts = Contexts(plan.roots_pem)
        self._address = plan.address
        self._manner = manner
        self._patience = IMPATIENT_SECONDS if manner == "impatient" else PATIENT_SECONDS
        self._selector = selectors.DefaultSelector()
        self._idle: deque[Sender] = deque()
        self._later: list[tuple[float, int, Sender, float]] = []
        """(time, tie, agent, start of the call to give up; 0: the agent becomes idle)."""
        self._ties = self._calling = 0
        self.seconds: list[float] = []
        self.refused: Counter[str] = Counter()
        self.told_when = self.calls = self.nobody_free = self.in_time = 0
        for identity in plan.agents:
            line = Line(self._contexts(identity), plan.address)
            sender = Sender(line, run_of_pushes(identity, pushes, records, plan.seed))
            self._selector.register(line.socket, selectors.EVENT_READ, sender)
            self._idle.append(sender)

    def run(self, seconds: float, per_second: float, at_once: int = 0) -> None:
        """Send for so many seconds, then wait for the last answer.

        `at_once` > 0: so many pushes are under way all the time, whatever `per_second`.
        """
        self._due = time.monotonic()
        until = self._until = self._due + seconds
        while (now := time.monotonic()) < until or self._calling:
            self._awake(now)
            if now < until and at_once:
                while self._idle and self._calling < at_once:
                    self._begin(self._idle.popleft(), now)
            elif now < until:
                self._due_now(now, per_second)
            pause = max(0.0, min(self._due - now, 0.05)) if now < until and not at_once else 0.05
            for key, _ in self._selector.select(pause):
                answer = key.data.line.receive()
                if answer is not None:
                    self._end(key.data, answer)

    def _due_now(self, now: float, per_second: float) -> None:
        while self._due <= now:
            if self._idle:
                self._begin(self._idle.popleft(), self._due)
            else:
                self.nobody_free += 1
            self._due += 1 / per_second

    def _begin(self, sender: Sender, due: float) -> None:
        if not sender.requests:
            self.refused["the plan was too small"] += 1
            return
        sender.calling, sender.began = True, due
        self._calling += 1
        self.calls += 1
        sender.line.call("Push", sender.requests[0])
        self._at(due + self._patience, sender, due)

    def _end(self, sender: Sender, answer: Answer) -> None:
        now = time.monotonic()
        if answer is LOST:
            self._selector.unregister(sender.line.socket)
            sender.line.close()
            self.refused[LOST.reason] += 1
            self._calling -= sender.calling
            sender.calling = False
            return
        if not sender.calling:
            return
        sender.calling = False
        self._calling -= 1
        if answer.status == 0 and PushResponse.FromString(answer.message).outcome == STORED:
            sender.requests.popleft()
            self.seconds.append(now - sender.began)
            self.in_time += now < self._until
            self._idle.append(sender)
            return
        self.refused[answer.reason or f"status {answer.status}"] += 1
        self.told_when += answer.wait_seconds > 0
        if self._manner == "obedient":
            self._at(now + (answer.wait_seconds or RETRY_SECONDS), sender, 0.0)
        else:
            self._idle.append(sender)

    def _at(self, when: float, sender: Sender, call: float) -> None:
        self._ties += 1
        heapq.heappush(self._later, (when, self._ties, sender, call))

    def _awake(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            _, _, sender, call = heapq.heappop(self._later)
            if not call:
                self._idle.append(sender)
            elif sender.calling and sender.began == call:
                sender.line.cancel()
                sender.calling = False
                self._calling -= 1
                self.refused["gave up"] += 1
                self._idle.append(sender)


def main() -> None:
    """Run the load as the module's docstring says, and print the results."""
    _, file, for_seconds, records, rate, pushes, manner = sys.argv
    load = Load(Plan.load(Path(file)), int(records), int(pushes), manner)
    began, used = time.monotonic(), time.process_time()
    load.run(float(for_seconds), float(rate), max(0, -int(float(rate))))
    elapsed = time.monotonic() - began
    ordered = sorted(load.seconds) or [0.0]
    print(
        json.dumps(
            {
                "called_per_second": load.calls / float(for_seconds),
                "stored": len(load.seconds),
                "stored_per_second": load.in_time / float(for_seconds),
                "p50_seconds": ordered[len(ordered) // 2],
                "p99_seconds": ordered[len(ordered) * 99 // 100],
                "refused": dict(load.refused),
                "told_when": load.told_when,
                "nobody_free": load.nobody_free,
                "processor": (time.process_time() - used) / elapsed,
            }
        )
    )


if __name__ == "__main__":
    main()
