# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Starts and watches the sending process. The measuring process itself never uses the network."""

from __future__ import annotations

import logging
import os
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
"""Shorter periods keep the sender running: each start would cost more than an open channel."""
IDENTITY_FILE: Final = "id/certificate.pem"
"""Path below `paths.state` that exists once enrolled.

The other paths are in `identity/store.py`; importing it here would cost memory.
"""
ORIGINAL_FILE: Final = "original/certificate.pem"
"""Exists while a copy asks for an identity of its own: `identity/clone.py`."""
COPIED_FILE: Final = "id/copied"
"""Exists when the sender found that this is a copy; measuring then starts again."""

_SPREAD_MILLISECONDS: Final = 2 * MILLISECONDS_PER_MINUTE
"""Random delay, so that a fleet that boots together does not call together. docs/wire.md §3."""
_WORKSTATION_SPREAD_MILLISECONDS: Final = 2 * MILLISECONDS_PER_HOUR
_ENROLMENT_SPREAD_MILLISECONDS: Final = MILLISECONDS_PER_MINUTE
"""Random delay before enrolment.

A room of imaged machines boots at once and enrols within 2 minutes: docs/guarantees.md S6.
"""
_OVERDUE_SPREAD_MILLISECONDS: Final = 10 * MILLISECONDS_PER_MINUTE
"""Shorter random delay for workstations that missed a whole day: they may be on for a short time only."""
_LONGEST_CONTACT_MILLISECONDS: Final = 10 * MILLISECONDS_PER_MINUTE
_STOP_SECONDS: Final = 10


def random_below(bound: int) -> int:
    """Return a uniform number from 0 to bound − 1; 0 when `bound` is 0.

    `random` would import hash functions.
    """
    return int.from_bytes(os.urandom(8), "big") % bound if bound > 0 else 0


class Contacts:
    """Starts the sender as a child process when a contact is due, and stops it at the end."""

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
        """Take `contact_seconds` (0 = the population's) and the sender's `command` without its options.

        `join_file` is checked until the machine is enrolled.
        """
        self._identity = state / IDENTITY_FILE
        self._copied = state / COPIED_FILE
        self._ways_in = [state / ORIGINAL_FILE, *([join_file] if join_file is not None else [])]
        self._contact_seconds = contact_seconds
        self._child = Child(
            "sender",
            "send",
            config_file,
            stop_seconds=_STOP_SECONDS,
            command=command,
        )
        self._below = below
        self._hold = False
        self._chosen = False
        self._said_not_enrolled = False
        self._enrolled = False

    def set_contact_seconds(self, seconds: int) -> None:
        """Set the interval between two contacts; 0 = the population's."""
        self._contact_seconds = seconds

    def step(
        self,
        now: Instant,
        unix_milliseconds: int,
        spool: ResidentSpool,
        population: Population,
        period_milliseconds: int,
    ) -> bool:
        """Watch the child, or start one when a contact is due. Called once per tick.

        Return True when a child has just ended.
        """
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
        """True while a sender runs."""
        return self._child.running

    @property
    def copy_found(self) -> bool:
        """True when the sender ended because this machine is a copy. Checked once per tick."""
        return not self._child.running and os.path.exists(self._copied)

    def _may_send(self) -> bool:
        """Tell whether there is an identity, or a file to get one with.

        Path.exists is not used: it raises on a folder that we may not read.
        """
        self._enrolled = os.path.exists(self._identity)
        if self._enrolled or any(map(os.path.exists, self._ways_in)):
            self._said_not_enrolled = False
            return True
        if not self._said_not_enrolled:
            self._said_not_enrolled = True
            log.warning("not enrolled: measured and kept, not sent", extra={"missing": str(self._identity)})
        return False

    def _late_milliseconds(self, unix: int, spool: ResidentSpool, population: Population) -> int | None:
        """Return how long the contact has been due, ≥ 0 ms; None when it is not due.

        It is due at once when there never was a contact.
        """
        try:
            text = spool.control(ControlKey.NEXT_SEND)
            due = int(text) if text is not None else unix
        except SpoolError:
            return None  # locked by the other process: next tick
        except ValueError:
            due = unix
        interval = (self._contact_seconds or CONTACT_SECONDS[population]) * MILLISECONDS_PER_SECOND
        if due - unix > 2 * interval + MILLISECONDS_PER_DAY:
            due = unix  # the clock was set back: no contact was ever planned so late
        return unix - due if unix >= due else None

    def _spread_milliseconds(self, late: int, population: Population) -> int:
        if not self._enrolled:
            return _ENROLMENT_SPREAD_MILLISECONDS
        if late < MILLISECONDS_PER_MINUTE:
            return 0  # the sender chose the random moment
        if population is not Population.WORKSTATION:
            return _SPREAD_MILLISECONDS
        return (
            _OVERDUE_SPREAD_MILLISECONDS if late > MILLISECONDS_PER_DAY else _WORKSTATION_SPREAD_MILLISECONDS
        )

    def _start(self, now: Instant, hold: bool) -> None:
        self._hold = hold
        self._child.start(now, *(("--hold",) if hold else ()), attached=hold)

    def _watch(self, now: Instant) -> bool:
        """Tell whether the child has ended.

        The sender stores its own back-off in NEXT_SEND. The child's back-off is for a sender that cannot even
        start.
        """
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
