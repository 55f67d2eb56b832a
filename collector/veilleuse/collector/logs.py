# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Formats the log: one line per event, followed by its facts; the same line at most once in 20 s."""

from __future__ import annotations

import json
import logging
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from veilleuse.collector.settings import CollectorSettings

REPEAT_SECONDS: Final = 20.0
MAX_REMEMBERED: Final = 1_000
_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class FactsFormatter(logging.Formatter):
    """FactsFormatter writes `2026-01-31T12:00:00Z INFO agent enrolled site="Lyon"`.

    The facts of `extra` are JSON values, in their order.
    """

    default_msec_format = None

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        """Return one line; a traceback, if any, follows it."""
        facts = {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
        text, newline, trace = super().format(record).partition("\n")
        tail = "".join(
            f" {name}={json.dumps(value, ensure_ascii=False, default=str)}" for name, value in facts.items()
        )
        return text + tail + newline + trace


class RepeatFilter(logging.Filter):
    """RepeatFilter passes the same event with the same facts once in 20 s; debug lines always."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell if the record is written."""
        facts = repr([item for item in record.__dict__.items() if item[0] not in _STANDARD])
        key, now = (record.name, str(record.msg), facts), time.monotonic()
        if record.levelno > logging.DEBUG and now - self._last.get(key, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return False
        if len(self._last) >= MAX_REMEMBERED:
            self._last.clear()
        self._last[key] = now
        return True


def configure(settings: CollectorSettings) -> None:
    """Log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FactsFormatter())
    handler.addFilter(RepeatFilter())
    logging.basicConfig(level=settings.log.level.upper(), handlers=[handler], force=True)


def product_version() -> str:
    """Return the version of the installed distribution; 0+source for a bare source tree."""
    try:
        return version("veilleuse")
    except PackageNotFoundError:
        return "0+source"
