# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Configuration from the collector, on trial until a contact confirms it, and the resulting intervals. Pure.

Sources: docs/wire.md §4. The sender leaves a candidate in the control table. The resident puts it on trial. A
sender that saw the trial confirms it after a good contact. Without confirmation in time, the resident goes
back to the last confirmed one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from veilleuse.agent.model import Instant
from veilleuse.agent.ports import ControlKey
from veilleuse.agent.settings import CONTACT_SECONDS, AgentSettings
from veilleuse.wire.configuration import TRIAL_MILLISECONDS, Configuration
from veilleuse.wire.units import MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import Population

T = TypeVar("T")

MOST_RESTARTS: Final = 1
"""Number of boots that restart the time of a trial: a machine that crashes with a setting gets out of it."""


class RemoteConfig(NamedTuple):
    """A configuration from the collector."""

    sha256: str
    """Hash that names it, hexadecimal. Empty = none, only the local file counts."""
    configuration: Configuration = Configuration()

    def to_json(self) -> str:
        """Return one line for the control table."""
        return json.dumps({"sha256": self.sha256, "values": self.configuration.to_json()})

    @classmethod
    def from_json(cls, text: str) -> RemoteConfig:
        """Parse the result of `to_json` and check the bounds again. Raises ValueError."""
        try:
            raw = json.loads(text)
            return cls(str(raw["sha256"]), Configuration.from_json(raw["values"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a configuration: {error}") from error


NONE: Final = RemoteConfig("")


class Trial(NamedTuple):
    """A configuration in use that no contact has confirmed yet."""

    remote: RemoteConfig
    boot_id: str
    since_milliseconds: int
    """Boot-time at which the trial began."""
    restarts: int = 0
    """Number of later boots at which the trial began again."""

    def is_over(self, now: Instant) -> bool:
        """Return True when the time of the trial has passed, in the boot that it names."""
        return not 0 <= now.boottime_milliseconds - self.since_milliseconds < TRIAL_MILLISECONDS

    def to_json(self) -> str:
        """Return one line for the control table."""
        return json.dumps([self.remote.to_json(), *self[1:]])

    @classmethod
    def from_json(cls, text: str) -> Trial:
        """Parse the result of `to_json`. Raises ValueError."""
        try:
            remote, boot_id, since, restarts = json.loads(text)
            return cls(RemoteConfig.from_json(remote), str(boot_id), int(since), int(restarts))
        except TypeError as error:
            raise ValueError(f"not a trial: {error}") from error


class ConfigStatus(NamedTuple):
    """Configuration in use, and the resulting control values."""

    good: RemoteConfig
    trial: Trial | None
    changes: dict[str, str | None]
    """Control keys to set in the transaction that applies this status."""

    @property
    def in_use(self) -> RemoteConfig:
        """Return the configuration on trial, else the last confirmed one."""
        return self.good if self.trial is None else self.trial.remote


def read_status(
    control: Callable[[str], str | None], now: Instant, boot_id: str, *, accept: bool
) -> ConfigStatus:
    """Return the present status: a candidate goes on trial, an expired trial is given up.

    With `accept` False, the local file forbids remote configuration, and none is in use. Raises the errors of
    `control`.
    """
    if not accept:
        return ConfigStatus(NONE, None, {})
    changes: dict[str, str | None] = {}
    good = parse_or_none(RemoteConfig.from_json, control(ControlKey.CONFIGURATION)) or NONE
    trial = parse_or_none(Trial.from_json, control(ControlKey.CONFIGURATION_TRIAL))
    if trial is not None and trial.boot_id != boot_id and trial.restarts < MOST_RESTARTS:
        trial = Trial(trial.remote, boot_id, now.boottime_milliseconds, trial.restarts + 1)
        changes[ControlKey.CONFIGURATION_TRIAL] = trial.to_json()
    if trial is not None and (trial.boot_id != boot_id or trial.is_over(now)):
        changes = give_up(good, trial)
        trial = None
    text = control(ControlKey.CONFIGURATION_CANDIDATE)
    if text is None:
        return ConfigStatus(good, trial, changes)
    candidate = parse_or_none(RemoteConfig.from_json, text)
    changes[ControlKey.CONFIGURATION_CANDIDATE] = None
    failed = (control(ControlKey.CONFIGURATION_FAILED), changes.get(ControlKey.CONFIGURATION_FAILED))
    if candidate is None or candidate == (good if trial is None else trial.remote):
        return ConfigStatus(good, trial, changes)
    if candidate.sha256 == good.sha256:  # the collector withdraws the one on trial
        trial = None
    elif candidate.sha256 in failed:
        return ConfigStatus(good, trial, changes)
    else:
        trial = Trial(candidate, boot_id, now.boottime_milliseconds)
        changes[ControlKey.CONFIGURATION_FAILED] = None
    changes[ControlKey.CONFIGURATION_TRIAL] = None if trial is None else trial.to_json()
    return ConfigStatus(good, trial, changes)


def give_up(good: RemoteConfig, trial: Trial) -> dict[str, str | None]:
    """Return control values that restore the confirmed one, even if the trial was just confirmed."""
    return {
        ControlKey.CONFIGURATION: good.to_json(),
        ControlKey.CONFIGURATION_TRIAL: None,
        ControlKey.CONFIGURATION_FAILED: trial.remote.sha256,
    }


def read_in_use(control: Callable[[str], str | None]) -> RemoteConfig:
    """Return the configuration in use, for a process that only reads."""
    trial = parse_or_none(Trial.from_json, control(ControlKey.CONFIGURATION_TRIAL))
    if trial is not None:
        return trial.remote
    return parse_or_none(RemoteConfig.from_json, control(ControlKey.CONFIGURATION)) or NONE


def is_on_trial(control: Callable[[str], str | None]) -> bool:
    """Return True when a configuration waits for its trial or for a contact that confirms it."""
    return any(
        control(key) is not None
        for key in (ControlKey.CONFIGURATION_CANDIDATE, ControlKey.CONFIGURATION_TRIAL)
    )


class Grain(NamedTuple):
    """Intervals of measuring and sending, after the collector's configuration has made them longer."""

    tick_milliseconds: int
    period_milliseconds: int
    contact_seconds: int


def grain_of(
    settings: AgentSettings, population: Population, remote: Configuration, unix_milliseconds: int
) -> Grain:
    """Return the grain to use now. Raises ConfigurationError.

    The collector's configuration can only make an interval longer than the local file and the population set.
    """
    period = settings.measure.period_milliseconds(population, unix_milliseconds)
    if population is Population.SERVER:
        period = choose_longer(period, remote.period_milliseconds)
    tick = choose_longer(
        round(settings.measure.tick_seconds * MILLISECONDS_PER_SECOND), remote.tick_milliseconds
    )
    contact = (settings.collector.contact_seconds or CONTACT_SECONDS[population]) * MILLISECONDS_PER_SECOND
    rarer = choose_longer(contact, remote.contact_milliseconds)
    return Grain(min(tick, period), period, rarer // MILLISECONDS_PER_SECOND)


def choose_longer(own: int, remote: int | None) -> int:
    """Return the longer value: the collector can only lengthen the machine's own value."""
    return own if remote is None else max(own, remote)


def parse_or_none(parse: Callable[[str], T], text: str | None) -> T | None:
    """Parse a control value; None when it is absent or damaged."""
    try:
        return None if text is None else parse(text)
    except ValueError:
        return None
