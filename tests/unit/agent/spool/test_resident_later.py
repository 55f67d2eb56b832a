# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test what reaches the resident after its start: unusable calendars, withdrawn calendars, new drivers."""

from __future__ import annotations

import json
from contextlib import closing

from tests.support.trees import zone
from tests.unit.agent.resident.test_resident import TREES, Life
from veilleuse.agent.ports import ControlKey
from veilleuse.agent.settings import AgentSettings, Paths
from veilleuse.agent.spool.database import FILE_NAME, connect
from veilleuse.wire.bands import DEFAULT_CALENDAR


def test_a_calendar_that_cannot_be_used_is_said_once(tmp_path, caplog):
    """An unusable calendar is logged once; one withdrawn before its day is no longer pending."""
    life = Life(tmp_path, checkpoint_seconds=60)
    life.begin()

    def pulled(calendar: str, sha256: str) -> None:
        with closing(connect(tmp_path / FILE_NAME)) as db:
            for key, value in (("calendar", calendar), ("calendar_sha256", sha256)):
                db.execute("INSERT OR REPLACE INTO control VALUES (?, ?)", (key, value))
        life.steps(30)

    pulled("{}", "ee" * 32)
    assert [r.message for r in caplog.records].count("calendar not usable, the present one stays") == 1
    first, second = "ab" * 32, "cd" * 32
    pulled(DEFAULT_CALENDAR.to_json(), first)
    life.clock.advance(86_400_000, asleep=True)
    pulled(DEFAULT_CALENDAR.to_json(), second)
    fold = json.loads(life.control(ControlKey.OPEN_FOLD))
    assert (fold["site"][1], fold["next"][0][1]) == (first, second)
    pulled(DEFAULT_CALENDAR.to_json(), first)
    fold = json.loads(life.control(ControlKey.OPEN_FOLD))
    assert (fold["site"][1], fold["next"]) == (first, None)
    life.end()


def test_a_driver_that_is_loaded_after_the_start(tmp_path):
    """RAPL counters that appear seconds after the start are measured without a restart."""
    life = Life(tmp_path / "state", sources=("linux_rapl",), checkpoint_seconds=60)
    paths = Paths(state=life.state, sysfs=tmp_path / "sys", procfs=TREES / "tower" / "proc")
    life.settings = AgentSettings(paths=paths, measure=life.settings.measure)
    life.state.mkdir()
    life.begin()
    life.steps(10)
    folder = zone(tmp_path, "0", "package-0", 1_000_000)
    for number in range(30):
        life.steps(1)
        (folder / "energy_uj").write_text(f"{(number + 2) * 1_000_000}\n")
    life.steps(7)
    sources = {one["name"]: one for one in json.loads(life.control(ControlKey.SOURCES))["sources"]}
    assert sources["linux_rapl"]["unavailable"] is None
    assert sum(mj for r in life.records() for c in r.cells.values() for mj, _ in c.energies.values()) > 10_000
    life.end()
