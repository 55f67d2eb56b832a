# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""How many machines speak under one identity, told from the nonces of Hello. PROMISES.md §2.7, decision 0017. Pure.

Each Hello answer carries a new nonce, which its receiver shows at its next Hello. Whoever shows the newest one is fine.
An older one has three explanations: the answer was lost; the machine went back (a snapshot, a backup); it is a copy.
The newest nonce, passed over, is then noted as lost. A machine that lost an answer, or went back, never shows it any
more. When it does come back, somebody held it all the time: once, that may be one machine that went back and forth
between two snapshots, and is believed; the second time two holders alternate, and whoever shows it is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from veilleuse.wire.vocabulary import Population

INSTANCE_ID_BYTES: Final = 16
LOST_KEPT: Final = 8
BELIEVED_RETURNS: Final = 1


@dataclass(frozen=True, slots=True)
class Holders:
    """What is remembered of one identity."""

    current: bytes = b""
    """Nonce of the last answer, 16 bytes; empty before the first."""
    lost: tuple[bytes, ...] = ()
    """Nonces passed over while they were current, oldest first; at most LOST_KEPT."""
    returns: int = 0
    """Lost ones that came back and were believed."""


class Meeting(StrEnum):
    """What a nonce tells; the values are labels of a counter."""

    CURRENT = "ok"
    STALE = "stale_instance"
    RETURNED = "returned_instance"
    CONFLICT = "identity_conflict"


def meet(known: Holders, shown: bytes, following: bytes) -> tuple[Meeting, Holders]:
    """What the nonce `shown` tells, and what to remember once the answer carries `following`.

    CONFLICT: the caller gets no answer, and whoever holds the current nonce stays served.
    """
    if shown == known.current:
        return Meeting.CURRENT, replace(known, current=following)
    passed_over = (known.current,) if known.current else ()
    if shown not in known.lost:
        lost = (*known.lost, *passed_over)[-LOST_KEPT:]
        return Meeting.STALE, replace(known, current=following, lost=lost)
    others = tuple(nonce for nonce in known.lost if nonce != shown)
    if known.returns >= BELIEVED_RETURNS:
        # Last again: the other's lost answers shall not push out the proof against this one.
        return Meeting.CONFLICT, replace(known, lost=(*others, shown))
    return Meeting.RETURNED, Holders(following, (*others, *passed_over)[-LOST_KEPT:], known.returns + 1)


def named(population: Population, agent_id: bytes) -> dict[str, str]:
    """Facts of a log line about a machine: its id on servers only, elsewhere the line's time would tell when it was used."""
    facts = {"population": population.value}
    return {**facts, "agent_id": agent_id.hex()} if population is Population.SERVER else facts
