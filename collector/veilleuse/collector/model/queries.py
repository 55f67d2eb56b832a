# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Answers to SQL of an administrator."""

from __future__ import annotations

from typing import Any, NamedTuple


class QueryAnswer(NamedTuple):
    """Rows that a query gave."""

    rows: list[dict[str, Any]]
    cut: bool
    """True when there were more rows than asked for."""
    withheld: tuple[str, ...]
    """`table.column` of each column that was read as NULL."""
