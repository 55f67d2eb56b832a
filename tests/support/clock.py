# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the real clock for the tests; no other file of tests does."""

from __future__ import annotations

from veilleuse.collector.clock import now, today, unix_milliseconds, unix_seconds

__all__ = ["now", "today", "unix_milliseconds", "unix_seconds"]
