# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Opens data.db read-only, beside the writer, in any process; one query at a time."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from veilleuse.collector.store.directory import DATA_FILE
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.store.sqlite.migrations import require_current


class BesideReader:
    """A read-only connection of its own. Safe from any thread."""

    def __init__(self, directory: Path) -> None:
        """Raises DataDirectoryError without a database or with an old one, StoreTooNew, StoreDamaged."""
        self._lock = threading.Lock()
        self._data = Database(directory / DATA_FILE, writing=False)
        try:
            require_current(self._data, "data")
        except BaseException:
            self._data.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._data.close()

    @contextmanager
    def _asking(self) -> Iterator[sqlite3.Connection]:
        """Hold the connection for one query. Raises errors of the disk: see Database.translated."""
        with self._lock, self._data.translated():
            yield self._data.connection
