# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Fill a collector's directory with one fault per condition that is in the store."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from tests.support.clock import today as real_today
from tests.support.clock import unix_milliseconds, unix_seconds
from tests.support.filled import Filled, cell, clock, month_of_workstations, reporting_day
from tests.support.publishing import publish_months
from veilleuse.collector.backup.notes import BACKUP_NOTE
from veilleuse.collector.model.grid import CONSOLIDATED, ODRE
from veilleuse.collector.months.worker import ended_by
from veilleuse.collector.silence import PRESENCE, Past
from veilleuse.collector.wire_codec import number
from veilleuse.wire.limits import CELL_BUCKETS
from veilleuse.wire.vocabulary import DeviceClass, Population, State

_HOUR: Final = 3_600_000
_DAY: Final = 24 * _HOUR


@dataclass(frozen=True)
class Fault:
    """What was broken, and who tells it how."""

    alert: str
    severity: str
    text: str
    check: str
    """Check of `doctor`."""
    doctor: str
    """A part of its text."""


FAULTS: Final = (
    Fault("VeilleuseBackupOld", "critical", "the last backup is 40 days old", "backup", "40 day(s) ago"),
    Fault(
        "VeilleuseCoverageFalling",
        "critical",
        "half of 24 workstations sent nothing last month",
        "conditions",
        "the coverage of the last released month differs",
    ),
    Fault(
        "VeilleuseOnAtNight",
        "info",
        "the other half was on every night",
        "conditions",
        "the PCs published under ",
    ),
    Fault(
        "VeilleuseDiskForecast",
        "critical",
        "the sizes of ten days grew by two thirds of the free space a day",
        "forecast",
        "the reserve is reached in",
    ),
    Fault(
        "VeilleuseFactorMissing",
        "warning",
        "a site in a zone whose last factor is too old",
        "conditions",
        "for the zone AF",
    ),
    Fault(
        "VeilleuseFactorStale",
        "warning",
        "a site in a zone whose factor has not come",
        "conditions",
        "should be known since",
    ),
    Fault(
        "VeilleuseFactorProvisional",
        "info",
        "the year's own factor is not published",
        "conditions",
        "is provisional",
    ),
    Fault(
        "VeilleuseIntensityFailing",
        "warning",
        "a connector failed five times",
        "intensity",
        "5 polls failed in a row",
    ),
    Fault(
        "VeilleuseMachineWaiting",
        "warning",
        "a copy of a machine waits for approval",
        "identities",
        "wait for approval",
    ),
    Fault(
        "VeilleusePopulationSilent",
        "critical",
        "40 classroom PCs are silent for 90 days",
        "silence",
        "40 classroom PCs",
    ),
    Fault(
        "VeilleuseRecordsQuarantined",
        "warning",
        "an agent keeps refused records",
        "agents",
        "that were refused",
    ),
    Fault(
        "VeilleuseRegisterUnwritable",
        "critical",
        "pki.register_file is where nobody can write",
        "register",
        "the register /proc/register.jsonl cannot be written: No such file",
    ),
    Fault(
        "VeilleuseServerComatose",
        "info",
        "a server without work for 190 days",
        "conditions",
        "without useful service",
    ),
    Fault(
        "VeilleuseSourceFailing",
        "warning",
        "RAPL cannot be read on a server",
        "conditions",
        "the source linux_rapl fails on 100",
    ),
    Fault(
        "VeilleuseTimeUnexplained",
        "warning",
        "a record of a server is missing",
        "balance",
        "neither stored nor",
    ),
)
"""Faults of `fill`."""
SETTINGS: Final = {
    "VEILLEUSE__INTENSITY__ODRE": "true",
    "VEILLEUSE__PKI__REGISTER_FILE": "/proc/register.jsonl",
}
"""A connector is on: its failures count. The register is on a disk that takes no file."""


def fill(directory: Path) -> None:
    """Fill an initialised directory."""
    today = reporting_day()
    first = (ended_by(today) - timedelta(days=1)).replace(day=1)
    with Filled(directory) as data:
        data.add_site("kabul", "AF")
        data.add_site("berlin", "DE")
        before = (first - timedelta(days=1)).replace(day=1)
        hosts = month_of_workstations(data, before, [(600, 1200)] * 24, 24)
        month_of_workstations(data, first, [(600, 1200)] * 12, 12, known=hosts[:12])
        _servers(data)
        data.derive()
        for _ in range(40):
            data.add_host(Population.CLASSROOM, DeviceClass.TOWER)
        data.add_host(site="kabul")
        data.add_host(site="berlin")
        waiting = data.add_host()
        publish_months(data, today)
    with closing(sqlite3.connect(directory / "data.db")) as database, database:
        _meta(database, today)
        long_ago = unix_milliseconds() - 90 * _DAY
        database.execute(
            "UPDATE hosts SET last_contact_unix_milliseconds = ? WHERE population = ?",
            (long_ago, number(Population.CLASSROOM)),
        )
        database.execute("UPDATE hosts SET status = 'pending', copy_of = 1 WHERE host_id = ?", (waiting,))
        tried = unix_milliseconds()
        for connector in (ODRE, CONSOLIDATED):
            row = (connector, tried, None, 5, "the publisher does not answer")
            database.execute("INSERT INTO intensity_polls VALUES (?, ?, ?, ?, ?)", row)
        _growth(database, today, shutil.disk_usage(directory).free)


def _servers(data: Filled) -> None:
    """Add a server without work, and one whose sensor fails and of which a record is missing."""
    on = cell(State.ON_IDLE, _HOUR, busy_ratio=0.01)
    for name, bucket in (("cpu_bucket_milliseconds", 1), ("network_rate_milliseconds", 0)):
        getattr(on, name).extend(_HOUR if at == bucket else 0 for at in range(CELL_BUCKETS[name]))
    midnight = unix_milliseconds() // _DAY * _DAY
    hours = [(clock(midnight - n * _HOUR, _HOUR), [on]) for n in reversed(range(1, 24 * 230))]
    data.push(data.add_host(), hours)
    failing = data.add_host(sources=(("linux_rapl", 0, 7, None), ("utilisation", 10, 0, None)))
    days = hours[-24 * 6 :]
    data.push(failing, [*days[:50], *days[51:]])


def _meta(database: sqlite3.Connection, today: date) -> None:
    made = round((unix_seconds() - 40 * 86_400) * 1000)
    ran = Past(today - timedelta(days=60), real_today() - timedelta(days=1)).to_json()
    for key, value in ((BACKUP_NOTE, str(made)), (PRESENCE, ran)):
        database.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))


def _growth(database: sqlite3.Connection, today: date, free_bytes: int) -> None:
    """Note sizes of ten days that grew by two thirds of the free space each."""
    for back in range(1, 11):
        size = (11 - back) * free_bytes * 2 // 3
        database.execute("INSERT OR REPLACE INTO sizes VALUES (?, ?, 1)", (today.toordinal() - back, size))
