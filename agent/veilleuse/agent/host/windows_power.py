# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The power plan on mains, on Windows. Source: power setting GUIDs (winnt.h)."""

from __future__ import annotations

from typing import Final

from veilleuse.agent.host.power_plan import NEVER, PowerPlan
from veilleuse.agent.platforms.windows.calls import CallFailed, PowerCalls

VIDEO, VIDEO_IDLE = "{7516b95f-f776-4464-8c53-06167f40cc99}", "{3c0bc021-c8a8-4e07-a973-6b14cbcb2b7e}"
"""GUID_VIDEO_SUBGROUP, GUID_VIDEO_POWERDOWN_TIMEOUT."""
SLEEP: Final = "{238c9fa8-0aad-41ed-83f4-97be242c8f20}"
"""GUID_SLEEP_SUBGROUP."""
STANDBY_IDLE, HIBERNATE_IDLE = (
    "{29f6c1db-86da-48c5-9fdb-f2b67b1f44da}",
    "{9d7815a6-7ee4-497e-8888-515a05f02364}",
)
"""GUID_STANDBY_TIMEOUT, GUID_HIBERNATE_TIMEOUT."""
_LONGEST_SECONDS: Final = 7 * 86_400
"""Beyond a week a timeout is none; Windows' own programs write 0 for never, some tools write 0xFFFFFFFF."""


def power_plan(calls: PowerCalls) -> PowerPlan:
    """Of the active plan, which is the machine's, not a user's; None for what cannot be read."""
    standby, hibernate = _seconds(calls, SLEEP, STANDBY_IDLE), _seconds(calls, SLEEP, HIBERNATE_IDLE)
    told = [seconds for seconds in (standby, hibernate) if seconds]
    sleep = min(told) if told else (None if standby is None else NEVER)
    return PowerPlan(_seconds(calls, VIDEO, VIDEO_IDLE), sleep)


def _seconds(calls: PowerCalls, subgroup: str, setting: str) -> int | None:
    try:
        value = calls.plan_value(subgroup, setting)
    except CallFailed:
        return None
    return value if 0 <= value <= _LONGEST_SECONDS else NEVER
