# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What tells one machine from another. Nothing read here leaves the machine as it is.

The ids whose change betrays a copy (`hardware_ids`), and the asset numbers whose pseudonyms are sent once, at enrolment
(`asset_numbers`). No protobuf: the check at every start reads this.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from veilleuse.agent.errors import IdentityError
from veilleuse.agent.platforms import load_module
from veilleuse.wire.files import read_named

MACHINE_ID: Final = Path("/etc/machine-id")
"""machine-id(5)."""
NOT_YET: Final = ("", "uninitialized")
"""What machine-id(5) holds until the first boot has ended."""
LARGEST_BYTES: Final = 64 * 1024
"""Of a file of the system; sysfs says 4,096 of each."""


@dataclass(frozen=True, slots=True)
class Roots:
    """Where to read on Linux; elsewhere the system itself is asked."""

    sysfs: Path = Path("/sys")
    machine_id: Path = MACHINE_ID


def require_machine_id(path: Path) -> str | None:
    """The machine id; None when the system has none. Raises IdentityError on an image that never started.

    Source: machine-id(5): empty or `uninitialized` until the first boot has ended.
    """
    try:
        text = read_named(path, LARGEST_BYTES).decode("ascii", "replace").strip()
    except OSError:
        return None
    if text in NOT_YET:
        raise IdentityError(
            f"{path} is {text or 'empty'}: this is an image that has not finished its first start; start it once"
        )
    return text


def hardware_ids(roots: Roots) -> dict[str, str]:
    """What a copy does not share with its original, by name; only what can be read. Stays on the machine, under a salt."""
    return cast("dict[str, str]", load_module("hardware").hardware_ids(roots))


def asset_numbers(roots: Roots) -> tuple[str | None, str | None]:
    """(normalised chassis serial, normalised SMBIOS UUID), None when not readable."""
    return cast("tuple[str | None, str | None]", load_module("hardware").asset_numbers(roots))
