# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the sentences about what is wrong: faults of a snapshot reach the page, /metrics and `doctor`."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import pytest

from tests.architecture.tree import ROOT
from tests.support.filled import METER, Filled, minutes_of_server
from veilleuse.collector.backup.notes import BACKUP_NOTE
from veilleuse.collector.cli.doctor.conditions import TOLD_ELSEWHERE, check_conditions
from veilleuse.collector.documents.text import words
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.exposition.conditions import BY_NAME, Severity, add_levels
from veilleuse.collector.exposition.metric import MetricType
from veilleuse.collector.exposition.prometheus import Exposition
from veilleuse.collector.ingest.counters import Health
from veilleuse.collector.model.hosts import HostStatus
from veilleuse.collector.model.records import AppendResult
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.silence import Silence, SilenceLevel
from veilleuse.collector.web.metrics.disk import Disk
from veilleuse.collector.web.metrics.health import add_collector
from veilleuse.collector.web.metrics.released_month import CoverageKey, MonthFacts
from veilleuse.collector.web.metrics.samples import judged_exposition
from veilleuse.collector.web.metrics.servers import QUARANTINE
from veilleuse.collector.web.metrics.snapshot import Snapshot, SnapshotCache
from veilleuse.collector.web.pages.conditions import find_conditions
from veilleuse.wire.vocabulary import Population

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
DAY: Final = 86_400_000
K: Final = 10
OF_WORKSTATIONS: Final = CoverageKey(Population.WORKSTATION, False, "states")


def bound_of(name: str, severity: Severity = Severity.WARNING) -> timedelta:
    """Return the bound of a condition that is a time."""
    return timedelta(seconds=BY_NAME[name].bounds[severity])


ENDS: Final = {
    name: round((NOW + bound_of(f"{name}_certificate")).timestamp() * 1000)
    for name in ("root", "intermediate", "server")
}
"""The ends of certificates that need nobody yet."""
KILLED: Final = {"signal": "SIGKILL", "step": "indicators", "at": "2026-10", "memory_bytes": 412 * 2**20}
HEALTH: dict[str, Any] = {
    "store_errors": {},
    "months_not_published": "",
    "years_not_kept": {},
    "certificates": ENDS,
}


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Give a snapshot of a running collector with a server, a backup of yesterday, and room on its disk."""
    with Filled(tmp_path_factory.mktemp("conditions") / "data", clock=NOW.timestamp) as data:
        data.push(data.add_host(), minutes_of_server(20, 15, 180.0, at=NOW), METER)
        made = round((NOW - timedelta(days=1)).timestamp() * 1000)
        data.store.registry.put_meta(BACKUP_NOTE, str(made))
        reader = data.reader()
        settings = CollectorSettings(data_dir=data.directory)
        snapshot = SnapshotCache(reader, settings, NOW.timestamp).take_snapshot()
        reader.close()
    servers = snapshot.fleet.servers
    kept = {key: number for key, number in servers.counts.items() if key[0] != QUARANTINE}
    fleet = replace(snapshot.fleet, servers=replace(servers, counts=kept))
    return replace(snapshot, fleet=fleet, health=HEALTH, silence=(), disk=Disk(1, 100, 10))


def told(snapshot: Snapshot, language: str = "fr") -> list[str]:
    """Return the sentences, with ordinary spaces."""
    return [one.replace("\u00a0", " ") for one in find_conditions(snapshot, K, words(language))]


def with_backup(snapshot: Snapshot, age: timedelta | None) -> Snapshot:
    """Return the snapshot with a backup so old; None: none was ever made."""
    extra = {} if age is None else {BACKUP_NOTE: str(round((NOW - age).timestamp() * 1000))}
    return replace(snapshot, fleet=replace(snapshot.fleet, kind=replace(snapshot.fleet.kind, extra=extra)))


def test_a_healthy_collector_has_nothing_wrong(healthy: Snapshot):
    """No sentence, in either language: that the factor is provisional is information."""
    assert told(healthy) == told(healthy, language="en") == []


@pytest.mark.parametrize(
    ("changed", "name", "sentence"),
    [
        ({"health": None}, "collector_down", "Le service de réception ne répond pas"),
        (
            {"health": HEALTH | {"store_errors": {"full": 2}}},
            "store_errors",
            "La base de données a refusé des écritures (full)",
        ),
        (
            {"disk": Disk(1, 100, 10, lost_unix_milliseconds=round(NOW.timestamp() * 1000) - 3 * DAY)},
            "store_replaced",
            "Il y a 3 jours, la base de données n’était plus celle",
        ),
        (
            {"health": HEALTH | {"years_not_kept": {"2025": "why"}}},
            "publication_failing",
            "Une publication échoue (année)",
        ),
        (
            {"health": HEALTH | {"months_not_published": "why"}},
            "publication_failing",
            "Une publication échoue (mois)",
        ),
        (
            {"health": HEALTH | {"children_killed": {"month": KILLED}}},
            "child_killed",
            "Le processus quotidien (mois) a été arrêté par SIGKILL. Il en était à : les indicateurs d’un mois",
        ),
        ({"disk": Disk(1, 9, 10)}, "disk_low", "Le disque du collecteur est bientôt plein"),
        ({"disk": Disk(1, 19, 10)}, "disk_low", "Le disque du collecteur est bientôt plein"),
        (
            {"disk": Disk(1, 100, 10, 12.5)},
            "disk_forecast",
            "Le disque du collecteur sera plein dans 12 jours",
        ),
        (
            {"health": HEALTH | {"certificates": ENDS | {"root": round(NOW.timestamp() * 1000) + 364 * DAY}}},
            "root_certificate",
            "Le certificat racine du collecteur finit dans 364 jours",
        ),
        (
            {"month_is_of_older_rule": True},
            "month_of_older_rule",
            "Les chiffres des PC du dernier mois ne sont plus",
        ),
        ({"factors": {}}, "factor_missing", "Aucun facteur d’émission n’est connu pour la zone FR"),
        (
            {"month_facts": MonthFacts(NOW.date() - timedelta(days=3))},
            "month_late",
            "Un mois aurait dû être publié il y a 3 jours",
        ),
        (
            {"month_facts": MonthFacts(None, {OF_WORKSTATIONS: (0.8, 0.6)})},
            "coverage_falling",
            "La couverture du dernier mois publié s’écarte de celle du mois d’avant de −25,0 % (postes de travail",
        ),
    ],
)
def test_each_condition_has_one_sentence(
    healthy: Snapshot, changed: dict[str, Any], name: str, sentence: str
):
    """One change of the snapshot gives one sentence, and the level of its condition on /metrics."""
    snapshot = replace(healthy, **changed)
    (found,) = told(snapshot)
    assert found.startswith(sentence)
    out = judged_exposition(snapshot, K)
    add_levels(out, NOW.timestamp())
    levels = out.samples(c.CONDITION_LEVEL)
    assert [labels[0] for labels, level in levels if level >= 2] == [name]


def test_silence_is_told_from_warnings_on(healthy: Snapshot):
    """Silent servers and PCs are told as everywhere; silence that cannot be judged yet is not."""
    levels = (SilenceLevel.WARNING, SilenceLevel.WAITING)
    populations = (Population.CLASSROOM, Population.WORKSTATION)
    silence = tuple(
        Silence(population, one, 20, 120, date(2026, 11, 5))
        for population, one in zip(populations, levels, strict=True)
    )
    (found,) = told(replace(healthy, silence=silence))
    assert found.startswith("Au moins 20 PC de classe sur au moins 120 sont silencieux")


@pytest.mark.parametrize(
    ("age", "sentence"),
    [
        (None, "Aucune sauvegarde n’a jamais été faite"),
        (bound_of("backup_old"), ""),
        (bound_of("backup_old") + timedelta(hours=1), "La dernière sauvegarde a 7 jours"),
    ],
)
def test_an_old_backup_is_told(healthy: Snapshot, age: timedelta | None, sentence: str):
    """A backup of more than a week, or none at all, is told."""
    found = told(with_backup(healthy, age))
    assert [one[: len(sentence)] for one in found] == ([sentence] if sentence else [])


def test_the_most_severe_comes_first(healthy: Snapshot):
    """What is critical stands above warnings, whatever its place in the table."""
    found = told(with_backup(replace(healthy, disk=Disk(1, 9, 10)), bound_of("backup_old") * 2))
    assert [one.split(" : ")[0] for one in found] == [
        "Le disque du collecteur est bientôt plein",
        "La dernière sauvegarde a 14 jours",
    ]


def test_doctor_tells_the_rest(tmp_path):
    """`doctor` tells what no other check tells: here a factor that ended, and one that is provisional."""
    assert set(BY_NAME) >= TOLD_ELSEWHERE
    with Filled(tmp_path / "data") as data:
        data.push(data.add_host(), minutes_of_server(20, 15, 180.0, at=NOW), METER)
        found = list(check_conditions(CollectorSettings(data_dir=data.directory)))
    assert [(one.check, one.outcome) for one in found] == [("conditions", "good")]
    assert found[0].text.startswith("the emission factor of ")


def reasons_in_code() -> set[str]:
    """Return each word that the code gives an exception or an answer that refuses a call."""
    found = {
        "queue_full",
        "older_instance",
        AppendResult.TOO_MANY_EPOCHS.value,
    }  # words that it gives by a name
    found |= {status.value for status in HostStatus if status is not HostStatus.ACTIVE}
    makers = {"NotAuthorised", "EnrolmentRefused", "MalformedRequest", "QueueFull", "_wait", "_refusal"}
    for file in (ROOT / "collector/veilleuse").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in makers:
                said = [str(one.value) for one in node.args if isinstance(one, ast.Constant)]
                found |= {one for one in said if re.fullmatch("[a-z_]+", one)}
    return found


def test_counters_of_refusals_exist_from_the_start(healthy: Snapshot):
    """A collector that has just started exports each of its counters at 0, each reason of a refusal too."""
    out = Exposition()
    add_collector(out, replace(healthy, health=Health().snapshot()), K)
    counters = [one for one in c.BY_NAME.values() if one.name.startswith("veilleuse_collector_")]
    counters = [one for one in counters if one.kind is MetricType.COUNTER]
    assert len(counters) == 12
    for metric in counters:
        assert {value for _, value in out.samples(metric)} == {0}, metric.name
    assert {labels[0] for labels, _ in out.samples(c.REFUSED_CALLS)} == reasons_in_code()
