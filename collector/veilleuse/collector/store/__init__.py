# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Chooses the store of the collector, which composition roots open here: one folder for each backend.

The import below is the choice. tests/conformance/backends.py lists every backend, chosen or not.
"""

from veilleuse.collector.store.sqlite import (
    MINIMUM_SQLITE,
    WAL_RESET_FIXED,
    check_database,
    create_store,
    export_host,
    open_reader,
    open_store,
)
from veilleuse.collector.store.sqlite import SqliteStore as CollectorStore

__all__ = [
    "MINIMUM_SQLITE",
    "WAL_RESET_FIXED",
    "CollectorStore",
    "check_database",
    "create_store",
    "export_host",
    "open_reader",
    "open_store",
]
