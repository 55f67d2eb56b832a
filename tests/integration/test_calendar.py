# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Import a calendar from the operator's file and follow it to a real agent, until after its first day."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.support import clock
from tests.support.stack import Stack
from veilleuse.agent.model import Tick
from veilleuse.agent.resident.fold import Fold, SiteCalendar
from veilleuse.wire.bands import DEFAULT_CALENDAR, Calendar
from veilleuse.wire.units import MILLISECONDS_PER_DAY
from veilleuse.wire.vocabulary import Band, Population, State, Supply

SETTINGS = {
    "VEILLEUSE_AGENT__MEASURE__TICK_SECONDS": "1",
    "VEILLEUSE_AGENT__MEASURE__PERIOD_SECONDS": "60",
    "VEILLEUSE_AGENT__MEASURE__CHECKPOINT_SECONDS": "1",
    "VEILLEUSE_AGENT__COLLECTOR__CONTACT_SECONDS": "86400",  # tests make the contacts
}
WEEK = "\n".join(
    f'{day} = ["09:00-17:00"]' for day in ("monday", "tuesday", "wednesday", "thursday", "friday")
)
FILE = f'[open]\n{WEEK}\n[public_holidays]\ncountry = "FR"\n[updates]\nsunday = ["22:00-24:00"]\n'


def contact(stack: Stack) -> None:
    """Make one contact, as soon as no other is under way."""
    stack.wait_for(lambda: stack.run("veilleuse-agent", "send").returncode == 0, "a contact")


def waiting(stack: Stack) -> list[Any] | None:
    """Return [[calendar, SHA-256], first day] of the calendar that the resident has scheduled, or None."""
    found: list[Any] | None = json.loads(stack.control("open_fold") or '{"next": null}')["next"]
    return found


def test_a_calendar_reaches_a_real_agent(tmp_path: Path):
    """The next Hello brings an imported calendar with holidays of three years. The resident schedules it
    under the hash that the import printed; records name it from its first day on, and its holidays are
    closed. A second import changes nothing. The schedule survives a stop of the agent.
    """
    file = tmp_path / "lyon.toml"
    file.write_text(FILE, encoding="utf-8")
    importing = ("veilleuse", "calendar", "import", str(file), "--site", "test", "--json")
    with Stack(tmp_path, SETTINGS) as stack:
        stack.start_collector()
        stack.enrol()
        agent = stack.start("veilleuse-agent", "run")
        stack.wait_for(lambda: (stack.state / "spool.db").exists(), "the agent measures", process=agent)
        contact(stack)
        default = Calendar.from_json(stack.control("calendar") or "")
        assert default == DEFAULT_CALENDAR
        done = stack.run(*importing)
        assert done.returncode == 3, done.stderr  # a warning: workstations do not report two hours at night
        imported = json.loads(done.stdout)
        assert imported["imported"]

        contact(stack)
        assert stack.control("calendar_sha256") == imported["calendar_sha256"]
        stack.wait_for(
            lambda: (next_one := waiting(stack)) and next_one[0][1] == imported["calendar_sha256"],
            "the calendar waits",
            process=agent,
        )
        assert stack.stop(agent) == 0
        assert not json.loads(stack.run(*importing).stdout)["changed"]

        first = check_use(stack.control("open_fold") or "", imported["calendar_sha256"])
        check_first_of_month(Calendar.from_json(stack.control("calendar") or ""), imported)
        assert first > clock.today()


def check_use(checkpoint: str, sha256: str) -> date:
    """Check that the agent's stored fold, run with our clock, uses the former calendar until the first day of
    the new one; return that day."""
    raw = json.loads(checkpoint)
    first = date.fromisoformat(raw["next"][1])
    fold, _ = Fold.from_json(checkpoint, Population.SERVER, raw["period"])
    start = (
        round(datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp() * 1000)
        - MILLISECONDS_PER_DAY
    )
    records = [
        record
        for offset in range(8)
        for record in fold.add(
            Tick(start + offset * MILLISECONDS_PER_DAY, MILLISECONDS_PER_DAY, State.OFF, Supply.AC)
        )
    ]
    names = [record.calendar_sha256 for record in records]
    assert names == sorted(names, key=lambda name: name == sha256)
    assert fold.site.sha256 == sha256 == names[-1]
    assert names[0] != sha256
    return first


def check_first_of_month(calendar: Calendar, imported: dict[str, Any]) -> None:
    """Check that a workstation with a calendar waits until the first Monday after the 1st. Then Christmas has
    no open hour, and the day after has its bands."""
    fold = Fold(Population.WORKSTATION, 60_000, SiteCalendar(DEFAULT_CALENDAR, "00" * 32))
    now = datetime(2026, 11, 26, 12, tzinfo=UTC)
    assert fold.schedule(
        SiteCalendar(calendar, imported["calendar_sha256"]), round(now.timestamp() * 1000)
    ) == date(2026, 12, 7)
    year = date.fromisoformat(imported["known_to"]).year - 1
    christmas = date(year, 12, 25) if date(year, 12, 25).isoweekday() < 6 else date(year + 1, 12, 25)
    assert christmas in calendar.closures
    day = round(datetime(christmas.year, 12, 24, 23, tzinfo=UTC).timestamp() * 1000)  # midnight of Paris
    records = list(fold.add(Tick(day, MILLISECONDS_PER_DAY, State.OFF, Supply.AC)))
    records += fold.add(Tick(day + MILLISECONDS_PER_DAY, 7 * MILLISECONDS_PER_DAY, State.OFF, Supply.AC))
    bands = {getattr(record.period, "day", None): {band for band, _, _ in record.cells} for record in records}
    assert bands[christmas] == {Band.CLOSED, Band.NIGHT}
    assert all(record.calendar_sha256 == imported["calendar_sha256"] for record in records)
    assert christmas + timedelta(days=1) in bands
