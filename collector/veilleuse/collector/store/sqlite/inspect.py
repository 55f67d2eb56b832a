# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Administration through sqlite-utils: what is in the file, and everything of one host. Never on the ingest path."""

from __future__ import annotations

from typing import Any

import sqlite_utils

from veilleuse.collector.model.records import HostId
from veilleuse.collector.store.sqlite.connection import Database


def table_counts(database: Database) -> dict[str, int]:
    """Rows per table. Scans each once."""
    with database.translated():
        tables = sqlite_utils.Database(database.connection, execute_plugins=False).tables
        return {table.name: table.count for table in tables}


def export_host(database: Database, host_id: HostId) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table that names the host, as they stand; tables without one are left out."""
    exported: dict[str, list[dict[str, Any]]] = {}
    with database.translated():
        for table in sqlite_utils.Database(database.connection, execute_plugins=False).tables:
            if any(column.name == "host_id" for column in table.columns):
                rows = list(table.rows_where("host_id = ?", [host_id]))
                if rows:
                    exported[table.name] = rows
    return exported
