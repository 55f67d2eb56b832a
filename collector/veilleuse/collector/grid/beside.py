# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The ledger of a poll as another process sees it: over the administration's operations. Implements polling.Ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from veilleuse.collector.model.grid import (
    Intensity,
    IntensityKind,
    IntensityStatus,
    PollState,
    SeriesState,
    Stored,
)

Ask = Callable[..., Any]
"""(operation, **arguments) → result, ready from JSON."""

_AT_ONCE: Final = 2_000
"""Values in one request: some 0.2 MB."""


class LedgerBeside:
    """Asks once for what is known; writes at once."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def states(self) -> Sequence[SeriesState]:
        """How far each series goes, now."""
        found = self._ask("intensity_state")["series"]
        return [
            SeriesState(
                **{**one, "kind": IntensityKind(one["kind"]), "status": IntensityStatus(one["status"])}
            )
            for one in found
        ]

    def polls(self) -> Sequence[PollState]:
        """How the last polls went."""
        return [PollState(**one) for one in self._ask("intensity_state")["polls"]]

    def count_call(self, connector: str) -> bool:
        """Before it is made."""
        return bool(self._ask("intensity_call", connector=connector)["allowed"])

    def put(self, values: Sequence[Intensity]) -> Stored:
        """All of them, or those before the request that failed."""
        stored = Stored()
        for first in range(0, len(values), _AT_ONCE):
            part = [list(one) for one in values[first : first + _AT_ONCE]]
            stored += Stored(**self._ask("intensity_put", values=part))
        return stored

    def note(self, connector: str, outcome: str) -> None:
        """How its poll ended."""
        self._ask("intensity_note", connector=connector, outcome=outcome)
