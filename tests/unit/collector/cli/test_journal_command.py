# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse journal`: both access journals for the data protection officer; each read is itself an entry."""

from __future__ import annotations

import getpass
import json
import sqlite3
from contextlib import closing
from datetime import date
from typing import Any

import pytest

from tests.support.closed_years import Command, command
from veilleuse.collector.app.data_directory import Collector, open_collector
from veilleuse.collector.calendars.periods import day_start_unix_milliseconds
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.model.accounts import Role
from veilleuse.collector.settings import CollectorSettings

ZONE = "Europe/Paris"
HOUR = 3_600_000


def midnight(day: int) -> int:
    """Return midnight in Paris of a day of January 2026, in Unix milliseconds."""
    return day_start_unix_milliseconds(date(2026, 1, day), ZONE)


def write(collector: Collector) -> None:
    """Write entries of two operators around midnight of 11 January, and two of one account."""
    collector.issuing.commit(lambda: _write(collector))


def _write(collector: Collector) -> None:
    for moment, who, what in (
        (midnight(10), "anne", "names of 3 assets"),
        (midnight(11) - 1, "bob", "name of 0123"),
        (midnight(11), "anne", "published 2025-11-01 to 2025-12-01 taken back"),
    ):
        collector.store.registry.write_journal(
            now_unix_milliseconds=moment, who=who, what=what, why=f"of {who}\ta try\nof it"
        )
    accounts = collector.store.accounts
    made = accounts.insert_account(
        name="grafana",
        role=Role.READER,
        entities=(),
        token_sha256=b"x" * 32,
        created_unix_milliseconds=0,
        expires_unix_milliseconds=2**50,
    )
    for _ in range(2):
        accounts.note_access(
            made.account_id,
            midnight(10) + 12 * HOUR,
            route="/api/v1/energy",
            query="from=2025-01-01\x1b[2J",
            status=200,
            rows=1,
        )


def read(collector: Collector, **asked: Any) -> list[tuple[str, str]]:
    """Return (journal, who) of the lines read."""
    found = json.loads(
        json.dumps(collector.operations.perform("journal", {"reader": "dpo", "why": "a look", **asked}))
    )
    return [(one["of"], one["who"]) for one in found["lines"]]


def test_both_journals_the_newest_first(opened):
    """The read itself is the newest entry."""
    write(opened)
    assert read(opened) == [
        ("operators", "dpo"),
        ("operators", "anne"),
        ("operators", "bob"),
        ("api", "grafana"),
        ("operators", "anne"),
    ]


def test_days_are_half_open_and_of_the_reporting_zone(opened):
    """The last millisecond of 10 January in Paris belongs to that day, midnight to the next."""
    write(opened)
    day = {"since": "2026-01-10", "until": "2026-01-11"}
    assert read(opened, **day) == [("operators", "bob"), ("api", "grafana"), ("operators", "anne")]
    assert read(opened, since="2026-01-11", until="2026-01-12") == [("operators", "anne")]
    assert read(opened, until="2026-01-10") == []


def test_one_journal_or_one_person(opened):
    """Lines are selected by login or by an account's name."""
    write(opened)
    day = {"since": "2026-01-01", "until": "2026-02-01"}
    assert read(opened, **day, of="api") == [("api", "grafana")]
    assert read(opened, **day, who="anne") == [("operators", "anne")] * 2
    assert read(opened, **day, who="grafana") == [("api", "grafana")]
    assert read(opened, **day, who="grafana", of="operators") == []
    assert read(opened, **day, who="ann") == []


@pytest.mark.promise("P8")
def test_each_look_is_a_line(opened, figure):
    """A read is an entry with reader, selection and reason; a refused read is none, and asks for a reason."""
    read(opened, since="2026-01-01", who="anne", of="operators")
    with pytest.raises(AdminError, match="say why"):
        read(opened, why=" ")
    lines = opened.store.identity.connection.execute("SELECT who, what, why FROM journal").fetchall()
    assert [tuple(line) for line in lines] == [
        ("dpo", "access journal of operators read, since 2026-01-01, who anne", "a look")
    ]
    figure(f"{len(lines)} journal entry for 1 access, none for a refused one")


def test_more_lines_than_one_answer_holds_are_said_to_be_left_out(opened):
    """The answer says that it is cut."""
    write(opened)
    order = {"reader": "dpo", "why": "a look", "until": "2026-02-01"}
    assert opened.operations.perform("journal", {**order, "limit": 4})["cut"] is False
    short = opened.operations.perform("journal", {**order, "limit": 3})
    assert (len(short["lines"]), short["cut"]) == (3, True)
    assert [one["who"] for one in short["lines"]] == ["anne", "bob", "grafana"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"of": "nobody"},
        {"since": "yesterday"},
        {"limit": 0},
        {"since": "2026-01-02", "until": "2026-01-02"},
        {"since": "2026-01-03", "until": "2026-01-02"},
    ],
)
def test_what_cannot_be_asked(opened, wrong):
    """A wrong request is a usage error and no entry."""
    with pytest.raises(UsageError):
        read(opened, **wrong)
    assert not opened.store.identity.connection.execute("SELECT * FROM journal").fetchall()


@pytest.fixture
def veilleuse(lyon: CollectorSettings, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function `veilleuse("journal")` → (exit code, output, errors), without a running collector."""
    assert lyon.reporting.time_zone == ZONE
    with open_collector(lyon) as collector:
        write(collector)
    return command(capsys)


def test_the_command(veilleuse):
    """Each entry is one line, whatever its text, with local time and offset."""
    code, out, err = veilleuse("journal", "--since", "2026-01-10", "--until", "2026-01-11")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "time\tof\twho\twhat\twhy",
        "2026-01-10T23:59:59+01:00\toperators\tbob\tname of 0123\tof bob a try of it",
        "2026-01-10T12:00:00+01:00\tapi\tgrafana\t/api/v1/energy?from=2025-01-01 [2J: 200, 1 row, 2 times\t",
        "2026-01-10T00:00:00+01:00\toperators\tanne\tnames of 3 assets\tof anne a try of it",
    ]


def test_the_command_for_programs(veilleuse, lyon):
    """The answer is a JSON array; the read's entry has the login and the command or given reason."""
    code, out, _ = veilleuse("journal", "--until", "2026-01-11", "--of", "api", "--json")
    assert code == 0
    (line,) = json.loads(out)
    assert (line["time"], line["who"], line["query"], line["times"]) == (
        "2026-01-10T12:00:00+01:00",
        "grafana",
        "from=2025-01-01\x1b[2J",
        2,
    )
    assert json.loads(veilleuse("journal", "--until", "2026-01-01", "--json", "--why", "audit")[1]) == []
    with closing(sqlite3.connect(lyon.data_dir / "identity.db")) as connection:
        rows = connection.execute("SELECT who, why FROM journal ORDER BY journal_id DESC LIMIT 2").fetchall()
    assert [tuple(row) for row in rows] == [
        (getpass.getuser(), "audit"),
        (getpass.getuser(), "veilleuse journal"),
    ]


@pytest.mark.parametrize(
    "wrong",
    [("--since", "yesterday"), ("--of", "nobody"), ("--until", "2026-01-01", "--since", "2026-01-01")],
)
def test_wrong_usage(veilleuse, wrong):
    """Wrong use gives exit code 2 and one line."""
    code, out, err = veilleuse("journal", *wrong)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1


def test_a_cut_answer_ends_with_warnings(veilleuse):
    """The newest lines are shown, and standard error says what is left out."""
    code, out, err = veilleuse("journal", "--until", "2026-02-01", "--limit", "2")
    assert code == 3
    assert len(out.splitlines()) == 3
    assert "only the newest 2 lines, back to 2026-01-10" in err
