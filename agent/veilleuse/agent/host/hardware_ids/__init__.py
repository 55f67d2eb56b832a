# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the identifiers that distinguish one machine from another. They never leave the machine in clear.

`hardware_ids` returns the ids whose change reveals a copy. `asset_numbers` returns the numbers whose
pseudonyms are sent once, at enrolment. No protobuf here: the check at every start imports this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from veilleuse.agent.errors import IdentityError
from veilleuse.agent.platforms import load_module
from veilleuse.wire.files import read_named

MACHINE_ID: Final = Path("/etc/machine-id")
"""Path of the machine id, machine-id(5)."""
NOT_YET: Final = ("", "uninitialized")
"""Content of /etc/machine-id until the first boot has ended, machine-id(5)."""
LARGEST_BYTES: Final = 64 * 1024
"""Largest size read of a system file; sysfs reports 4,096 bytes for each of its files."""


@dataclass(frozen=True, slots=True)
class Roots:
    """Paths to read on Linux; elsewhere the operating system is asked."""

    sysfs: Path = Path("/sys")
    machine_id: Path = MACHINE_ID


def require_machine_id(path: Path) -> str | None:
    """Return the machine id; None when the system has none.

    Raises IdentityError on an image that never started.

    Source: machine-id(5): empty or `uninitialized` until the first boot has ended.
    """
    try:
        text = read_named(path, LARGEST_BYTES).decode("ascii", "replace").strip()
    except OSError:
        return None
    if text in NOT_YET:
        raise IdentityError(
            f"{path} is {text or 'empty'}: this is an image that has not finished its first start;"
            " start it once. In a container, mount the host's file there, read-only"
        )
    return text


def hardware_ids(roots: Roots) -> dict[str, str]:
    """Return, by name, the readable ids that a copy does not share with its original.

    They stay on the machine, salted.
    """
    return cast("dict[str, str]", load_module("hardware").hardware_ids(roots))


def asset_numbers(roots: Roots) -> tuple[str | None, str | None]:
    """Return (normalised chassis serial, normalised SMBIOS UUID); None for one that is not readable."""
    return cast("tuple[str | None, str | None]", load_module("hardware").asset_numbers(roots))
