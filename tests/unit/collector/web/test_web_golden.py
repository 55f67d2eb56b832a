# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test of the exposition of one small fleet at a fixed moment, byte for byte; `make golden` refreshes it."""

from __future__ import annotations

import subprocess
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

from prometheus_client import generate_latest

from tests.support.filled import METER, Filled, cell, civil, clock, month_of_workstations, week
from tests.support.peers import peer
from tests.support.publishing import monthly_figures, publish_months
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.web.metrics.samples import fleet_exposition
from veilleuse.collector.web.metrics.snapshot import SnapshotCache
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

NOW = datetime(2026, 11, 25, 10, 30, tzinfo=UTC)
OF_THE_MACHINE = {c.STORE_BYTES.name, c.STORE_FREE.name, c.STORE_RESERVE.name}


def test_small_fleet(tmp_path, golden):
    """Two servers, a virtual machine and PCs of a released month give the golden file; promtool agrees."""
    with Filled(tmp_path / "data", clock=NOW.timestamp) as store:
        fill(store)
        month_of_workstations(store, date(2026, 10, 1), [(600, 1200)] * 12 + [(600, 0)] * 12, 12)
        store.derive()
        reader = store.reader()
        settings = CollectorSettings(data_dir=store.directory)
        publish_months(store, NOW.date())
        store.store.publications.take_back(date(2026, 1, 1), date(2026, 9, 1))  # else 100 lines of gauges
        indicators = monthly_figures(store, NOW.timestamp)
        indicators.refresh()
        figures, month = indicators.figures, indicators.month
        emissions = indicators.fleet_emissions
        outlook = SnapshotCache(reader, settings, NOW.timestamp, figures, month, fleet_emissions=emissions)
        out = fleet_exposition(outlook.take_snapshot(), "0.1.0", 10)
        told = [family for family in out.collect() if family.name not in OF_THE_MACHINE]
        text = generate_latest(SimpleNamespace(collect=lambda: told)).decode()
        reader.close()
    golden("exposition/small_fleet.txt", text)
    done = subprocess.run(
        [peer("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def fill(store: Filled) -> None:
    """Add a day of servers, and three weeks of workstations."""
    hour = 3_600_000
    now = round(NOW.timestamp() * 1000)
    metered = [
        cell(State.ON_ACTIVE, hour // 2, energy_millijoules=180 * hour // 2, busy_ratio=0.4),
        cell(State.ON_IDLE, hour // 2, energy_millijoules=90 * hour // 2, busy_ratio=0.01),
    ]
    modelled = [cell(State.ON_ACTIVE, hour, busy_ratio=0.25)]
    start = now - now % hour - 24 * hour
    store.push(store.add_host(), [(clock(start + i * hour, hour), metered) for i in range(24)], METER)
    store.push(
        store.add_host(entity="Culture"), [(clock(start + i * hour, hour), modelled) for i in range(24)]
    )
    virtual = store.add_host(device_class=DeviceClass.VIRTUAL_MACHINE)
    store.push(virtual, [(clock(start + i * hour, hour), modelled) for i in range(24)])
    for number in range(23):
        entity = "Écoles" if number < 16 else f"Mairie {number % 2}"
        host = store.add_host(Population.WORKSTATION, DeviceClass.LAPTOP, entity=entity)
        records = [
            (civil(date(2026, 11, 25) - timedelta(days=back)), [cell(State.ASLEEP, 50_400_000, Band.NIGHT)])
            for back in range(4, 21)
        ]
        records.append((week(date(2026, 11, 9)), [cell(State.ON_IDLE, 180_000_000, busy_ratio=0.02)]))
        store.push(host, records)
