# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The writer's side of the inventory; its reader is ports.InventoryReader."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from veilleuse.collector.model.inventory import (
    Candidate,
    Decision,
    InventoryChange,
    InventorySnapshot,
    Matching,
)


class InventoryStore(Protocol):
    """In the writer's thread, outside any transaction: `writer.submit(job, alone=True)`. Each call is durable when it returns."""

    def snapshot(self) -> InventorySnapshot:
        """All that is kept, names included: the caller writes to the journal why it looked."""

    def apply(self, change: InventoryChange) -> None:
        """Write an import, whole or not at all, whenever the process dies. Raises OvertakenImport when another one came first."""

    def candidates(self) -> tuple[Candidate, ...]:
        """The machines that enrolled, with what they may be matched by; those revoked since with them."""

    def decisions(self) -> tuple[Decision, ...]:
        """What operators said and still stands."""

    def decide(self, decisions: Iterable[Decision]) -> None:
        """One more each; a match ends what stood of its asset and of its machine."""

    def put_matching(self, matching: Matching) -> int:
        """Links and doubts, in place of what was there; how many links changed. Nothing is written where nothing did."""
