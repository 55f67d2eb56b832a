# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Timetables, public and school holidays → bands and day types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

BUILTIN: Final[Mapping[str, str]] = {"default": "veilleuse.collector.calendars.default:default_calendar"}
"""Name → function; nothing is imported until chosen."""
