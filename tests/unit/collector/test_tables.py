# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the shipped tables and of the refusal of bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from veilleuse.collector.shipped_tables import load_table, read_table
from veilleuse.wire.settings_file import ConfigurationError

DATA = Path(__file__).parents[3] / "collector" / "veilleuse" / "collector" / "data"
SCHEMA = """title = "T"
source = "S"
year = 2026
licence = "L"
attribution = "A"
[columns]
a = { unit = "W" }
b = { unit = "text" }
"""


def _write(folder: Path, csv: str | None, schema: str | None) -> Path:
    if csv is not None:
        (folder / "t.csv").write_text(csv)
    if schema is not None:
        (folder / "t.schema.toml").write_text(schema)
    return folder


@pytest.mark.parametrize("name", sorted(path.stem for path in DATA.glob("*.csv")))
def test_every_shipped_table_loads_with_its_origin(name: str):
    """Each shipped CSV has rows, a licence and an attribution, and is named in SOURCES.md."""
    table = load_table(name)
    assert table.rows
    assert table.licence
    assert table.attribution
    assert table.year >= 2024
    assert f"`{name}.csv`" in (DATA / "SOURCES.md").read_text(), f"add {name}.csv to data/SOURCES.md"


def test_a_table_is_read_as_written(tmp_path: Path):
    """Values stay text; an empty cell means absent."""
    table = read_table(_write(tmp_path, "a,b\n1.50,\n", SCHEMA), "t")
    assert table.rows == ({"a": "1.50", "b": ""},)
    assert (table.source, table.year, table.licence, table.attribution) == ("S", 2026, "L", "A")


@pytest.mark.parametrize("key", ["title", "source", "year", "licence", "attribution"])
def test_a_table_without_its_origin_is_refused(tmp_path: Path, key: str):
    """The refusal names the missing key."""
    schema = "\n".join(line for line in SCHEMA.splitlines() if not line.startswith(key))
    with pytest.raises(ConfigurationError, match=f"lacks {key}"):
        read_table(_write(tmp_path, "a,b\n", schema), "t")


@pytest.mark.parametrize(
    ("csv", "schema", "why"),
    [
        ("a,b\n", None, "no readable t.schema.toml"),
        ("a,b\n", "not toml [", "no readable t.schema.toml"),
        (None, SCHEMA, "cannot read t.csv"),
        ("a,c\n", SCHEMA, "its schema says"),
        ("", SCHEMA, "its schema says"),
        ("a,b\n1\n", SCHEMA, "line 2"),
        ("a,b\n", SCHEMA.replace('{ unit = "W" }', "{}"), "columns.a.unit"),
        ("a,b\n", SCHEMA.split("[columns]")[0], "columns"),
        ("a,b\n", SCHEMA.replace('"L"', '" "'), "licence"),
    ],
)
def test_a_table_that_cannot_be_trusted_is_refused(
    tmp_path: Path, csv: str | None, schema: str | None, why: str
):
    """The refusal is one line that names the table and the defect."""
    with pytest.raises(ConfigurationError, match=why):
        read_table(_write(tmp_path, csv, schema), "t")
