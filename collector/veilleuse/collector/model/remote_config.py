# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What a remote configuration may be, and which machine gets it when: docs/wire.md §4. Pure.

A population has an active configuration and at most one candidate, which reaches 1 %, 10 %, then 100 % of its machines.
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
"""Of durations as an operator writes them; longest first."""
OWN_FILE: Final = Configuration()
"""Nothing is set: each machine's own file alone."""
STAGES_PERCENT: Final = (1, 10, 100)
CEILINGS: Final = {
    Population.WORKSTATION: Configuration(10_000, None, MILLISECONDS_PER_DAY),
    Population.CLASSROOM: Configuration(10_000, MILLISECONDS_PER_HOUR, MILLISECONDS_PER_HOUR),
    Population.SERVER: Configuration(10_000, 5 * MILLISECONDS_PER_MINUTE, 15 * MILLISECONDS_PER_MINUTE),
}
"""What a machine of each population does by itself; only coarser or rarer can be set. docs/privacy.md §1. No period on
workstations: theirs is the day and the week."""
UNDERSTOOD_SINCE: Final = (0, 2)
"""First version of the agent that reads a configuration; older ones are left out of the count."""
LOOKED_FOR_MILLISECONDS: Final = 7 * MILLISECONDS_PER_DAY
"""A machine that was silent for longer is not waited for."""
CONFIRMED_SHARE: Final = 0.9
"""Of the machines of a stage that are waited for, before the next one."""
_DRAWS: Final = 1 << 63
"""A machine's draw is below this; a signed 64 bit integer holds it."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """What is set for one population."""

    population: Population
    active: Configuration = OWN_FILE
    """What every machine goes back to when the candidate is withdrawn."""
    candidate: Configuration | None = None
    percent: int = 0
    """The candidate's stage: one of STAGES_PERCENT; 0 without one."""
    reach: int = -1
    """Machines whose draw is not above it get the candidate; -1 = none."""
    changed_unix_milliseconds: int = 0
    """0 = never."""

    @property
    def longest_contact_milliseconds(self) -> int:
        """Between two contacts of any of its machines, their own files apart."""
        said = (CEILINGS[self.population], self.active, self.candidate or OWN_FILE)
        return max(one.contact_milliseconds or 0 for one in said)

    def reaches(self, agent_id: AgentId) -> bool:
        """Whether this machine gets the candidate."""
        return self.candidate is not None and draw(self.candidate, agent_id) <= self.reach

    def wanted(self, agent_id: AgentId) -> Configuration:
        """What this machine should run."""
        return self.candidate if self.candidate is not None and self.reaches(agent_id) else self.active


class HostState(StrEnum):
    """Where a machine stands with what it should run."""

    CONFIRMED = "confirmed"
    """In use, and a record was delivered under it."""
    APPLIED = "applied"
    """In use, on trial."""
    FAILED = "failed"
    """The machine went back to what it had before."""
    WAITING = "waiting"
    """It has not said so yet."""
    UNAWARE = "unaware"
    """Its agent is too old to know of configurations: its own file alone counts, as before."""
    OWN_FILE = "own_file"
    """Nothing is set for it, and nothing ever was."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the machines of a population stand."""

    reached: Counter[HostState]
    """Those that get the candidate."""
    others: Counter[HostState]
    """Those that get the active configuration."""
    looked_for: int
    """Reached, not too old, and in contact within a week: these should confirm."""
    confirmed: int
    """Of those."""

    @property
    def hindrance(self) -> str | None:
        """Why the next stage should not begin; None when it may."""
        if failed := self.reached[HostState.FAILED]:
            return f"{failed} machine(s) of this stage went back to what they had before"
        if not self.looked_for:
            return "no machine of this stage was in contact within a week (withdraw it, and set it again once some were)"
        if not self.confirmed:
            return "no machine of this stage has confirmed it yet"
        if self.confirmed < CONFIRMED_SHARE * self.looked_for:
            return f"{self.confirmed} of {self.looked_for} machines of this stage have confirmed it"
        return None


@lru_cache(maxsize=64)  # one of a few, at every Hello
def sha256_of(configuration: Configuration) -> bytes:
    """What names it on the wire: SHA-256 of its canonical text, 32 bytes."""
    return hashlib.sha256(configuration.to_json().encode()).digest()


def draw(candidate: Configuration, agent_id: AgentId) -> int:
    """Of this machine for this candidate, 0 to 2^63 − 1, uniform: another candidate is tried out on other machines."""
    digest = hashlib.sha256(sha256_of(candidate) + agent_id).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def duration(value_milliseconds: int) -> str:
    """For people, in the longest unit that fits: 20s, 10min, 1h, 1d."""
    for unit, length in UNITS.items():
        if value_milliseconds % length == 0:
            return f"{value_milliseconds // length}{unit}"
    return f"{value_milliseconds}ms"


def checked_for(population: Population, configuration: Configuration) -> Configuration:
    """Itself. Raises UsageError when an agent could not accept it, or when it is finer than what the population does
    by itself."""
    try:
        configuration.checked()
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
                f"{word} {duration(value)} is finer than the {duration(own)} of a {population.value}: from here it can "
                "only be made coarser; "
                "a finer one is for the machine's own file alone"
            )
    return configuration


def begun(
    rollout: Rollout, candidate: Configuration, hosts: Iterable[Host], now_unix_milliseconds: int
) -> Rollout:
    """With a candidate in its first stage. Raises AdminError when there is one already, or when it is active."""
    if rollout.candidate is not None:
        raise AdminError(
            f"a candidate for {rollout.population.value} is rolled out at {rollout.percent} %: accept or withdraw it first"
        )
    candidate = checked_for(rollout.population, candidate)
    if candidate == rollout.active:
        raise AdminError(f"this is active for {rollout.population.value} already")
    started = replace(rollout, candidate=candidate, changed_unix_milliseconds=now_unix_milliseconds)
    return _at(started, STAGES_PERCENT[0], hosts, now_unix_milliseconds)


def advanced(
    rollout: Rollout, percent: int, hosts: Sequence[Host], now_unix_milliseconds: int, *, force: bool
) -> Rollout:
    """In its next stage. Raises AdminError for a percentage that is none, and without `force` when it is not the next
    one, or when the machines of the present one do not speak for it."""
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
    return _at(rollout, percent, hosts, now_unix_milliseconds)


def accepted(rollout: Rollout, hosts: Sequence[Host], now_unix_milliseconds: int, *, force: bool) -> Rollout:
    """The candidate made the active one. Raises AdminError when it has not reached 100 % and been confirmed there;
    with `force` only when there is none."""
    candidate = _require_candidate(rollout)
    if not force:
        if rollout.percent != STAGES_PERCENT[-1]:
            raise AdminError(f"the candidate is at {rollout.percent} %: roll it out to 100 first")
        _require_confirmed(rollout, hosts, now_unix_milliseconds)
    return Rollout(rollout.population, candidate, changed_unix_milliseconds=now_unix_milliseconds)


def withdrawn(rollout: Rollout, now_unix_milliseconds: int) -> Rollout:
    """Without the candidate. Raises AdminError when there is none."""
    _require_candidate(rollout)
    return Rollout(rollout.population, rollout.active, changed_unix_milliseconds=now_unix_milliseconds)


def stage_of(rollout: Rollout, hosts: Iterable[Host], now_unix_milliseconds: int) -> Stage:
    """Where its machines stand, the active ones alone."""
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
    """By what the machine said last."""
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


def _at(rollout: Rollout, percent: int, hosts: Iterable[Host], now_unix_milliseconds: int) -> Rollout:
    """Reaching that share of the machines that can answer for it, at least one, and all that it reached before."""
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
    else:  # nobody yet: that share of those to come
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
