# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reports populations whose machines are silent (veilleuse.collector.silence), and what to check first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

from veilleuse.collector.cli.doctor.findings import Finding, Outcome
from veilleuse.collector.cli.shared import names_of
from veilleuse.collector.documents.text import words
from veilleuse.collector.errors import AdminError
from veilleuse.collector.ipc import ask
from veilleuse.collector.model.hosts import HostStatus
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.silence import Condition, SilenceLevel, judge_of, sentence_of
from veilleuse.collector.store import open_reader
from veilleuse.wire.units import MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import Population

REMEDY: Final = (
    "check first, from one of them: the network and its firewall up to {address}, the DNS entry of that "
    "name, the certificates and the ports (above), then 'veilleuse-agent doctor' there; for machines that "
    "are gone for good: 'veilleuse hosts revoke'"
)
STOPPED: Final = "no collector runs here, so no machine can call: start 'veilleuse serve'"
WAIT: Final = "the collector was stopped or suspended until recently: run doctor again {when} after its start"


def check_silence(settings: CollectorSettings) -> Iterator[Finding]:
    """Report each population that can be judged; name the others with the reason."""
    health = _health(settings)
    k = settings.reporting.k_anonymity
    with open_reader(settings.data_dir) as store:
        judge = judge_of(store.data.data_kind(), health, int(time.time() * MILLISECONDS_PER_SECOND), k)
        rollouts = {rollout.population: rollout for rollout in store.data.rollouts()}
        hosts = store.data.contacts()
        conditions = judge.conditions(hosts, rollouts)
    yield from (_finding(one, settings, runs=health is not None) for one in conditions)
    present = {host.population for host in hosts if host.status is HostStatus.ACTIVE} - {
        one.population for one in conditions
    }
    for population in sorted(present):
        text = f"{population}: not judged, "
        if judge.past.told is None:
            text += "'veilleuse serve' checks PCs once a day and has not yet"
        else:
            text += f"fewer than {k} machines had enrolled two open days before {judge.past.day}"
        yield Finding("silence", "good", text)
    if not hosts:
        yield Finding("silence", "good", "no machine is enrolled")


def _finding(one: Condition, settings: CollectorSettings, *, runs: bool) -> Finding:
    is_server = one.population is Population.SERVER
    least = "" if is_server else "at least "
    numbers = f"{one.population}: {least}{one.silent} of {least}{one.machines}"
    if one.level is SilenceLevel.GOOD:
        text = f"{numbers} silent" + ("" if is_server else f" since {one.since}, not more than usual")
        return Finding("silence", "good", text)
    if one.level is SilenceLevel.WAITING:
        when = "two contact intervals" if is_server else "two whole open days"
        remedy = WAIT.format(when=when) if runs else STOPPED
        return Finding("silence", "warning", f"{numbers} have not called yet; not judged", remedy)
    text = sentence_of(one, words("en")).rstrip(".")
    text += f": {names_of(one.hosts)}" if one.hosts else ""
    address = settings.grpc.advertised_address or settings.grpc.address
    outcome: Outcome = "failed" if one.level is SilenceLevel.FAILED else "warning"
    return Finding("silence", outcome, text, REMEDY.format(address=address))


def _health(settings: CollectorSettings) -> dict[str, Any] | None:
    try:
        health: dict[str, Any] = ask(settings.data_dir, "health")
    except AdminError:  # check_service says why
        return None
    return health
