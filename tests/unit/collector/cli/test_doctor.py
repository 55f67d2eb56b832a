# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse doctor`: each check detects what it is for, and is good otherwise."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support import clock as real_clock
from tests.support.backups import add_tokens, directory, make_backup, put_back
from tests.support.machines import settings_in
from tests.support.pushes import HOUR, SERVER, Stream, cell, clock, enrol, measurement
from tests.support.waiting import PATIENCE_SECONDS, until
from veilleuse.collector.admin.operations import AdminServer
from veilleuse.collector.app.data_directory import initialise, open_collector
from veilleuse.collector.app.schedule import run_daily_tasks
from veilleuse.collector.backup.destination import only_backup
from veilleuse.collector.cli.doctor import CHECKS, check_service, run_checks
from veilleuse.collector.cli.doctor.authority import check_certificates, check_renewals, check_rotation
from veilleuse.collector.cli.doctor.findings import Check, Finding
from veilleuse.collector.cli.doctor.fleet import (
    check_agents,
    check_balance,
    check_clock,
    check_identities,
    check_versions,
)
from veilleuse.collector.cli.doctor.storage import (
    check_directory,
    check_forecast,
    check_leftovers,
)
from veilleuse.collector.errors import DataDirectoryError
from veilleuse.collector.logs import product_version
from veilleuse.collector.model.clones import SHARED_PSEUDONYMS
from veilleuse.collector.model.hosts import Certificate, HostStatus
from veilleuse.collector.model.records import AgentId, DaySize, HostId, ValidPush
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.store.sqlite.diagnostics import note_size
from veilleuse.collector.validate import check_push
from veilleuse.collector.web.metrics.disk import days_until_full
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Population

DAY_MILLISECONDS = 86_400_000
NOW = real_clock.unix_milliseconds()
SEALING = {"backup.key_file": "/a/key"}


def found(check: Check, settings: CollectorSettings) -> list[tuple[str, str]]:
    """Return (outcome, text with the remedy) of a check's findings."""
    return [(finding.outcome, f"{finding.text}; {finding.remedy}") for finding in check(settings)]


def warnings(check: Check, settings: CollectorSettings) -> list[str]:
    """Return the findings that are not good."""
    return [text for outcome, text in found(check, settings) if outcome != "good"]


def machine(settings: CollectorSettings, change: Any = None, **health: Any) -> HostId:
    """Enrol a server that reported this health; `change` gets the registry and the host's number."""
    with open_collector(settings) as collector:
        registry = collector.store.registry

        def job() -> HostId:
            host_id = enrol(registry, Population.SERVER, "Lyon")
            said = pb.Health(agent_version=health.pop("agent_version", product_version()), **health)
            wire = said.SerializeToString()
            registry.record_hello(host_id, facts_wire=None, health_wire=wire, now_unix_milliseconds=NOW)
            if change is not None:
                change(registry, host_id)
            return host_id

        return collector.issuing.commit(job)


# --- the disk


def history(*megabytes: float, first: date = date(2026, 3, 1)) -> list[DaySize]:
    """Return one size a day."""
    return [
        DaySize(first + timedelta(days=n), round(size * 1_000_000), 0) for n, size in enumerate(megabytes)
    ]


@pytest.mark.parametrize(
    ("sizes", "room", "days"),
    [
        ((10, 20, 30), 100, 10),
        ((10, 10, 10), 100, float("inf")),
        ((30, 20, 10), 100, float("inf")),
        ((10, 20, 30), -5, 0),
        ((10, 20), 100, None),
        ((), 100, None),
        ((0, 0, 0, *range(0, 310, 10)), 100, 10),  # only the last 30 days count
    ],
)
def test_the_forecast_is_the_slope_of_the_last_days(sizes, room, days):
    """The forecast is least squares over at most 30 days; fewer than three give none."""
    expected = days if days is None else pytest.approx(days, rel=0.05)
    assert days_until_full(history(*sizes), room * 1_000_000) == expected


def test_the_disk_is_forecast_from_what_serve_noted(tmp_path):
    """Too few days are reported as such; steep growth warns with the days left, slow growth does not."""
    settings = directory(tmp_path)
    assert "not enough history" in found(check_forecast, settings)[-1][1]
    free = os.statvfs(tmp_path)
    room = free.f_bavail * free.f_frsize
    today = real_clock.today()
    for share, outcome in ((10, "warning"), (1000, "good")):
        with closing(Database(settings.data_dir / "data.db", writing=True)) as database:
            for back in range(5):
                day, size = (today - timedelta(days=back)).toordinal(), (4 - back) * room // share
                database.connection.execute(
                    "INSERT INTO sizes VALUES (?, ?, 0) ON CONFLICT (day) DO UPDATE SET data_bytes = excluded.data_bytes",
                    (day, size),
                )
        assert found(check_forecast, settings)[-1][0] == outcome
        assert "day(s)" in found(check_forecast, settings)[-1][1]


def test_serve_notes_its_size_every_day(tmp_path):
    """The size is stored at once and again when the day changes, one row a day."""
    settings = directory(tmp_path)
    days = [date(2026, 3, 1)]
    with (
        open_collector(settings) as collector,
        run_daily_tasks(collector, today=lambda: days[-1], check_seconds=0.01),
        open_reader(settings.data_dir) as store,
    ):
        for expected in (1, 2):
            until(lambda: len(store.data.sizes()) >= expected)  # noqa: B023 - at once
            assert [size.day for size in store.data.sizes()] == days
            days.append(days[-1] + timedelta(days=1))
        assert all(size.data_bytes > 100_000 for size in store.data.sizes())


def test_sizes_are_forgotten_after_a_year(tmp_path):
    """Sizes of the last 400 days stay."""
    settings = directory(tmp_path)
    with closing(Database(settings.data_dir / "data.db", writing=True)) as database:
        for offset in range(0, 1000, 100):
            note_size(database, date(2026, 1, 1) + timedelta(days=offset))
    with open_reader(settings.data_dir) as store:
        assert len(store.data.sizes()) == 5


# --- left-overs


def test_a_root_key_in_its_place_is_a_warning(tmp_path):
    """The warning lasts until the key is moved off-line."""
    settings = directory(tmp_path)
    (text,) = warnings(check_certificates, settings)
    assert "ca/root.key" in text
    assert "move it off-line" in text
    (settings.data_dir / "ca" / "root.key").rename(tmp_path / "root.key")
    assert warnings(check_certificates, settings) == []


def test_leftovers_are_named_with_what_to_do(tmp_path):
    """Files replaced by a restore or left by a cut backup are named, but not those of a running backup."""
    settings = directory(tmp_path)
    assert found(check_leftovers, settings) == []
    put_back(settings, make_backup(settings, tmp_path / "b"))
    (text,) = warnings(check_leftovers, settings)
    assert "rm -r" in text
    assert "replaced-" in text
    (settings.data_dir / "backup.work").mkdir()
    assert len(warnings(check_leftovers, settings)) == 2
    with only_backup(settings.data_dir):
        assert len(warnings(check_leftovers, settings)) == 1


def test_a_half_restored_directory_has_failed(tmp_path):
    """The finding names the command that continues the restore."""
    settings = directory(tmp_path)
    (settings.data_dir / "restore.placing").mkdir()
    ((outcome, text),) = found(check_directory, settings)
    assert outcome == "failed"
    assert "veilleuse restore" in text


# --- the fleet


def test_versions_are_held_against_the_rule(tmp_path):
    """This version and the one before are good; older and newer ones are counted, unknown ones are not."""
    settings = directory(tmp_path)
    major, minor = map(int, product_version().split(".")[:2])
    machine(settings)
    machine(settings, agent_version=f"{major}.{minor - 1}.7")
    assert warnings(check_versions, settings) == []
    machine(settings, agent_version=f"{major}.{minor + 1}.0")
    machine(settings, agent_version="mine")
    machine(
        settings, lambda registry, host: registry.set_status(host, HostStatus.REVOKED), agent_version="9.0.0"
    )
    (newer,) = warnings(check_versions, settings)
    assert newer.startswith("1 agent(s) are newer")
    if minor >= 2:
        machine(settings, agent_version=f"{major}.{minor - 2}.0")
        older = warnings(check_versions, settings)[0]
        assert older.startswith("1 agent(s) are older")


def certificate(host_id: HostId, serial: str, issued: int, end: int) -> Certificate:
    """Return a certificate row without bytes."""
    return Certificate(
        serial=serial,
        host_id=host_id,
        generation=1,
        public_key_sha256=os.urandom(32),
        certificate_der=b"",
        issued_unix_milliseconds=issued,
        not_after_unix_milliseconds=end,
        token_id=None,
        previous_serial=None,
    )


def test_certificates_that_were_not_renewed(tmp_path):
    """Ended, late and lost certificates are counted by each machine's newest, without revoked machines."""
    settings = directory(tmp_path)

    def holding(*spans: tuple[float, float], status: HostStatus = HostStatus.ACTIVE) -> None:
        def change(registry: Any, host: HostId) -> None:
            for issued, end in spans:
                row = certificate(
                    host,
                    os.urandom(8).hex(),
                    NOW + round(issued * DAY_MILLISECONDS),
                    NOW + round(end * DAY_MILLISECONDS),
                )
                registry.insert_certificate(row)
            registry.set_status(host, status)

        machine(settings, change)

    holding((-0.1, 0.9))
    holding((-9, -2), (-1, 6))
    assert warnings(check_renewals, settings) == []
    holding((-6.5, 0.5))  # late
    text = found(check_renewals, settings)[0][1]
    assert text.startswith("of 3 active machine(s), 0 ended without renewal, 1 should have renewed")
    holding((-9, -2))
    holding((-500, -499), status=HostStatus.REVOKED)
    assert "1 ended without renewal" in warnings(check_renewals, settings)[0]
    holding((-500, -499))
    assert "1 machine(s) cannot renew any more" in warnings(check_renewals, settings)[-1]


def test_conflicts_copies_and_waiting_machines(tmp_path):
    """Conflicts are named by their ids; machines that wait for approval and copies are counted."""
    settings = directory(tmp_path)
    original = machine(settings)
    assert warnings(check_identities, settings) == []
    disputed = machine(settings, lambda registry, host: registry.note_conflict(host))
    machine(settings, lambda registry, host: registry.set_status(host, HostStatus.PENDING))

    def copied(registry: Any, host: HostId) -> None:
        known = registry.host(original)
        registry.insert_host(
            agent_id=AgentId(os.urandom(16)),
            token_id=1,
            org_entity=known.org_entity,
            site=known.site,
            population=known.population,
            status=HostStatus.ACTIVE,
            enrolled_on=known.enrolled_on,
            facts_wire=None,
            copy_of=original,
        )

    machine(settings, copied)
    conflict, waiting = warnings(check_identities, settings)
    with open_collector(settings) as collector:
        host = collector.store.registry.host(disputed)
        assert host is not None
        assert host.agent_id.hex()[:12] in conflict
    assert "1 machine(s) wait for approval" in waiting
    assert found(check_identities, settings)[-1] == ("good", "5 machine(s), 1 of them copies of another; ")


def test_identities_with_one_pseudonym(tmp_path):
    """Two identities in use with one pseudonym are named; after one is forgotten, nothing of it is left."""
    settings = directory(tmp_path)

    def marked(registry: Any, host: HostId) -> None:
        registry.put_pseudonyms(registry.host(host).agent_id, b"\xaa" * 32, b"")
        registry.mark_shared_pseudonyms()

    machine(settings)
    first = machine(settings, marked)
    assert warnings(check_identities, settings) == []
    second = machine(settings, marked)

    def uuid(registry: Any, host: HostId) -> None:
        registry.put_pseudonyms(registry.host(host).agent_id, b"", b"\xbb" * 32)
        registry.mark_shared_pseudonyms()

    others = machine(settings, uuid), machine(settings, uuid)
    (told,) = warnings(check_identities, settings)
    assert told.startswith("4 identities in use have the serial number or UUID of another one: ")
    with open_collector(settings) as collector:
        names = [
            {one.agent_id.hex()[:12] for one in collector.store.registry.hosts() if one.host_id in pair}
            for pair in ((first, second), others)
        ]
        shown = told.partition(": ")[2].split("; ")[:2]
        assert [set(re.findall("[0-9a-f]{12}", one)) for one in shown] == names, "who shares with whom"
        registry: Any = collector.store.registry
        for other in others:
            registry.put_pseudonyms(registry.host(other).agent_id, b"", b"")
        registry.mark_shared_pseudonyms()
    (told,) = warnings(check_identities, settings)
    assert told.startswith("2 identities in use have the serial number or UUID of another one: ")
    with open_collector(settings) as collector:
        ids = [
            host.agent_id.hex()
            for host in collector.store.registry.hosts()
            if host.host_id in (first, second)
        ]
        assert all(agent_id[:12] in told for agent_id in ids)
        collector.operations.perform("host_forget", {"host": ids[0], "who": "ops", "why": "test"})
        assert SHARED_PSEUDONYMS not in collector.store.registry.data_kind().extra
    assert warnings(check_identities, settings) == []


def test_what_waits_on_the_machines(tmp_path):
    """Quarantined records and a spool above its half are warnings; waiting records are counted."""
    settings = directory(tmp_path)
    machine(settings, spool_records=5, spool_bytes=1000)
    machine(settings, spool_records=7, spool_bytes=1000, quarantine_records=0)
    assert found(check_agents, settings)[-1][1].startswith("12 record(s) wait on 2 active")
    assert warnings(check_agents, settings) == []
    machine(settings, quarantine_records=3)
    machine(settings, spool_records=100_000, spool_bytes=40 << 20)
    refused, full = warnings(check_agents, settings)
    assert "1 machine(s) keep 3 record(s) that were refused" in refused
    assert "1 machine(s) hold more than 32 MiB" in full


def test_an_hour_that_nobody_accounts_for(tmp_path):
    """A young directory and a complete one give no warning; a missing hour gives one with its amount."""
    settings = directory(tmp_path)
    assert "no machine has a whole day" in found(check_balance, settings)[0][1]
    begin = NOW // DAY_MILLISECONDS * DAY_MILLISECONDS - 5 * DAY_MILLISECONDS
    for missing, expected in ((None, 0), (60, 1)):
        host = machine(settings)
        stream = Stream(host)
        hours = [begin + hour * HOUR for hour in range(5 * 24) if hour != missing]
        stream.add(*(measurement(clock(start, HOUR), [cell(HOUR)]) for start in hours))
        with open_collector(settings) as collector:
            checked = check_push(stream.request(), host, SERVER, NOW)
            assert isinstance(checked, ValidPush)
            assert collector.writer.append(checked).result(PATIENCE_SECONDS).mark == len(hours)
        assert len(warnings(check_balance, settings)) == expected
    assert warnings(check_balance, settings)[0].startswith(
        "1.0 h of the last 28 days are neither stored nor declared lost"
    )


def test_a_rotation_of_the_authority_is_told(tmp_path):
    """No rotation and a rotation under way are good findings; without a collector there is none."""
    settings = directory(tmp_path)
    assert found(check_rotation, settings) == []
    machine(settings)
    with open_collector(settings) as collector, closing(AdminServer(settings.data_dir, collector.operations)):
        assert "no rotation" in found(check_rotation, settings)[0][1]
        collector.operations.perform("ca_rotate", {})
        ((outcome, text),) = found(check_rotation, settings)
        assert outcome == "good"
        assert "(overlap)" in text
        assert "'veilleuse ca show'" in text


def test_every_check_has_a_name_and_a_sentence():
    """Each check is named `check_…` and has a docstring."""
    for check in CHECKS:
        assert getattr(check, "__name__", "").startswith("check_")
        assert check.__doc__


def test_a_finding_that_is_not_good_says_what_to_do(tmp_path: Path) -> None:
    """Every warning of a new directory has a remedy."""
    settings = directory(tmp_path)
    add_tokens(settings, 1)
    findings: list[Finding] = [finding for check in CHECKS for finding in check(settings)]
    assert {finding.check for finding in findings if finding.outcome != "good"} == {
        "backup",
        "certificates",
        "service",
    }
    assert all(finding.remedy for finding in findings if finding.outcome != "good")
    assert found(check_service, settings)[0][0] == "warning"


def test_what_a_directory_has_lost_is_said_with_what_helps(tmp_path):
    """Without data.db or ca the remedy is a backup, never init; without a directory it is the right path."""
    (finding,) = run_checks(settings_in(tmp_path))
    assert finding.remedy.startswith("point VEILLEUSE__DATA_DIR")
    settings = directory(tmp_path)
    (settings.data_dir / "data.db").rename(tmp_path / "data.db")
    (finding,) = run_checks(settings)
    assert finding.outcome == "failed"
    assert "veilleuse restore" in finding.remedy
    (tmp_path / "data.db").rename(settings.data_dir / "data.db")
    (settings.data_dir / "ca").rename(tmp_path / "ca")
    (finding,) = run_checks(settings)
    assert "veilleuse restore" in finding.remedy


def test_a_damaged_database_is_said_once(tmp_path):
    """One finding names the file and one the checks that could not run; the others run."""
    settings = directory(tmp_path)
    (settings.data_dir / "data.db").write_bytes(b"rubbish" * 1000)
    findings = list(run_checks(settings))
    assert [finding.check for finding in findings if finding.outcome == "failed"] == ["sqlite"]
    assert "identities" in findings[-1].text
    assert {"certificates", "ports", "disk"} <= {finding.check for finding in findings}


def test_a_database_of_the_version_before_is_said(tmp_path):
    """After an update and before the restart, the finding asks to restart, without SQL."""
    settings = directory(tmp_path)
    with closing(sqlite3.connect(settings.data_dir / "data.db")) as connection:
        connection.execute("PRAGMA user_version = 1")
    (failed,) = [finding for finding in run_checks(settings) if finding.outcome == "failed"]
    assert "restart 'veilleuse serve'" in failed.text


def test_a_foreign_file_is_named_with_its_remedy(tmp_path):
    """A file of root or another user in the service's directory is named with a chown."""
    if os.geteuid():
        pytest.skip("needs root: a file of somebody else")
    settings = directory(tmp_path)
    os.chown(settings.data_dir / "data.db", 1, -1)
    ((outcome, text),) = found(check_directory, settings)[:1]
    assert outcome == "failed"
    assert "data.db" in text
    assert f"chown -R root:root {settings.data_dir}" in text


def test_a_contact_in_the_future_is_a_clock_that_went_back(tmp_path):
    """A minute ahead is good, an hour is a warning."""
    settings = directory(tmp_path)

    def seen(ahead_milliseconds: int) -> None:
        with open_collector(settings) as collector:
            registry = collector.store.registry
            host_id = (
                registry.hosts()[0].host_id
                if registry.hosts()
                else enrol(registry, Population.SERVER, "Lyon")
            )
            wire = pb.Health(agent_version="0.2.0").SerializeToString()
            now = real_clock.unix_milliseconds() + ahead_milliseconds
            collector.issuing.commit(
                lambda: registry.record_hello(
                    host_id, facts_wire=None, health_wire=wire, now_unix_milliseconds=now
                )
            )

    seen(60_000)
    assert not warnings(check_clock, settings)
    seen(3_600_000)
    assert "1.0 h in the future" in warnings(check_clock, settings)[0]


def test_a_lost_identity_file_is_said_with_a_remedy_that_fits(tmp_path):
    """Neither of the two checks of files reported a lost `identity.db`. The remedy names a rescued file where
    there is one."""
    settings = directory(tmp_path)
    identity = settings.data_dir / "identity.db"
    identity.rename(tmp_path / "away")
    ((outcome, text),) = found(check_directory, settings)
    assert outcome == "failed"
    assert "has lost identity.db; restore a backup" in text
    assert "'veilleuse init --new-data' begins with no name" in text
    rescued = identity.with_name("identity.db.rescued-20260101T000000Z")
    (tmp_path / "away").rename(rescued)
    ((_, text),) = found(check_directory, settings)
    assert f"mv {rescued} {identity}" in text
    with pytest.raises(DataDirectoryError, match=r"has lost identity\.db: .* mv "), open_collector(settings):
        pass
    initialise(settings, new_data=True)
    assert found(check_directory, settings)[0][0] == "good"
