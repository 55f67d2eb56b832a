# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines the result of a check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from veilleuse.collector.settings import CollectorSettings

Outcome = Literal["good", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check: the outcome, a text, and what to do."""

    check: str
    outcome: Outcome
    text: str
    remedy: str = ""


Check: TypeAlias = Callable[[CollectorSettings], Iterator[Finding]]
