# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""When the sending process is started, and what becomes of it. The measuring process never touches the network itself."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from veilleuse.agent.errors import SpoolError
from veilleuse.agent.model import Instant
from veilleuse.agent.ports import ControlKey, ResidentSpool
from veilleuse.agent.resident.child import FIRST_RETRY_MILLISECONDS, Child
from veilleuse.agent.settings import CONTACT_SECONDS
from veilleuse.wire.units import (
    MILLISECONDS_PER_DAY,
    MILLISECONDS_PER_HOUR,
    MILLISECONDS_PER_MINUTE,
    MILLISECONDS_PER_SECOND,
)
from veilleuse.wire.vocabulary import Population

log = logging.getLogger(__name__)

HELD_BELOW_MILLISECONDS: Final = MILLISECONDS_PER_MINUTE
"""Shorter periods keep the sender running: a start costs more than a held channel then."""
IDENTITY_FILE: Final = "id/certificate.pem"
"""Below `paths.state`; there once enrolled. `identity/store.py` has the rest: importing it here would cost memory."""
ORIGINAL_FILE: Final = "original/certificate.pem"
"""There while a copy asks for an identity of its own: `identity/clone.py`."""
COPIED_FILE: Final = "id/copied"
"""The sender found that this is a copy: measuring begins again."""

_SPREAD_MILLISECONDS: Final = 2 * MILLISECONDS_PER_MINUTE
"""A fleet that boots together does not call together. docs/wire.md §3."""
_WORKSTATION_SPREAD_MILLISECONDS: Final = 2 * MILLISECONDS_PER_HOUR
_ENROLMENT_SPREAD_MILLISECONDS: Final = MILLISECONDS_PER_MINUTE
"""A room that was imaged boots at once, and asks for its identities within 2 minutes: docs/guarantees.md S6."""
_OVERDUE_SPREAD_MILLISECONDS: Final = 10 * MILLISECONDS_PER_MINUTE
"""Workstations that missed a whole day may be on for a short while only."""
_LONGEST_CONTACT_MILLISECONDS: Final = 10 * MILLISECONDS_PER_MINUTE
_STOP_SECONDS: Final = 10


def random_below(bound: int) -> int:
    """Uniform, 0 to bound − 1; 0 when there is nothing to choose from. Not `random`: it imports hash functions."""
    return int.from_bytes(os.urandom(8), "big") % bound if bound > 0 else 0


class Contacts:
    """Starts the sender as a child when it is due, and stops it at the end."""

    def __init__(
        self,
        state: Path,
        config_file: Path | None,
        contact_seconds: int,
        *,
        join_file: Path | None = None,
        command: Sequence[str] | None = None,
        below: Callable[[int], int] = random_below,
    ) -> None:
        """`contact_seconds` 0 = the population's; `join_file` is looked for until enrolled. `command` is the sender's without its options."""
        self._identity = state / IDENTITY_FILE
        self._copied = state / COPIED_FILE
        self._ways_in = [state / ORIGINAL_FILE, *([join_file] if join_file is not None else [])]
        self._contact_seconds = contact_seconds
        self._child = Child(
            "sender",
            "send",
            config_file,
            stdin=subprocess.DEVNULL,
            stop_seconds=_STOP_SECONDS,
            command=command,
        )
        self._below = below
        self._hold = False
        self._chosen = False
        self._said_not_enrolled = False
        self._enrolled = False

    def set_contact_seconds(self, seconds: int) -> None:
        """Another time between two contacts; 0 = the population's."""
        self._contact_seconds = seconds

    def step(
        self,
        now: Instant,
        unix_milliseconds: int,
        spool: ResidentSpool,
        population: Population,
        period_milliseconds: int,
    ) -> bool:
        """Look after the child, or start one when it is time; whether one has just ended. Called once per tick."""
        if self._child.running:
            return self._watch(now)
        if self._child.is_waiting(now) or not self._may_send():
            return False
        hold = (
            self._enrolled
            and population is Population.SERVER
            and period_milliseconds < HELD_BELOW_MILLISECONDS
        )
        if not hold:
            late = self._late_milliseconds(unix_milliseconds, spool, population)
            if late is None:
                self._chosen = False
                return False
            if not self._chosen:
                self._chosen = True
                wait = self._below(self._spread_milliseconds(late, population))
                self._child.wait(now, wait)
                if wait > 0:
                    return False
        self._start(now, hold)
        return False

    def stop(self) -> None:
        """End the child and wait for it."""
        self._child.stop()

    @property
    def running(self) -> bool:
        """Whether a sender runs now."""
        return self._child.running

    @property
    def copy_found(self) -> bool:
        """Whether the sender ended because this machine is a copy. Asked once per tick."""
        return not self._child.running and os.path.exists(self._copied)

    def _may_send(self) -> bool:
        """Whether there is an identity, or something to get one with; not Path.exists, which raises where we may not look."""
        self._enrolled = os.path.exists(self._identity)
        if self._enrolled or any(map(os.path.exists, self._ways_in)):
            self._said_not_enrolled = False
            return True
        if not self._said_not_enrolled:
            self._said_not_enrolled = True
            log.warning("not enrolled: measured and kept, not sent", extra={"missing": str(self._identity)})
        return False

    def _late_milliseconds(self, unix: int, spool: ResidentSpool, population: Population) -> int | None:
        """How long the contact has been due, ≥ 0; None when it is not. Due at once when there never was one."""
        try:
            text = spool.control(ControlKey.NEXT_SEND)
            due = int(text) if text is not None else unix
        except SpoolError:
            return None  # the other process has it: next tick
        except ValueError:
            due = unix
        interval = (self._contact_seconds or CONTACT_SECONDS[population]) * MILLISECONDS_PER_SECOND
        if due - unix > 2 * interval + MILLISECONDS_PER_DAY:
            due = unix  # the clock was set back since: no such date was ever agreed
        return unix - due if unix >= due else None

    def _spread_milliseconds(self, late: int, population: Population) -> int:
        if not self._enrolled:
            return _ENROLMENT_SPREAD_MILLISECONDS
        if late < MILLISECONDS_PER_MINUTE:
            return 0  # the moment itself was drawn by the sender
        if population is not Population.WORKSTATION:
            return _SPREAD_MILLISECONDS
        return (
            _OVERDUE_SPREAD_MILLISECONDS if late > MILLISECONDS_PER_DAY else _WORKSTATION_SPREAD_MILLISECONDS
        )

    def _start(self, now: Instant, hold: bool) -> None:
        self._hold = hold
        self._child.start(now, *(("--hold", "--parent", str(os.getpid())) if hold else ()))

    def _watch(self, now: Instant) -> bool:
        """Whether it has ended. The sender keeps its own back-off in NEXT_SEND; the child's is for one that cannot even start."""
        code = self._child.take_exit_code()
        if code is None:
            if self._hold or self._child.running_milliseconds(now) <= _LONGEST_CONTACT_MILLISECONDS:
                return False
            log.warning("sender takes too long, ended")
            self._child.stop()
            self._child.count_failure(now)
            return True
        self._chosen = False
        log.debug("sender ended", extra={"code": code})
        if code == 0 and not self._hold:
            self._child.count_success(now, FIRST_RETRY_MILLISECONDS)
        else:
            self._child.count_failure(now)
        return True
