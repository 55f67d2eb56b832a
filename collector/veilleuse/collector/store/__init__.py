# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Holds the stores of the collector: one folder for each backend, one conformance suite.

Composition roots open them here.
"""

from veilleuse.collector.store.sqlite import SqliteStore, check_database, create_store, open_store
from veilleuse.collector.store.sqlite.connection import MINIMUM_SQLITE, WAL_RESET_FIXED
from veilleuse.collector.store.sqlite.host_export import export_host
from veilleuse.collector.store.sqlite.read_store import open_reader

__all__ = [
    "MINIMUM_SQLITE",
    "WAL_RESET_FIXED",
    "SqliteStore",
    "check_database",
    "create_store",
    "export_host",
    "open_reader",
    "open_store",
]
