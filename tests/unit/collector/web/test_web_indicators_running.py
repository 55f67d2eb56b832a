# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests that the thread of I3 to I8 survives a defect, and that the page's commands fit its table."""

from __future__ import annotations

import re
from datetime import date, timedelta
from functools import partial
from typing import Any

from tests.support.filled import Filled, month_of_workstations
from tests.support.publishing import Publishing
from tests.support.waiting import PATIENCE_SECONDS, until
from tests.unit.collector.indicators.test_sobriety import SCOPE
from tests.unit.collector.web.test_web_indicators import GOOD, MONTH, NOW
from veilleuse.collector.documents.text import words
from veilleuse.collector.indicators import load_indicator
from veilleuse.collector.model.indicators import Figure
from veilleuse.collector.model.query import Query
from veilleuse.collector.reports.indicators import GroupFigure
from veilleuse.collector.reports.machines import stretch_of
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader
from veilleuse.collector.web.metrics.indicators_monthly import (
    MachineFigure,
    MachineIndicators,
    _due_computations,
)
from veilleuse.collector.web.pages.indicators import indicator_part


class Defective:
    """A store of publications that raises until it is repaired."""

    def __init__(self, sound: Publishing) -> None:
        self.sound, self.broken, self.asked = sound, True, 0

    def __getattr__(self, name: str) -> Any:
        if self.broken:
            self.asked += 1
            raise ZeroDivisionError("a defect")
        return getattr(self.sound, name)


def test_a_defect_does_not_end_the_thread(tmp_path, caplog):
    """A defect gives no figure and one ERROR, however often it is tried; afterwards the figures return."""
    with Filled(tmp_path / "data", clock=NOW.timestamp) as data:
        month_of_workstations(data, MONTH, [GOOD] * 12)
        data.derive()
        settings, published = CollectorSettings(data_dir=data.directory), Publishing(data, NOW.timestamp)
        defective = Defective(published)
        indicators = MachineIndicators(
            settings,
            partial(open_reader, settings.data_dir),
            defective,
            published.publish,
            NOW.timestamp,
            0.01,
        )
        indicators.start()
        until(lambda: defective.asked > 3, "it tried again and again")
        assert indicators.machine_figures() == ()
        assert caplog.messages.count("indicators of machines cannot be worked out") == 1
        defective.broken = False
        until(indicators.machine_figures, "the figures are there")
        indicators.stop()
        indicators._thread.join(PATIENCE_SECONDS)
        assert not indicators._thread.is_alive()


def test_the_page_names_the_period_of_its_table():
    """On any day of two years the command has the table's whole months, and servers' days up to yesterday."""
    for offset in range(730):
        today = date(2026, 1, 1) + timedelta(days=offset)
        servers, others = _due_computations(today)
        figure = Figure(None, 12)
        found = GroupFigure(load_indicator("I3").meta, SCOPE, figure)
        shown = [MachineFigure(found, due.month, due.until) for due in (servers, others)]
        for (_, command), last in zip(
            indicator_part(shown, words("en"), CollectorSettings()).commands, (False, True), strict=True
        ):
            period = re.search(r"--from (\S+) --to (\S+) ", command)
            assert period is not None
            first, end = map(date.fromisoformat, period.groups())
            asked = stretch_of(Query(first, end, (), 10, today))
            assert last == command.endswith("--servers")
            if last:
                assert asked.until == today
                assert (asked.months[1] - asked.months[0]).days <= 31
            else:
                assert asked.months == (others.month, others.end), command
