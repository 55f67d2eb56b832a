# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Declare the telework days of eleven people, and of ten of them in a branch, then solve for the eleventh.

September: the branch has 0.9 days on average. In October the eleventh, alone, changes to five days.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from tests.support.filled import Filled
from tests.support.publishing import publish_months
from tests.support.reading import Reading
from tests.support.rolled import workstation_days
from veilleuse.wire.vocabulary import DeviceClass, Population

WHOLE, BRANCH = "Eau", "Eau > Usine"
SEPTEMBER, OCTOBER, END = date(2026, 9, 1), date(2026, 10, 1), date(2026, 11, 1)
NOW: Final = datetime(2026, 11, 12, 12, tzinfo=UTC)
OTHERS: Final = Decimal(9)
"""Days of the ten people of the branch together."""
GROUPS: Final = ("entity,device_class,month", "entity,power_context", "power_context", "population,month")
PAGES: Final = ("/bilan?by=entity&", "/bilan?by=class&", "/bilan?by=month&", "/?", "/sobriete?")
POSSIBLE: Final = (0, 2, 5)
Answers = dict[str, str]


def answers(folder: Path, days: int) -> Answers:
    """Return what each outlet says where the eleventh has so many days in September."""
    now = NOW.timestamp()
    with Filled(folder / "data", clock=lambda: now) as data:
        for entity in (WHOLE, BRANCH):
            for number in range(12):
                host = data.add_host(
                    Population.WORKSTATION, DeviceClass.LAPTOP, entity=entity, enrolled_on=SEPTEMBER
                )
                for first in (SEPTEMBER, OCTOBER):
                    workstation_days(data, host, first, first.replace(day=8), watts=20 + number)
        data.derive()
        declared = (
            (BRANCH, SEPTEMBER, 10, OTHERS / 10),
            (WHOLE, SEPTEMBER, 11, (OTHERS + days) / 11),
            (WHOLE, OCTOBER, 11, (OTHERS + 5) / 11),
        )
        with data.store.transaction():
            for entity, since, users, mean in declared:
                data.store.data.connection.execute(
                    "INSERT INTO inventory_headcounts (entity, from_day, users, telework_days_per_week)"
                    " VALUES (?, ?, ?, ?)",
                    (entity, since.toordinal(), users, str(mean)),
                )
        publish_months(data, NOW.date())
        with Reading(data, clock=lambda: now) as reading:
            reading.indicators.refresh()
            token = reading.account("reader")
            period = f"from={SEPTEMBER}&to={END}"
            paths = [f"/api/v1/emissions?{period}&group_by={group}" for group in GROUPS]
            paths += [f"/api/v1/emissions?{period}&group_by={GROUPS[0]}&format=csv"]
            paths += [f"{page}{period}&lang=en" for page in PAGES]
            return {path: reading.get(path, token).text for path in (*paths, "/metrics")}


def solve(told: Mapping[str, str]) -> float:
    """Return the days of the eleventh in September by the published shares, as if these were exact."""
    found = json.loads(told[next(iter(told))])
    shares = {
        one["entity"]: one["home_share"]
        for one in found["home_shares"]
        if one["period_from"] == SEPTEMBER.isoformat()
    }
    return float(5 * (11 * shares[WHOLE] - 10 * shares[BRANCH]))


def different(folder: Path) -> dict[str, int]:
    """Return outlet → number of different answers over all that the eleventh may do in September."""
    every = []
    for days in POSSIBLE:
        place = folder / str(days)
        place.mkdir()
        every.append({path: _figures(text) for path, text in answers(place, days).items()})
    return {path: len({told[path] for told in every}) for path in every[0]}


def _figures(text: str) -> str:
    """Return an answer without the moment at which it was made; of /metrics the fleet's samples."""
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:
        lines = text.splitlines()
        if not lines[0].startswith("# HELP"):
            return text
        of_fleet = ("veilleuse_fleet", "veilleuse_month", "veilleuse_indicator")
        return "\n".join(line for line in lines if line.startswith(of_fleet))
    found["report"].pop("generated_unix_milliseconds", None)
    return json.dumps(found, sort_keys=True)


def measure(folder: Path) -> str:
    """Solve for the eleventh, and count the answers that differ with what they do."""
    (folder / "solved").mkdir()
    solved = solve(answers(folder / "solved", 2))
    most = max(different(folder).values())
    return f"solved as {solved:.1f} days of one person; {most} different answer(s) for {len(POSSIBLE)} possible days"
