# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines the result of a check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from veilleuse.collector.exposition.conditions import BY_NAME, Severity
from veilleuse.collector.settings import CollectorSettings

Outcome = Literal["good", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check: the outcome, a text, and what to do."""

    check: str
    outcome: Outcome
    text: str
    remedy: str = ""


OUTCOMES: Final[Mapping[Severity, Outcome]] = {
    Severity.INFO: "good",
    Severity.WARNING: "warning",
    Severity.CRITICAL: "failed",
}


def outcome_of(condition: str, value: float) -> Outcome:
    """Judge a value by the condition of this name, as the first page and the alerts do."""
    severity = BY_NAME[condition].severity_of(value)
    return "good" if severity is None else OUTCOMES[severity]


Check: TypeAlias = Callable[[CollectorSettings], Iterator[Finding]]
