# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The factors that a command applies: those shipped, and those imported into the data directory where there is one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from veilleuse.collector.cli.shared import date_of, settings_of
from veilleuse.collector.errors import CollectorError, ConfigurationError
from veilleuse.collector.factors.book import FactorBook, book_of
from veilleuse.collector.model.factors import FactorVersion
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store.sqlite.directory import DATA_FILE
from veilleuse.collector.store.sqlite.factors import SqliteFactorsReader

OnOption = Annotated[
    str | None,
    typer.Option("--on", metavar="DATE", help="as known at the end of this day, UTC (default: now)"),
]


@contextmanager
def factor_reader(settings: CollectorSettings) -> Iterator[SqliteFactorsReader]:
    """What is kept in the data directory. Raises DataDirectoryError when there is none."""
    with closing(SqliteFactorsReader(settings.data_dir)) as reader:
        yield reader


def versions_of(config: Path | None) -> tuple[FactorVersion, ...]:
    """What was imported; nothing where there is no data directory, with a note where there is one that cannot be read."""
    try:
        settings = settings_of(config)
        if not (settings.data_dir / DATA_FILE).exists():
            return ()
        with factor_reader(settings) as reader:
            return reader.versions()
    except (CollectorError, ConfigurationError, PermissionError) as error:
        if config is not None:
            raise
        print(f"note: imported factors cannot be read, only shipped ones are shown: {error}", file=sys.stderr)
        return ()


def book(config: Path | None, on: str | None = None) -> FactorBook:
    """The factors in force; `on`: as known then. Raises UsageError, ConfigurationError."""
    return book_of(versions_of(config), None if on is None else date_of("--on", on))
