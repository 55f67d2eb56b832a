# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse query` reads the data directory with SQL; it changes nothing and shows no secret."""

from __future__ import annotations

import csv
import io
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.closed_years import lead_commands_to
from tests.support.machines import make, settings_in
from veilleuse.collector.app.data_directory import open_collector
from veilleuse.collector.cli.main import run

NAME = "pc-of-somebody"
SECRET = b"\x5e" * 32


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a data directory with a token, a name, and text that a spreadsheet or terminal would execute."""
    settings = settings_in(tmp_path)
    make(settings, "Lyon")
    lead_commands_to(settings, monkeypatch)
    with closing(sqlite3.connect(settings.data_dir / "data.db")) as db, db:
        db.execute(
            "INSERT INTO tokens (token_sha256, created_unix_milliseconds, expires_unix_milliseconds, max_uses, networks, org_entity,"
            " site, population, approve) VALUES (?, 1, 2, 1, '', ?, 'Lyon', 1, 0)",
            (SECRET, "=1+1\x1b[2J"),
        )
    with closing(sqlite3.connect(settings.data_dir / "identity.db")) as db, db:
        db.execute("INSERT INTO names VALUES (x'0123', ?)", (NAME,))
    return settings.data_dir


def journal(data: Path) -> list[tuple[str, str]]:
    """Return (what, why) of the operators' journal."""
    with closing(sqlite3.connect(data / "identity.db")) as db:
        return db.execute("SELECT what, why FROM journal ORDER BY journal_id").fetchall()


def test_rows_as_a_table_as_json_and_as_csv(data, capsys):
    """All formats have the same rows: bytes are hexadecimal, NULL is empty, no cell of the CSV is a formula,
    and the table has no control characters."""
    sql = "SELECT org_entity, x'00ff' AS bytes, NULL AS unknown, 0.5 AS half FROM tokens"
    assert run(["query", sql]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "org_entity\tbytes\tunknown\thalf",
        "=1+1 [2J\t00ff\t\t0.5",
    ]
    assert run(["query", sql, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row == {"org_entity": "=1+1\x1b[2J", "bytes": "00ff", "unknown": None, "half": 0.5}
    assert run(["query", sql, "--csv"]) == 0
    head, cells = csv.reader(io.StringIO(capsys.readouterr().out, newline=""))
    assert head == ["org_entity", "bytes", "unknown", "half"]
    assert cells == ["'=1+1\x1b[2J", "00ff", "", "0.5"]
    assert run(["query", "SELECT 1 WHERE 0", "--csv"]) == 0
    assert capsys.readouterr() == ("", "no row\n")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM tokens",
        "SELECT Token_SHA256 FROM TOKENS",
        "SELECT hex(max(t.token_sha256)) FROM tokens AS t",
        "WITH x AS (SELECT token_sha256 AS y FROM tokens) SELECT y FROM x",
        "SELECT (SELECT token_sha256 FROM tokens) AS y",
        f"SELECT iif(token_sha256 > x'00', '{SECRET.hex()}', '') AS y FROM tokens",
    ],
)
def test_a_hash_of_a_secret_is_read_as_null(sql, data, capsys):
    """A hash is withheld in any expression or condition, and the command says so."""
    assert run(["query", sql, "--json"]) == 0
    shown = capsys.readouterr()
    assert SECRET.hex() not in shown.out.lower()
    assert len(json.loads(shown.out)) == 1
    assert shown.err == "veilleuse: tokens.token_sha256 is withheld: it is read as NULL\n"


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("DELETE FROM sites", "it only reads tables"),
        ("INSERT INTO meta VALUES ('a', 'b') RETURNING key", "it only reads tables"),
        ("CREATE TEMP TABLE x (y)", "it only reads tables"),
        ("PRAGMA query_only = OFF", "it only reads tables"),
        ("ATTACH 'identity.db' AS i", "it only reads tables"),
        ("VACUUM INTO 'copy.db'", "it only reads tables"),
        ("SELECT 1; DELETE FROM sites", "it only reads tables"),
        ("SELECT * FROM pragma_database_list", "it only reads tables"),
        ("SELECT * FROM sqlite_dbpage", " table"),  # "no such table" where SQLite is built without it
        ("", "it only reads tables"),
        ("SELEC 1", 'near "SELEC": syntax error'),
        ("SELECT nowhere FROM hosts", "no such column: nowhere"),
        ("SELECT host_name FROM names", "no such table: names"),
        ("SELECT ?", "Incorrect number of bindings"),
        ("SELECT 'caf\udce9'", "is not UTF-8"),
    ],
)
def test_what_is_no_reading_is_refused_in_one_line(sql, told, data, capsys):
    """Exit code 2, and the files do not change."""
    before = (data / "data.db").read_bytes(), (data / "identity.db").read_bytes()
    assert run(["query", sql]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert told in shown.err
    assert shown.err.count("\n") == 1
    assert before == ((data / "data.db").read_bytes(), (data / "identity.db").read_bytes())


def test_names_are_asked_for_and_noted_with_why(data, capsys):
    """`--names` reads identity.db, and the journal has the query with its reason. The list of tables is not
    noted."""
    known = journal(data)
    assert run(["query", "--tables", "--names", "--json"]) == 0
    columns = {(row["table"], row["column"]): row["note"] for row in json.loads(capsys.readouterr().out)}
    assert columns["identity.names", "host_name"] == ""
    assert columns["tokens", "token_sha256"] == "withheld"
    assert journal(data) == known
    sql = "SELECT host_name\nFROM identity.names"
    assert run(["query", sql, "--names", "--why", "a lost PC"]) == 0
    assert NAME in capsys.readouterr().out
    assert journal(data) == [*known, ("query with names: SELECT host_name FROM identity.names", "a lost PC")]


def test_time_and_rows_are_bounded(data, capsys):
    """An endless query is ended; rows beyond --limit are left out with exit code 3."""
    forever = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT {} FROM n"
    assert run(["query", forever.format("sum(i)"), "--seconds", "0.2"]) == 1
    assert "takes more than 0.2 s and was ended: narrow it" in capsys.readouterr().err
    assert run(["query", forever.format("i"), "--limit", "2"]) == 3
    shown = capsys.readouterr()
    assert shown.out == "i\n1\n2\n"
    assert shown.err == "veilleuse: only the first 2 rows: ask for more with --limit\n"


def test_who_may_not_read_the_directory_is_told(data, capsys):
    """The files' rights decide, and the error names the directory."""
    if os.geteuid() == 0:
        os.seteuid(65534)
    else:
        data.chmod(0)
    try:
        assert run(["query", "SELECT 1"]) == 1
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        data.chmod(0o700)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert str(data) in shown.err


def test_one_statement_or_the_list_of_tables(data, capsys):
    """No statement, a statement with --tables, and two formats are wrong use."""
    for words in ([], ["SELECT 1", "--tables"], ["SELECT 1", "--json", "--csv"]):
        assert run(["query", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 3


def test_it_reads_while_the_directory_is_open(data, capsys):
    """A query beside the writer sees committed data."""
    with open_collector(settings_in(data.parent)) as collector:
        collector.issuing.commit(lambda: collector.store.registry.put_meta("seen", "yes"))
        assert run(["query", "SELECT value FROM meta WHERE key = 'seen'"]) == 0
    assert capsys.readouterr().out == "value\nyes\n"


def test_the_statement_may_come_from_standard_input_and_the_help_in_french(data):
    """`-` reads standard input, and a French locale gives French help."""
    environment = os.environ | {"LC_ALL": "fr_FR.UTF-8", "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "veilleuse.collector", "query"]
    done = subprocess.run(
        [*command, "-"], input=b"SELECT 40 + 2 AS x", env=environment, capture_output=True, check=True
    )
    assert done.stdout == b"x\n42\n"
    shown = subprocess.run([*command, "--help"], env=environment, capture_output=True, check=True).stdout
    assert "nombre de lignes au plus" in shown.decode()
