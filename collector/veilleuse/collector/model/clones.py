# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Detects clones: two machines under one identity, by the nonces of Hello. docs/wire.md. Pure.

Each Hello answer has a new nonce, which its receiver returns in its next Hello. Nonces are numbered, so an
older one is recognised. Two cases are certain. Answers were lost, and nothing was stored since. Or the nonce
is newer than the stored one, because the collector was restored. Any other older nonce comes from a machine
that was set back, or from a clone. Its holder waits. If the holder of the newest nonce calls again, the
waiting one is a clone. If nobody else calls during the wait, the machine was set back, and is served.

Two identities with one pseudonym are one device, or a copy: which of both is told by their contacts alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from typing import Final

from veilleuse.collector.model.hosts import Host, HostStatus
from veilleuse.collector.model.records import DataKind
from veilleuse.wire.units import MILLISECONDS_PER_DAY
from veilleuse.wire.vocabulary import Population

INSTANCE_ID_BYTES: Final = 16
CHANCE_BYTES: Final = 8
NONCES_KEPT: Final = 8
"""Number of nonces stored, of holders that wait and of refused ones.
The oldest are dropped, and wait again if they return.
"""
_EMPTY: Final = b"\xff" * INSTANCE_ID_BYTES
_NUMBERED: Final = bytes(3)
"""Prefix of a numbered nonce; 5 bytes of number and 8 random bytes follow.
Before 0.2 all 16 bytes were random.
"""
_NUMBER_END: Final = 8
_MOST: Final = 1 << 39
"""Greater numbers were never issued."""
_WAITS_MILLISECONDS: Final = {Population.SERVER: MILLISECONDS_PER_DAY}
_LONG_WAIT_MILLISECONDS: Final = 7 * MILLISECONDS_PER_DAY
_LOOKS: Final = 96
"""Number of retries during a wait: a server every 15 minutes, another machine every 105."""
SHARED_PSEUDONYMS: Final = "shared_pseudonyms"
"""Key in the table meta: groups of host ids with one pseudonym, JSON; no pseudonym itself."""
IN_USE_DAYS: Final = 30
"""An identity without a contact for more days is not in use."""
_EPOCH: Final = date(1970, 1, 1).toordinal()
_NEVER: Final = date.max.toordinal()


@dataclass(frozen=True, slots=True)
class Holders:
    """Stored nonces of one identity."""

    current: bytes = b""
    """Nonce of the last answer, 16 bytes; empty before the first."""
    spare: tuple[bytes, ...] = ()
    """Nonces equally valid while no more records are stored:
    accepted as the newest, or issued since; oldest first.
    """
    records: int = 0
    """Records stored of this identity at the last Hello that was not refused."""
    waiting: tuple[bytes, ...] = ()
    """Older nonces whose holders wait, oldest first."""
    copies: tuple[bytes, ...] = ()
    """Older nonces of confirmed clones, oldest first."""
    set_back: bytes | None = None
    """Nonce served after its wait: a machine that is reset at each start sends it again and again."""


class NonceVerdict(StrEnum):
    """Verdict on a nonce; the values are labels of a counter."""

    CURRENT = "ok"
    STALE = "stale_instance"
    WAITS = "older_instance"
    CONFLICT = "identity_conflict"


def wait_milliseconds(population: Population) -> int:
    """Return how long the holder of the newest nonce must be silent until an older one is served, ms."""
    return _WAITS_MILLISECONDS.get(population, _LONG_WAIT_MILLISECONDS)


def look_again_milliseconds(population: Population) -> int:
    """Return the retry interval of a waiting holder, ms."""
    return wait_milliseconds(population) // _LOOKS


def judge_nonce(
    known: Holders, shown: bytes, chance: bytes, records: int, *, silent: bool
) -> tuple[NonceVerdict, Holders]:
    """Return the verdict on nonce `shown`, and the nonces to store;
    their `current` is the answer's unless refused.

    `chance`: CHANCE_BYTES random bytes. `records`: records of this identity stored so far. `silent`: the wait
    since the last served Hello is over. WAITS and CONFLICT: the caller gets no answer, and the holder of the
    newest nonce stays served.
    """
    following = _number_nonce(max(_number(known.current), _number(shown)) + 1, chance)
    delivered = records > known.records
    others = () if delivered else tuple(one for one in (*known.spare, known.current) if one != shown)
    spare = (*others, shown)[-NONCES_KEPT:]
    served = Holders(following, spare, records, (), known.copies, known.set_back)
    if shown == known.current:
        return NonceVerdict.CURRENT, _mark_clones(served, known.waiting)
    if shown in known.copies:
        return NonceVerdict.CONFLICT, known
    if not _number(known.current) or _number(shown) > _number(known.current):
        return NonceVerdict.STALE, served
    if shown in known.waiting:
        if delivered:  # by the other holder, whose Hello came before
            return NonceVerdict.CONFLICT, _mark_clones(replace(known, waiting=()), known.waiting)
        return (
            (NonceVerdict.STALE, replace(served, set_back=shown)) if silent else (NonceVerdict.WAITS, known)
        )
    if shown == known.set_back or (shown in known.spare and not delivered):
        return NonceVerdict.STALE, _mark_clones(served, known.waiting)
    return (
        NonceVerdict.WAITS,
        Holders(
            known.current,
            () if delivered else known.spare,
            records,
            (*known.waiting, shown)[-NONCES_KEPT:],
            known.copies,
        ),
    )


def pack_nonces(nonces: tuple[bytes, ...]) -> bytes:
    """Join nonces of 16 bytes each; an empty one as 16 bytes 0xff."""
    return b"".join(nonce or _EMPTY for nonce in nonces)


def unpack_nonces(row: bytes) -> tuple[bytes, ...]:
    """Split the result of `packed`."""
    parts = (row[at : at + INSTANCE_ID_BYTES] for at in range(0, len(row), INSTANCE_ID_BYTES))
    return tuple(b"" if nonce == _EMPTY else nonce for nonce in parts)


def find_twins(hosts: Iterable[Host], kind: DataKind, today: date) -> tuple[Host, ...]:
    """Return the hosts of `find_twin_groups`."""
    groups = find_twin_groups(hosts, kind, today)
    return tuple({host.host_id: host for group in groups for host in group}.values())


def find_twin_groups(hosts: Iterable[Host], kind: DataKind, today: date) -> tuple[tuple[Host, ...], ...]:
    """Return the hosts that share a pseudonym, each group once, in use on a UTC day.

    All are active and made contact in the last 30 days, and with another one on a day after the later of both
    enrolled: the old identity of a machine that was installed again never does.
    """
    known = {host.host_id: host for host in hosts if host.status is HostStatus.ACTIVE}
    found: dict[tuple[int, ...], tuple[Host, ...]] = {}
    for group in json.loads(kind.extra.get(SHARED_PSEUDONYMS, "[]")):
        shared = sorted((known[one] for one in group if one in known), key=lambda host: host.enrolled_on)
        used = _find_used_together(shared, today.toordinal() - IN_USE_DAYS)
        if used:
            found[tuple(sorted(used))] = tuple(host for host in shared if host.host_id in used)
    return tuple(found.values())


def _find_used_together(hosts: Sequence[Host], oldest: int) -> set[int]:
    """Return their host ids. `hosts`: in the order of enrolment. `oldest`: first day number that counts."""
    since = [max(host.enrolled_on.toordinal() + 1, oldest) for host in hosts]
    heard = [_EPOCH + (host.last_contact_unix_milliseconds or 0) // MILLISECONDS_PER_DAY for host in hosts]
    found: set[int] = set()
    newest = 0
    for host, begins, day in zip(hosts, since, heard, strict=True):
        if begins <= min(day, newest):
            found.add(host.host_id)
        newest = max(newest, day)
    first = _NEVER
    for host, begins, day in reversed(list(zip(hosts, since, heard, strict=True))):
        if first <= day:
            found.add(host.host_id)
        if begins <= day:
            first = begins
    return found


def log_facts(population: Population, agent_id: bytes) -> dict[str, str]:
    """Return the log facts of a machine, with its id for servers only.

    For other machines, the line's time would reveal when they were used.
    """
    facts = {"population": population.value}
    return {**facts, "agent_id": agent_id.hex()} if population is Population.SERVER else facts


def _mark_clones(known: Holders, copies: tuple[bytes, ...]) -> Holders:
    """Return the same nonces with these marked as clones."""
    set_back = None if known.set_back in copies else known.set_back
    return replace(known, copies=(*known.copies, *copies)[-NONCES_KEPT:], set_back=set_back)


def _number_nonce(number: int, chance: bytes) -> bytes:
    return _NUMBERED + number.to_bytes(_NUMBER_END - len(_NUMBERED), "big") + chance


def _number(nonce: bytes) -> int:
    """Return the number of a nonce; 0 for an empty or unnumbered one."""
    number = int.from_bytes(nonce[:_NUMBER_END], "big") if nonce.startswith(_NUMBERED) else 0
    return number if number < _MOST else 0
