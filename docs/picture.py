#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Draws docs/images/page.png: the first page of a simulated fleet, in Chromium.

Run by hand when the page changes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.filled import METER, RAPL, Filled, cell, civil, clock, week
from tests.support.pages import body, standalone
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.web.access import MetricsAuth
from veilleuse.collector.web.app import make_app
from veilleuse.collector.web.metrics.snapshot import Snapshot, SnapshotCache
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

OUTPUT = Path(__file__).resolve().parent / "images" / "page.png"
NOW = datetime(2026, 11, 25, 16, 40, tzinfo=UTC)
HOUR = 3_600_000


class Answered(SnapshotCache):
    """Answered adds a health to the snapshot, as if the receiving process answered."""

    def take_snapshot(self) -> Snapshot:
        """Return the snapshot with a health."""
        return replace(super().take_snapshot(), health={})


def main() -> None:
    """Fill a data directory, draw the page, write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        with Filled(Path(folder) / "data", simulated=True, clock=NOW.timestamp) as store:
            fill(store)
            settings = CollectorSettings(data_dir=store.directory)
            reader = store.reader()
            app = make_app(
                Answered(reader, settings, NOW.timestamp),
                settings,
                MetricsAuth("127.0.0.1", 0, None),
                "0.1.0",
            )
            page = Path(folder) / "page.html"
            page.write_text(
                standalone(body(app, "/?lang=en"), body(app, "/static/veilleuse.css")), encoding="utf-8"
            )
            reader.close()
        OUTPUT.parent.mkdir(exist_ok=True)
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        subprocess.run(
            [*command, "--window-size=1100,1270", f"--screenshot={OUTPUT}", page.as_uri()],
            check=True,
            timeout=60,
        )


def fill(store: Filled) -> None:
    """Add three servers, a virtual machine, two kinds of workstations, a classroom."""
    now = round(NOW.timestamp() * 1000)
    start = now - now % HOUR - 40 * HOUR
    for watts, point in ((210, METER), (160, METER), (45, RAPL), (0, None)):
        records = []
        for i in range(40):
            active = round(HOUR * (0.7 if 7 <= (start // HOUR + i) % 24 <= 17 else 0.25))
            parts = ((State.ON_ACTIVE, active, 1.0, 0.35), (State.ON_IDLE, HOUR - active, 0.55, 0.02))
            records.append(
                (
                    clock(start + i * HOUR, HOUR),
                    [
                        cell(
                            state,
                            length,
                            busy_ratio=busy,
                            energy_millijoules=round(watts * share * length) if point else None,
                        )
                        for state, length, share, busy in parts
                    ],
                )
            )
        kind = DeviceClass.SERVER if point else DeviceClass.VIRTUAL_MACHINE
        store.push(store.add_host(device_class=kind), records, point)
    for number in range(28):
        pcs(store, number)
    store.derive()


def pcs(store: Filled, number: int) -> None:
    """Add a workstation; every second call also adds a classroom PC."""
    today, before = NOW.date(), date(2026, 9, 1)
    kind = DeviceClass.LAPTOP if number < 14 else DeviceClass.TOWER
    host = store.add_host(Population.WORKSTATION, kind, enrolled_on=before)
    days = [
        (
            civil(today - timedelta(days=back)),
            [
                cell(State.OFF, 42_000_000, Band.NIGHT),
                cell(State.ON_IDLE, 2_400_000, Band.CLOSED, busy_ratio=0.02),
            ],
        )
        for back in range(4, 18)
    ]
    open_hours = [
        cell(State.ON_ACTIVE, 70_000_000, busy_ratio=0.2),
        cell(State.ON_IDLE, 60_000_000, busy_ratio=0.01),
    ]
    store.push(host, [*days, (week(today - timedelta(days=16)), open_hours)])
    if number % 2:
        return
    host = store.add_host(Population.CLASSROOM, DeviceClass.MINI_PC, entity="Colleges", enrolled_on=before)
    on = [
        cell(State.ON_ACTIVE, HOUR // 3, busy_ratio=0.3),
        cell(State.ON_IDLE, HOUR - HOUR // 3, busy_ratio=0.01),
    ]
    off = [cell(State.OFF, HOUR, Band.CLOSED)]
    first = round(datetime(2026, 11, 14, tzinfo=UTC).timestamp() * 1000)
    store.push(
        host,
        [(clock(first + i * HOUR, HOUR), on if 8 <= i % 24 < 15 else off) for i in range(24 * 9)],
    )


if __name__ == "__main__":
    main()
