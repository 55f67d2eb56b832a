# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines remote configurations and their staged roll-out: docs/wire.md §4. Pure.

A population has an active configuration and at most one candidate, which reaches 1 %, 10 %, then 100 % of its
machines.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Final

from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.model.hosts import AppliedState, Host, HostStatus
from veilleuse.collector.model.records import AgentId
from veilleuse.wire.configuration import Configuration, ConfigurationOutOfBounds
from veilleuse.wire.units import (
    MILLISECONDS_PER_DAY,
    MILLISECONDS_PER_HOUR,
    MILLISECONDS_PER_MINUTE,
    MILLISECONDS_PER_SECOND,
)
from veilleuse.wire.vocabulary import Population

UNITS: Final = {
    "d": MILLISECONDS_PER_DAY,
    "h": MILLISECONDS_PER_HOUR,
    "min": MILLISECONDS_PER_MINUTE,
    "s": MILLISECONDS_PER_SECOND,
}
"""Units of durations as an operator writes them; longest first."""
OWN_FILE: Final = Configuration()
"""Nothing is set: only each machine's own file."""
STAGES_PERCENT: Final = (1, 10, 100)
CEILINGS: Final = {
    Population.WORKSTATION: Configuration(10_000, None, MILLISECONDS_PER_DAY),
    Population.CLASSROOM: Configuration(10_000, MILLISECONDS_PER_HOUR, MILLISECONDS_PER_HOUR),
    Population.SERVER: Configuration(10_000, 5 * MILLISECONDS_PER_MINUTE, 15 * MILLISECONDS_PER_MINUTE),
}
"""Defaults of each population; only coarser or rarer values can be set. docs/privacy.md §1.

Workstations have no period: theirs is the day and the week.
"""
UNDERSTOOD_SINCE: Final = (0, 2)
"""First agent version that reads a configuration; older ones are not counted."""
LOOKED_FOR_MILLISECONDS: Final = 7 * MILLISECONDS_PER_DAY
"""Longest silence of a machine whose confirmation is awaited."""
CONFIRMED_SHARE: Final = 0.9
"""Share of the awaited machines of a stage that must confirm before the next one."""
_DRAWS: Final = 1 << 63
"""Upper bound of a machine's draw; it fits a signed 64 bit integer."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """Configuration of one population."""

    population: Population
    active: Configuration = OWN_FILE
    """Configuration of every machine after a withdrawal of the candidate."""
    candidate: Configuration | None = None
    percent: int = 0
    """The candidate's stage: one of STAGES_PERCENT; 0 without one."""
    reach: int = -1
    """Highest draw of the machines that get the candidate; -1 = none."""
    changed_unix_milliseconds: int = 0
    """0 = never."""

    @property
    def longest_contact_milliseconds(self) -> int:
        """Longest interval between two contacts of its machines, without their own files."""
        said = (CEILINGS[self.population], self.active, self.candidate or OWN_FILE)
        return max(one.contact_milliseconds or 0 for one in said)

    def reaches(self, agent_id: AgentId) -> bool:
        """Return whether this machine gets the candidate."""
        return self.candidate is not None and draw(self.candidate, agent_id) <= self.reach

    def wanted(self, agent_id: AgentId) -> Configuration:
        """Return the configuration for this machine."""
        return self.candidate if self.candidate is not None and self.reaches(agent_id) else self.active


class HostState(StrEnum):
    """State of a machine with respect to its configuration."""

    CONFIRMED = "confirmed"
    """In use, and a record was delivered under it."""
    APPLIED = "applied"
    """In use, on trial."""
    FAILED = "failed"
    """The machine went back to its previous configuration."""
    WAITING = "waiting"
    """It has not reported it yet."""
    UNAWARE = "unaware"
    """Its agent is too old for configurations: only its own file counts, as before."""
    OWN_FILE = "own_file"
    """Nothing is set for it, and nothing ever was."""


@dataclass(frozen=True, slots=True)
class Stage:
    """State of the machines of a population."""

    reached: Counter[HostState]
    """Machines that get the candidate."""
    others: Counter[HostState]
    """Machines that get the active configuration."""
    looked_for: int
    """Reached, not too old, and in contact within a week: these should confirm."""
    confirmed: int
    """Number of these that confirmed."""

    @property
    def hindrance(self) -> str | None:
        """Reason why the next stage should not begin; None when it may."""
        if failed := self.reached[HostState.FAILED]:
            return f"{failed} machine(s) of this stage went back to what they had before"
        if not self.looked_for:
            return (
                "no machine of this stage was in contact within a week (withdraw it, and set it "
                "again once some were)"
            )
        if not self.confirmed:
            return "no machine of this stage has confirmed it yet"
        if self.confirmed < CONFIRMED_SHARE * self.looked_for:
            return f"{self.confirmed} of {self.looked_for} machines of this stage have confirmed it"
        return None


@lru_cache(maxsize=64)  # one of a few, at every Hello
def sha256_of(configuration: Configuration) -> bytes:
    """Return the configuration's name on the wire: SHA-256 of its canonical text, 32 bytes."""
    return hashlib.sha256(configuration.to_json().encode()).digest()


def draw(candidate: Configuration, agent_id: AgentId) -> int:
    """Return the draw of this machine for this candidate, 0 to 2^63 − 1, uniform.

    Each candidate is tried out on other machines first.
    """
    digest = hashlib.sha256(sha256_of(candidate) + agent_id).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def duration(value_milliseconds: int) -> str:
    """Format a duration in the longest unit that fits: 20s, 10min, 1h, 1d."""
    for unit, length in UNITS.items():
        if value_milliseconds % length == 0:
            return f"{value_milliseconds // length}{unit}"
    return f"{value_milliseconds}ms"


def check_for(population: Population, configuration: Configuration) -> Configuration:
    """Return the configuration.

    Raises UsageError when no agent could accept it, or it is finer than the population's default.
    """
    try:
        configuration.check()
    except ConfigurationOutOfBounds as error:
        raise UsageError(str(error)) from error
    for name, own in CEILINGS[population]._asdict().items():
        value, word = getattr(configuration, name), name.removesuffix("_milliseconds")
        if value is not None and own is None:
            raise UsageError(
                f"{word} cannot be set for a {population.value}: its records are of days and weeks, always"
            )
        if value is not None and value < own:
            raise UsageError(
                f"{word} {duration(value)} is finer than the {duration(own)} of a {population.value}: "
                "from here it can "
                "only be made coarser; "
                "a finer one is for the machine's own file alone"
            )
    return configuration


def start_candidate(
    rollout: Rollout, candidate: Configuration, hosts: Iterable[Host], now_unix_milliseconds: int
) -> Rollout:
    """Start a candidate in its first stage. Raises AdminError when there is one already, or it is active."""
    if rollout.candidate is not None:
        raise AdminError(
            f"a candidate for {rollout.population.value} is rolled out at {rollout.percent} %: accept "
            "or withdraw it first"
        )
    candidate = check_for(rollout.population, candidate)
    if candidate == rollout.active:
        raise AdminError(f"this is active for {rollout.population.value} already")
    started = replace(rollout, candidate=candidate, changed_unix_milliseconds=now_unix_milliseconds)
    return _move_to_stage(started, STAGES_PERCENT[0], hosts, now_unix_milliseconds)


def advance_candidate(
    rollout: Rollout, percent: int, hosts: Sequence[Host], now_unix_milliseconds: int, *, force: bool
) -> Rollout:
    """Move the candidate to a later stage.

    Raises AdminError for an invalid percentage. Without `force`, also when a stage is skipped, or the present
    machines do not confirm.
    """
    _require_candidate(rollout)
    if percent not in STAGES_PERCENT or percent <= rollout.percent:
        later = [str(stage) for stage in STAGES_PERCENT if stage > rollout.percent]
        raise AdminError(
            f"the candidate is at {rollout.percent} %: "
            + (f"use {' or '.join(later)}" if later else "accept it, or withdraw it")
        )
    if not force:
        if percent != STAGES_PERCENT[STAGES_PERCENT.index(rollout.percent) + 1]:
            raise AdminError(f"the candidate is at {rollout.percent} %: go to 10 first, or use --force")
        _require_confirmed(rollout, hosts, now_unix_milliseconds)
    return _move_to_stage(rollout, percent, hosts, now_unix_milliseconds)


def accept_candidate(
    rollout: Rollout, hosts: Sequence[Host], now_unix_milliseconds: int, *, force: bool
) -> Rollout:
    """Make the candidate the active configuration.

    Raises AdminError unless it is confirmed at 100 %; with `force`, only without a candidate.
    """
    candidate = _require_candidate(rollout)
    if not force:
        if rollout.percent != STAGES_PERCENT[-1]:
            raise AdminError(f"the candidate is at {rollout.percent} %: roll it out to 100 first")
        _require_confirmed(rollout, hosts, now_unix_milliseconds)
    return Rollout(rollout.population, candidate, changed_unix_milliseconds=now_unix_milliseconds)


def withdraw_candidate(rollout: Rollout, now_unix_milliseconds: int) -> Rollout:
    """Withdraw the candidate. Raises AdminError when there is none."""
    _require_candidate(rollout)
    return Rollout(rollout.population, rollout.active, changed_unix_milliseconds=now_unix_milliseconds)


def stage_of(rollout: Rollout, hosts: Iterable[Host], now_unix_milliseconds: int) -> Stage:
    """Return the state of its active machines."""
    reached, others = Counter[HostState](), Counter[HostState]()
    looked_for = confirmed = 0
    for host in _active(rollout, hosts):
        state = state_of(rollout, host)
        if not rollout.reaches(host.agent_id):
            others[state] += 1
            continue
        reached[state] += 1
        if _is_looked_for(host, now_unix_milliseconds):
            looked_for += 1
            confirmed += state is HostState.CONFIRMED
    return Stage(reached, others, looked_for, confirmed)


def state_of(rollout: Rollout, host: Host) -> HostState:
    """Return the state by the machine's last report."""
    wanted, said = rollout.wanted(host.agent_id), host.configuration
    if said is None and wanted == OWN_FILE:
        return HostState.OWN_FILE
    if not _understands(host):
        return HostState.UNAWARE
    if said is None or said.sha256 != sha256_of(wanted):
        return HostState.WAITING
    return {
        AppliedState.APPLIED: HostState.APPLIED,
        AppliedState.CONFIRMED: HostState.CONFIRMED,
        AppliedState.FAILED: HostState.FAILED,
    }[said.state]


def _move_to_stage(
    rollout: Rollout, percent: int, hosts: Iterable[Host], now_unix_milliseconds: int
) -> Rollout:
    """Move to a stage: reach that share of the awaited machines, at least one, and all reached before."""
    assert rollout.candidate is not None
    draws = sorted(
        draw(rollout.candidate, host.agent_id)
        for host in _active(rollout, hosts)
        if _is_looked_for(host, now_unix_milliseconds)
    )
    if percent == STAGES_PERCENT[-1]:
        reach = _DRAWS - 1
    elif draws:
        reach = draws[math.ceil(len(draws) * percent / 100) - 1]
    else:  # no machine yet: that share of those to come
        reach = _DRAWS * percent // 100 - 1
    return replace(
        rollout,
        percent=percent,
        reach=max(reach, rollout.reach),
        changed_unix_milliseconds=now_unix_milliseconds,
    )


def _active(rollout: Rollout, hosts: Iterable[Host]) -> Iterable[Host]:
    return (
        host for host in hosts if host.population is rollout.population and host.status is HostStatus.ACTIVE
    )


def _is_looked_for(host: Host, now_unix_milliseconds: int) -> bool:
    last = host.last_contact_unix_milliseconds
    return _understands(host) and last is not None and last > now_unix_milliseconds - LOOKED_FOR_MILLISECONDS


def _understands(host: Host) -> bool:
    found = re.match(r"(\d+)\.(\d+)", host.health.agent_version if host.health else "")
    return found is not None and (int(found[1]), int(found[2])) >= UNDERSTOOD_SINCE


def _require_candidate(rollout: Rollout) -> Configuration:
    if rollout.candidate is None:
        raise AdminError(
            f"there is no candidate for {rollout.population.value}: see 'veilleuse configuration show'"
        )
    return rollout.candidate


def _require_confirmed(rollout: Rollout, hosts: Iterable[Host], now_unix_milliseconds: int) -> None:
    if hindrance := stage_of(rollout, hosts, now_unix_milliseconds).hindrance:
        raise AdminError(
            f"{hindrance}: see 'veilleuse configuration show', withdraw the candidate, or use --force"
        )
