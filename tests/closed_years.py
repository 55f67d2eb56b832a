# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A data directory with some weeks of 2025, to be closed: for the tests of closing."""

from __future__ import annotations

from datetime import date

from tests.filled import Filled
from tests.rolled import roll, server_day, workstation_days
from veilleuse.collector.assembly import initialise
from veilleuse.collector.settings import CollectorSettings
from veilleuse.wire.vocabulary import DeviceClass, Population

YEAR = 2025
TODAY = date(2026, 6, 1)
"""The year's own factor is published, and machines' months are all there."""


def filled_year(settings: CollectorSettings, machines: int = 12) -> None:
    """Workstations of two entities over four weeks of 2025, and a server for two days; derived, months kept."""
    initialise(settings)
    with Filled(settings.data_dir) as filled:
        for number in range(machines):
            host = filled.add_host(
                Population.WORKSTATION,
                DeviceClass.TOWER,
                entity="Voirie" if number % 3 else "Eau",
                enrolled_on=date(2025, 1, 1),
            )
            workstation_days(filled, host, date(2025, 1, 6), date(2025, 2, 3), watts=20 + number)
        server = filled.add_host(enrolled_on=date(2025, 3, 1))
        for day in (date(2025, 3, 3), date(2025, 3, 4)):
            server_day(filled, server, day)
        filled.derive()
        roll(filled, TODAY)
