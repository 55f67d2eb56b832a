# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Detects a cloned machine, and keeps its original's identity. docs/wire.md §7, docs/decisions/0017.

HMACs of the hardware ids lie beside the key, under a salt that never leaves the machine (`id/hardware.json`).
The mark `id/copied` is set when two ids changed, or when the collector serves another machine under this
identity. The next start then moves the whole of `id` to `original` in one rename. From then on, this machine
has no identity. The moved one only serves to prove which machine was cloned. It is deleted as soon as the
clone has an identity of its own.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from veilleuse.agent.errors import IdentityError, NotEnrolled
from veilleuse.agent.identity.store import DIRECTORY, Identity, IdentityStore
from veilleuse.agent.platforms import here
from veilleuse.wire.files import read_owned, remove_owned

ORIGINAL: Final = "original"
"""Directory below `paths.state` with the identity of the machine that was cloned."""
CHANGED_IDS_OF_A_COPY: Final = 2
REKEY_MILLISECONDS: Final = 3_600_000
"""Shortest time between two new identities of the same hardware.

Without it, two machines that fight for one identity would fill the registry.
"""
HARDWARE: Final = "hardware"
CONFLICT: Final = "conflict"

_MARK: Final = "copied"
_LAST: Final = "last-conflict"
DROPPED: Final = f".{DIRECTORY}.dropped"


@dataclass(frozen=True, slots=True)
class Mark:
    """Mark that this state directory belongs to a clone; written before anything in it is changed."""

    why: str
    """HARDWARE: two ids changed. CONFLICT: another machine was served under this identity."""
    unix_milliseconds: int
    epoch: str = ""
    """Epoch of the spool that replaces the cloned one, once it exists; 16 hexadecimal digits."""


class CloneDetector:
    """Reads and writes the clone marks of the state directory."""

    def __init__(self, state: Path) -> None:
        """Take `state` = `paths.state`; nothing is read or written yet."""
        self._state = state
        self._store = IdentityStore(state)
        self._original = state / ORIGINAL

    # --------------------------------------------------------------------------------- hardware

    def changed_ids(self, hardware: Mapping[str, str]) -> tuple[str, ...]:
        """Return the names of the ids that changed; `hardware` comes from `hardware_ids`.

        Raises IdentityError. An id that is no longer readable has not changed.
        """
        kept, now = self._stored_ids(), self._hash_ids(hardware)
        return tuple(sorted(name for name in now if name in kept and kept[name] != now[name]))

    def is_other_hardware(self, hardware: Mapping[str, str]) -> bool:
        """Return True when enough ids changed to make this another machine. Raises IdentityError."""
        return len(self.changed_ids(hardware)) >= CHANGED_IDS_OF_A_COPY

    def keep(self, hardware: Mapping[str, str]) -> None:
        """Store the present ids: one changed id (a new disk) is accepted. Raises IdentityError."""
        kept, now = self._stored_ids(), self._hash_ids(hardware)
        if kept | now != kept:
            self._store.write("hardware.json", json.dumps(kept | now, sort_keys=True).encode())

    def forget_hardware(self) -> None:
        """Delete the stored ids, so that the present ones count: for an enrolment over a damaged file."""
        remove_owned(self._store.directory / "hardware.json")

    def _stored_ids(self) -> dict[str, str]:
        try:
            return dict(json.loads(self._store.read("hardware.json")))
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError) as error:
            raise IdentityError(
                f"the identity in {self._store.directory} is damaged (hardware.json: {error}): enrol again "
                "with a new "
                "join file: `veilleuse-agent enrol JOINFILE`"
            ) from error

    def _hash_ids(self, hardware: Mapping[str, str]) -> dict[str, str]:
        if not hardware:
            return {}
        try:
            salt = self._store.read("salt")
        except FileNotFoundError:
            salt = os.urandom(32)
            self._store.write("salt", salt)
        return {
            name: hmac.new(salt, value.encode(), hashlib.sha256).hexdigest()
            for name, value in hardware.items()
        }

    # ------------------------------------------------------------------------------------- mark

    def mark(self, mark: Mark) -> None:
        """Mark this machine as a clone; the next start acts on it. Raises IdentityError."""
        self._store.write(_MARK, json.dumps(asdict(mark)).encode())

    def read_mark(self) -> Mark | None:
        """Return the mark, or None. An unreadable mark counts as a conflict: nothing doubtful is sent."""
        try:
            raw = json.loads(self._store.read(_MARK))
            return Mark(str(raw["why"]), int(raw["unix_milliseconds"]), str(raw["epoch"]))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):
            return Mark(CONFLICT, 0)

    def may_rekey(self, now_unix_milliseconds: int) -> bool:
        """Return True when a conflict may lead to a new identity: once an hour.

        A last conflict in the future was dated by another clock and does not count.
        """
        for path in (self._store.directory / _LAST, self._original / _LAST):
            with suppress(OSError, ValueError):
                since = now_unix_milliseconds - int(read_owned(path, 64).decode("ascii"))
                if 0 <= since < REKEY_MILLISECONDS:
                    return False
        return True

    # ------------------------------------------------------------------------------- beginning again

    def reset_identity(self, mark: Mark) -> None:
        """Give up the identity in one rename. A machine without its own identity keeps its original's.

        Raises IdentityError.
        """
        directory, dropped = self._store.directory, self._state / DROPPED
        try:
            if mark.why == CONFLICT and directory.exists():
                self._store.write(_LAST, str(mark.unix_milliseconds).encode())
            if (directory / "certificate.pem").exists():
                shutil.rmtree(self._original, ignore_errors=True)
                directory.rename(self._original)
            elif directory.exists():
                shutil.rmtree(dropped, ignore_errors=True)
                # rename before deleting: a key must never lie beside the ids of other hardware
                directory.rename(dropped)
            here.sync_folder(self._state)
            shutil.rmtree(dropped, ignore_errors=True)
        except OSError as error:
            raise IdentityError(
                f"cannot move {directory} ({error.strerror}): check its directory's owner and space"
            ) from error

    def original(self) -> Identity | None:
        """Return the identity of the cloned machine; None when there is none, or it is incomplete."""
        try:
            return IdentityStore(self._state, ORIGINAL).load()
        except (NotEnrolled, IdentityError):
            return None

    def drop_original(self) -> None:
        """Delete the original's identity, now that this machine has its own.

        Keep the time of the last conflict.
        """
        if not self._original.exists():
            return
        with suppress(OSError, IdentityError):
            self._store.write(_LAST, read_owned(self._original / _LAST, 64))
        shutil.rmtree(self._original, ignore_errors=True)
        with suppress(OSError):
            here.sync_folder(self._state)
