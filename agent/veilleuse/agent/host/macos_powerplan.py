# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The power plan of a Mac on mains, from the property list that `pmset` writes. Never run on a Mac: docs/macos.md.

It is the machine's, and root alone may change it (pmset(1)): what is read is in force. What was never changed is not in the file.
Sources: Apple's PowerManagement, com.apple.SystemPowerProfileDefaults.plist (the keys); the names of the files as others read
them (TheDen/galvani, CloverBootloader).
"""

from __future__ import annotations

import plistlib
from pathlib import Path
from typing import Final
from xml.parsers.expat import ExpatError

from veilleuse.agent.host.power_plan import NEVER, PowerPlan

FOLDER: Final = Path("/Library/Preferences")
_ON_MAINS: Final = "AC Power"
_DISPLAY: Final = "Display Sleep Timer"
_SLEEP: Final = "System Sleep Timer"
_LONGEST_MINUTES: Final = 7 * 1_440
"""Beyond a week a timeout is none, as on Windows."""
_SECONDS_PER_MINUTE: Final = 60
_LARGEST_BYTES: Final = 1 << 20


def power_plan(folder: Path, host_uuid: str) -> PowerPlan:
    """Of the first file that tells of mains: this hardware's own (others may have come with a copied disk), or the plain one.

    `host_uuid`: empty = not known.
    """
    names = ([f".{host_uuid}"] if host_uuid else []) + [""]
    for name in names:
        told = _mains(folder / f"com.apple.PowerManagement{name}.plist")
        if told is not None:
            return PowerPlan(_seconds(told.get(_DISPLAY)), _seconds(told.get(_SLEEP)))
    return PowerPlan(None, None)


def _mains(path: Path) -> dict[object, object] | None:
    """None when there is no such file, when it is no property list, or when it does not tell of mains."""
    try:
        with path.open("rb") as file:
            told = plistlib.loads(file.read(_LARGEST_BYTES))
    except (OSError, ExpatError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError):
        return None
    mains = told.get(_ON_MAINS) if isinstance(told, dict) else None
    return mains if isinstance(mains, dict) else None


def _seconds(minutes: object) -> int | None:
    """0 is never, as pmset writes it; None for what is no number of minutes."""
    if isinstance(minutes, bool) or not isinstance(minutes, int) or minutes < 0:
        return None
    return minutes * _SECONDS_PER_MINUTE if minutes <= _LONGEST_MINUTES else NEVER
