# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the sentences about what is wrong: each condition has one, and a healthy collector has none."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import pytest

from tests.support.filled import METER, Filled, minutes_of_server
from veilleuse.collector.backup.notes import BACKUP_NOTE, LATE
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.documents.text import words
from veilleuse.collector.enrolment.ca import SOON
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.silence import Condition, SilenceLevel
from veilleuse.collector.web.metrics.snapshot import Disk, Snapshot, SnapshotCache
from veilleuse.collector.web.pages.conditions import find_conditions
from veilleuse.wire.vocabulary import Population

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
OCTOBER = (Slice(date(2026, 10, 1), date(2026, 11, 1)),)
SEPTEMBER = (Slice(date(2026, 9, 1), date(2026, 10, 1)),)
DAY: Final = 86_400_000
ENDS: Final = {name: round((NOW + margin).timestamp() * 1000) for name, margin in SOON.items()}
"""The ends of certificates that need nobody yet."""
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
        data.push(data.add_host(), minutes_of_server(20, 15, 180.0), METER)
        made = round((NOW - timedelta(days=1)).timestamp() * 1000)
        data.store.registry.put_meta(BACKUP_NOTE, str(made))
        reader = data.reader()
        settings = CollectorSettings(data_dir=data.directory)
        snapshot = SnapshotCache(reader, settings, NOW.timestamp).take_snapshot()
        reader.close()
    return replace(snapshot, health=HEALTH, silence=(), disk=Disk(1, 100, 10))


def told(snapshot: Snapshot, months: tuple[Slice, ...] = OCTOBER, language: str = "fr") -> list[str]:
    """Return the sentences, with ordinary spaces."""
    return [one.replace("\u00a0", " ") for one in find_conditions(snapshot, months, words(language))]


def with_backup(snapshot: Snapshot, days: int | None) -> Snapshot:
    """Return the snapshot with a backup so many days old; None: none was ever made."""
    made = NOW - timedelta(days=days or 0)
    extra = {} if days is None else {BACKUP_NOTE: str(round(made.timestamp() * 1000))}
    return replace(snapshot, fleet=replace(snapshot.fleet, kind=replace(snapshot.fleet.kind, extra=extra)))


def test_a_healthy_collector_has_nothing_wrong(healthy: Snapshot):
    """No sentence, in either language."""
    assert told(healthy) == told(healthy, language="en") == []


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"health": None}, "Le service de réception ne répond pas"),
        (
            {"health": HEALTH | {"store_errors": {"disk_full": 2}}},
            "La base de données a refusé des écritures",
        ),
        ({"health": HEALTH | {"years_not_kept": {"2025": "why"}}}, "Les sommes de 2025 ne peuvent pas"),
        ({"disk": Disk(1, 9, 10)}, "Le disque du collecteur est plein"),
        ({"disk": Disk(1, 19, 10)}, "Le disque du collecteur est bientôt plein"),
        (
            {"health": HEALTH | {"certificates": ENDS | {"root": round(NOW.timestamp() * 1000) + 364 * DAY}}},
            "Le certificat racine du collecteur finit le mardi 9 novembre 2027",
        ),
        (
            {"month_is_of_older_rule": True},
            "Les indicateurs et les groupes de PC d’octobre 2026 ne sont plus",
        ),
        ({"factors": {}}, "Aucun facteur d’émission n’est connu pour la zone FR"),
    ],
)
def test_each_condition_has_one_sentence(healthy: Snapshot, changed: dict[str, Any], sentence: str):
    """One change of the snapshot gives one sentence."""
    (found,) = told(replace(healthy, **changed))
    assert found.startswith(sentence)


def test_silence_is_told_from_warnings_on(healthy: Snapshot):
    """Silent servers and PCs are told as everywhere; silence that cannot be judged yet is not."""
    levels = (SilenceLevel.WARNING, SilenceLevel.FAILED, SilenceLevel.WAITING, SilenceLevel.GOOD)
    silence = tuple(Condition(Population.CLASSROOM, one, 20, 120, date(2026, 11, 5)) for one in levels)
    found = told(replace(healthy, silence=silence))
    assert len(found) == 2
    assert found[0].startswith("Au moins 20 PC de classe sur au moins 120 sont silencieux")


def test_a_month_that_is_due_is_late_or_failing(healthy: Snapshot):
    """October is due on 4 November; two days later it is late, and a failure is told as such."""
    (late,) = told(healthy, SEPTEMBER)
    assert late.startswith(
        "Le mois d’octobre 2026 n’est pas encore publié, et devait l’être le mercredi 4 novembre 2026"
    )
    failing = replace(healthy, health=HEALTH | {"months_not_published": "why"})
    (found,) = told(failing, SEPTEMBER)
    assert found.startswith("La publication des mois échoue : le mois d’octobre 2026")
    assert told(failing, ())[0].startswith("La publication des mois échoue : aucun chiffre")
    assert told(failing, OCTOBER)[0].startswith("Un mois ne peut pas être publié")


@pytest.mark.parametrize(
    ("days", "sentence"),
    [
        (None, "Aucune sauvegarde n’a jamais été faite"),
        (LATE.days, ""),
        (LATE.days + 1, "La dernière sauvegarde date du"),
    ],
)
def test_an_old_backup_is_told(healthy: Snapshot, days: int | None, sentence: str):
    """A backup of more than a week, or none at all, is told."""
    found = told(with_backup(healthy, days))
    assert [one[: len(sentence)] for one in found] == ([sentence] if sentence else [])
