# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Make small files that break readers, when a test asks for them; the repository contains none of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from veilleuse.collector.factors.base_carbone_rows import COLUMNS

LONG_FIELD: Final = "x" * 131_073
"""One character more than Python's csv module accepts."""
LONG_NUMBER: Final = "9" * 5_000
"""More than the 4,300 digits that Python's int() accepts."""
DEPTH: Final = 20_000
TABLES: Final = {
    "closures": "first,last,name",
    "holidays": "zone,first,last,name",
    "meters": "meter,room,site,from,to",
    "intensity": "start,minutes,gco2e_per_kwh",
    "readings": "unit,time,watts",
    "assets": "key;item;name;in_service_on;out_of_service_on",
    "headcounts": "entity;from_day;users",
    "actions": "action_id;sites;from_day;what",
    "factors": ";".join(COLUMNS.values()),
}
"""Headers of the tables that commands import, so that a reader accepts the first line and reads on."""
CELLS: Final = (
    "0001-01-01", "9999-12-31", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "2025-02-30", LONG_NUMBER, "-1", "1e999",
    "nan", "Zone A", "\x00", "\x1b[31m", "\u202e", "é" * 300, '"', "=1+1",
)  # fmt: skip


def hostile_files() -> Mapping[str, bytes]:
    """Return file name → content."""
    texts = {
        "empty": "",
        "blank": "\n\n\r\n",
        "no_text": "\x00\x01\x02",
        "only_quote": '"',
        "deep.toml": "x = " + "[" * DEPTH + "]" * DEPTH,
        "dotted.toml": "a" + ".a" * DEPTH + " = 1\n",
        "number.toml": f"x = {LONG_NUMBER}\n",
        "hexadecimal.toml": f"[store]\nfree_bytes_minimum = 0x{'f' * 5_000}\n",
        "null.toml": 'data_dir = "a\\u0000b"\n[paths]\nstate = "a\\u0000b"\n',
        "edge.toml": "[open]\n[[closure]]\nfirst = 9999-12-31\n[[closure]]\nfirst = 0001-01-01\n",
        "infinite.toml": "[grpc]\nworkers = inf\n[store]\nfree_ratio_minimum = nan\n",
        "deep.json": "[" * DEPTH + "]" * DEPTH,
        "deep_object.json": '{"a":' * DEPTH,
        "number.json": f'{{"zone": {LONG_NUMBER}, "results": [{{"minutes": {LONG_NUMBER}}}]}}',
        "surrogate.json": '{"ca_sha256": "\\ud800", "results": [{"nature": "\\udfff"}]}',
        "deep.xml": "<REQUEST>" * DEPTH,
        "entity.xml": '<!DOCTYPE a [<!ENTITY a "b"><!ENTITY c "&a;&a;">]><REQUEST>&c;</REQUEST>',
    }
    found = {name: text.encode() for name, text in texts.items()}
    for table, header in TABLES.items():
        found |= {f"{table}_{name}.csv": text.encode() for name, text in _tables(header).items()}
    return found | {"latin1.csv": "é,è\nà\n".encode("latin-1"), "utf16.csv": "a,b\n1,2\n".encode("utf-16")}


def _tables(header: str) -> dict[str, str]:
    """Return name → text of each hostile table with this header."""
    comma = ";" if ";" in header else ","
    width = header.count(comma) + 1
    row = comma.join(["a"] * width)
    texts = {
        "carriage_return": f"{header}\r{row}\rb",
        "quoted_return": f'{header}\n"a\rb"{comma}c\rd\n',
        "long_field": f"{header}\n{row}{comma}{LONG_FIELD}\n",
        "long_header": f"{header}{comma}{LONG_FIELD}\n{row}\n",
        "open_quote": f'{header}\n"a{comma}b\n',
        "many_columns": f"{header}\n{comma * 20_000}\n",
    }
    return texts | {
        f"cell_{place}": f"{header}\n{comma.join([cell] * width)}\n" for place, cell in enumerate(CELLS)
    }


def write_all(folder: Path) -> list[Path]:
    """Write all hostile files into an existing folder; return their paths."""
    paths = []
    for name, content in hostile_files().items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)  # otherwise some are refused because of their permissions
        paths.append(folder / name)
    return paths
