# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What the collector may set, on trial until a contact has confirmed it: docs/wire.md §4. Pure.

The sender leaves a candidate in the control table. The resident puts it on trial. A sender that saw it on trial and had a
good contact makes it the one that stays; without one in time the resident goes back to what was good before.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from veilleuse.agent.model import Instant
from veilleuse.agent.ports import ControlKey
from veilleuse.wire.configuration import TRIAL_MILLISECONDS, Configuration

T = TypeVar("T")

MOST_RESTARTS: Final = 1
"""How often another boot begins the time of a trial again: a machine that crashes with a setting gets out of it."""


class Remote(NamedTuple):
    """A configuration of the collector's."""

    sha256: str
    """Hexadecimal: its name. Empty = none, the machine's own file alone."""
    configuration: Configuration = Configuration()

    def to_json(self) -> str:
        """One line for the control table."""
        return json.dumps({"sha256": self.sha256, "values": self.configuration.to_json()})

    @classmethod
    def from_json(cls, text: str) -> Remote:
        """Inverse of `to_json`; bounds are checked again. Raises ValueError."""
        try:
            raw = json.loads(text)
            return cls(str(raw["sha256"]), Configuration.from_json(raw["values"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a configuration: {error}") from error


NONE: Final = Remote("")


class Trial(NamedTuple):
    """A configuration in use that no contact has confirmed yet."""

    remote: Remote
    boot_id: str
    since_milliseconds: int
    """Boot-time at which its time began."""
    restarts: int = 0
    """Other boots at which its time began again."""

    def is_over(self, now: Instant) -> bool:
        """Whether its time has passed, in the boot that it names."""
        return not 0 <= now.boottime_milliseconds - self.since_milliseconds < TRIAL_MILLISECONDS

    def to_json(self) -> str:
        """One line for the control table."""
        return json.dumps([self.remote.to_json(), *self[1:]])

    @classmethod
    def from_json(cls, text: str) -> Trial:
        """Inverse of `to_json`. Raises ValueError."""
        try:
            remote, boot_id, since, restarts = json.loads(text)
            return cls(Remote.from_json(remote), str(boot_id), int(since), int(restarts))
        except TypeError as error:
            raise ValueError(f"not a trial: {error}") from error


class ConfigStatus(NamedTuple):
    """What is in use, and what the control table has to say for it."""

    good: Remote
    trial: Trial | None
    changes: dict[str, str | None]
    """Control keys to be set in the transaction that makes it so."""

    @property
    def in_use(self) -> Remote:
        """The one on trial, else the last good one."""
        return self.good if self.trial is None else self.trial.remote


def look(control: Callable[[str], str | None], now: Instant, boot_id: str, *, accept: bool) -> ConfigStatus:
    """How things stand now: a candidate goes on trial, a trial whose time has passed is given up.

    `accept` False: the machine's own file forbids it, nothing is in use. May raise what `control` raises.
    """
    if not accept:
        return ConfigStatus(NONE, None, {})
    changes: dict[str, str | None] = {}
    good = readable(Remote.from_json, control(ControlKey.CONFIGURATION)) or NONE
    trial = readable(Trial.from_json, control(ControlKey.CONFIGURATION_TRIAL))
    if trial is not None and trial.boot_id != boot_id and trial.restarts < MOST_RESTARTS:
        trial = Trial(trial.remote, boot_id, now.boottime_milliseconds, trial.restarts + 1)
        changes[ControlKey.CONFIGURATION_TRIAL] = trial.to_json()
    if trial is not None and (trial.boot_id != boot_id or trial.is_over(now)):
        changes = given_up(good, trial)
        trial = None
    text = control(ControlKey.CONFIGURATION_CANDIDATE)
    if text is None:
        return ConfigStatus(good, trial, changes)
    candidate = readable(Remote.from_json, text)
    changes[ControlKey.CONFIGURATION_CANDIDATE] = None
    failed = (control(ControlKey.CONFIGURATION_FAILED), changes.get(ControlKey.CONFIGURATION_FAILED))
    if candidate is None or candidate == (good if trial is None else trial.remote):
        return ConfigStatus(good, trial, changes)
    if candidate.sha256 == good.sha256:  # the one on trial is called back
        trial = None
    elif candidate.sha256 in failed:
        return ConfigStatus(good, trial, changes)
    else:
        trial = Trial(candidate, boot_id, now.boottime_milliseconds)
        changes[ControlKey.CONFIGURATION_FAILED] = None
    changes[ControlKey.CONFIGURATION_TRIAL] = None if trial is None else trial.to_json()
    return ConfigStatus(good, trial, changes)


def given_up(good: Remote, trial: Trial) -> dict[str, str | None]:
    """Control values that go back to the last good one, whatever a sender has just confirmed."""
    return {
        ControlKey.CONFIGURATION: good.to_json(),
        ControlKey.CONFIGURATION_TRIAL: None,
        ControlKey.CONFIGURATION_FAILED: trial.remote.sha256,
    }


def in_use(control: Callable[[str], str | None]) -> Remote:
    """What is in use, for a process that only reads."""
    trial = readable(Trial.from_json, control(ControlKey.CONFIGURATION_TRIAL))
    if trial is not None:
        return trial.remote
    return readable(Remote.from_json, control(ControlKey.CONFIGURATION)) or NONE


def on_trial(control: Callable[[str], str | None]) -> bool:
    """Whether a configuration waits for a contact to confirm it, or is about to."""
    return any(
        control(key) is not None
        for key in (ControlKey.CONFIGURATION_CANDIDATE, ControlKey.CONFIGURATION_TRIAL)
    )


def coarser(own: int, remote: int | None) -> int:
    """The machine's own value is the finest there is: remotely it can only get longer."""
    return own if remote is None else max(own, remote)


def readable(parse: Callable[[str], T], text: str | None) -> T | None:
    """None too for what cannot be read: a damaged control value is no configuration."""
    try:
        return None if text is None else parse(text)
    except ValueError:
        return None
