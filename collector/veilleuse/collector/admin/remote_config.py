# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Changes the remote configuration of populations. Every change is in the log and in the access journal."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from veilleuse.collector.admin.context import AdminContext
from veilleuse.collector.model.hosts import Host
from veilleuse.collector.model.remote_config import (
    Rollout,
    Stage,
    accept_candidate,
    advance_candidate,
    sha256_of,
    stage_of,
    start_candidate,
    withdraw_candidate,
)
from veilleuse.wire.configuration import Configuration
from veilleuse.wire.vocabulary import Population

log = logging.getLogger(__name__)


def show(context: AdminContext) -> list[dict[str, Any]]:
    """Return the active configuration, the candidate and the states of machines, for each population."""
    registry, now = context.issuing.registry, context.issuing.now_unix_milliseconds()
    hosts = context.issuing.commit(registry.hosts)
    rollouts = [context.configuring.rollout(population) for population in Population]
    return [_facts(rollout, stage_of(rollout, hosts, now)) for rollout in rollouts]


def set_candidate(
    context: AdminContext,
    *,
    population: str,
    who: str,
    why: str = "",
    tick_milliseconds: int | None = None,
    period_milliseconds: int | None = None,
    contact_milliseconds: int | None = None,
) -> dict[str, Any]:
    """Try a configuration on the first machines of a population.

    With all None, only a machine's own file counts.
    """
    candidate = Configuration(
        _whole(tick_milliseconds), _whole(period_milliseconds), _whole(contact_milliseconds)
    )

    def begin(rollout: Rollout, hosts: Sequence[Host], now: int) -> Rollout:
        return start_candidate(rollout, candidate, hosts, now)

    return _change(context, population, begin, f"candidate {candidate.to_json()}", who, why)


def advance(
    context: AdminContext, *, population: str, percent: int, who: str, why: str = "", force: bool = False
) -> dict[str, Any]:
    """Give the candidate to more machines."""

    def step(rollout: Rollout, hosts: Sequence[Host], now: int) -> Rollout:
        return advance_candidate(rollout, percent, hosts, now, force=force)

    return _change(context, population, step, f"candidate to {percent} %", who, why, force=force)


def accept(
    context: AdminContext, *, population: str, who: str, why: str = "", force: bool = False
) -> dict[str, Any]:
    """Make the candidate the active configuration."""

    def step(rollout: Rollout, hosts: Sequence[Host], now: int) -> Rollout:
        return accept_candidate(rollout, hosts, now, force=force)

    return _change(context, population, step, "candidate accepted", who, why, force=force)


def withdraw(context: AdminContext, *, population: str, who: str, why: str = "") -> dict[str, Any]:
    """Withdraw the candidate: its machines get the active configuration again."""
    return _change(
        context,
        population,
        lambda rollout, hosts, now: withdraw_candidate(rollout, now),
        "candidate withdrawn",
        who,
        why,
    )


def _change(
    context: AdminContext,
    population: str,
    step: Callable[[Rollout, Sequence[Host], int], Rollout],
    what: str,
    who: str,
    why: str,
    *,
    force: bool = False,
) -> dict[str, Any]:
    """Run one step of a rollout, in one job of the writer."""
    whose, issuing, configuring = Population(population), context.issuing, context.configuring
    now = issuing.now_unix_milliseconds()

    def job() -> tuple[Rollout, Stage]:
        hosts = issuing.registry.hosts()
        rollout = step(configuring.rollout(whose), hosts, now)
        context.note(who, f"configuration of {whose.value}: {what}{' (forced)' if force else ''}", why)
        configuring.put(rollout)
        return rollout, stage_of(rollout, hosts, now)

    rollout, stage = issuing.commit(job)
    log.info(
        "configuration changed",
        extra={"population": whose.value, "what": what, "percent": rollout.percent, "forced": force},
    )
    return _facts(rollout, stage)


def _facts(rollout: Rollout, stage: Stage) -> dict[str, Any]:
    """Return a rollout, ready for JSON."""
    candidate = rollout.candidate
    return {
        "population": rollout.population.value,
        "changed_unix_milliseconds": rollout.changed_unix_milliseconds or None,
        "active": _named(rollout.active),
        "active_hosts": {state.value: number for state, number in sorted(stage.others.items())},
        "candidate": None if candidate is None else _named(candidate),
        "percent": rollout.percent,
        "candidate_hosts": {state.value: number for state, number in sorted(stage.reached.items())},
        "looked_for_hosts": stage.looked_for,
        "hindrance": None if candidate is None else stage.hindrance,
    }


def _named(configuration: Configuration) -> dict[str, Any]:
    return {**configuration._asdict(), "sha256": sha256_of(configuration).hex()}


def _whole(value: int | None) -> int | None:
    """Return a whole number or None. Raises ValueError for any other value, booleans too."""
    if value is not None and type(value) is not int:
        raise ValueError("durations are whole milliseconds")
    return value
