# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A machine whose facts tell what nobody knew of it: what was derived without is derived again."""

from __future__ import annotations

from typing import Final

from veilleuse.collector.model.records import Host, HostId, MachineFacts
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.store.sqlite.numbering import TURN
from veilleuse.collector.wire_codec import facts_from_wire
from veilleuse.wire.vocabulary import DeviceClass

MARK_HOST: Final = (
    f"INSERT INTO dirty SELECT DISTINCT host_id, grain, bucket, {TURN.format(grain='grain')} FROM records"
    " WHERE host_id = ? AND grain > 0 ON CONFLICT DO NOTHING"
)
"""Every period of a machine that still has records is to be derived again."""
_WHAT_DERIVE_ASKS: Final = (
    "vendor",
    "model",
    "cpu_model",
    "cpu_count",
    "memory_modules",
    "hard_disks",
    "solid_state_disks",
)


def tells_more(before: MachineFacts, now: MachineFacts) -> bool:
    """Whether derive now knows of a machine what it did not. What has changed is another matter: the past had the former parts."""
    if before.device_class is DeviceClass.UNKNOWN is not now.device_class:
        return True
    return any(getattr(before, name) is None is not getattr(now, name) for name in _WHAT_DERIVE_ASKS)


class Learning:
    """Once a day of a machine: one that tells and takes back in turn would keep derive busy."""

    def __init__(self, data: Database) -> None:
        self._connection = data.connection
        self._marked: dict[HostId, int] = {}
        """Day on which it was marked last."""
        data.on_forget(self._marked.clear)

    def note(self, before: Host | None, facts_wire: bytes, day: int) -> None:
        """Facts of a Hello, before they are written; in the open transaction. `day`: any number that is another one tomorrow."""
        if before is None or self._marked.get(before.host_id) == day:
            return
        if tells_more(before.facts, facts_from_wire(facts_wire)):
            self._connection.execute(MARK_HOST, (before.host_id,))
            self._marked[before.host_id] = day
