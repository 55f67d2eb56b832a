# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The pushes of agents that offer more than a collector can carry: made before the clock starts."""

from __future__ import annotations

import hashlib
import random
from collections import deque
from functools import cache
from typing import Final

from tests.promises.support.contract import PushRequest, Record
from tests.promises.support.load import Identity
from tests.promises.support.measured import FIRST_MILLISECONDS

PERIOD: Final = 60_000
RETRY_SECONDS: Final = 1.0
"""Delay after an error that gives none."""


def run_of_pushes(identity: Identity, pushes: int, records: int, seed: int) -> deque[bytes]:
    """Return so many requests of one new epoch, in order.

    All agents measure the same: each record is made once for all of them.
    """
    epoch = random.Random(f"{seed}/{identity.agent_id}").randbytes(8)
    number = random.Random(seed).randrange(500_000)
    chain, seq = hashlib.sha256(epoch).digest(), 1
    made: deque[bytes] = deque()
    for _ in range(pushes):
        request = PushRequest(epoch=epoch, first_seq=seq, chain_before=chain)
        for _ in range(records):
            wire = _record(number)
            request.records.append(wire)
            chain, number = hashlib.sha256(chain + wire).digest(), number + 1
        seq += records
        made.append(request.SerializeToString())
    return made


@cache
def _record(number: int) -> bytes:
    record = Record()
    body = record.measurement
    body.period.clock.start_unix_milliseconds = FIRST_MILLISECONDS + number * PERIOD
    body.period.clock.duration_milliseconds = PERIOD
    body.calendar_sha256, body.idle_rule_version = bytes(32), 1
    body.points.add(kind=1, domain="package-0", boundary=3, subject="machine")
    cell = body.cells.add(band=1, state=1, supply=1, milliseconds=PERIOD)
    cell.energies.add(point_index=0, energy_millijoules=number * 7_919 % 100_000, covered_milliseconds=PERIOD)
    return bytes(record.SerializeToString(deterministic=True))
