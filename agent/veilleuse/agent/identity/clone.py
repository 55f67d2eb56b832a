# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Is this machine a copy of another, and what does a copy keep of its original? docs/wire.md §7, docs/decisions/0014.

Beside the key lie HMACs of the hardware's ids, under a salt that never leaves (`id/hardware.json`). When two of them
changed, or the collector says that somebody else lives under this identity, `id/copied` says so. The next beginning then
moves the whole of `id` to `original`, in one rename: from that moment this machine has no identity, and what is left of the
other's is good for one thing, to prove whose copy this is. It goes as soon as there is an identity of its own.
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
"""Below `paths.state`: the identity this machine was copied with."""
CHANGED_IDS_OF_A_COPY: Final = 2
REKEY_MILLISECONDS: Final = 3_600_000
"""Between two new identities for the same hardware: two that fight for one would otherwise fill the registry."""
HARDWARE: Final = "hardware"
CONFLICT: Final = "conflict"

_MARK: Final = "copied"
_LAST: Final = "last-conflict"
DROPPED: Final = f".{DIRECTORY}.dropped"


@dataclass(frozen=True, slots=True)
class Mark:
    """This state directory is a copy; said before anything of it is changed."""

    why: str
    """HARDWARE: two ids changed. CONFLICT: another machine was served under this identity."""
    unix_milliseconds: int
    epoch: str = ""
    """Of the spool that takes the copied one's place, once it is made; 16 hexadecimal digits."""


class Copies:
    """What the state directory says of copies."""

    def __init__(self, state: Path) -> None:
        """`state` = `paths.state`; nothing is touched yet."""
        self._state = state
        self._store = IdentityStore(state)
        self._original = state / ORIGINAL

    # --------------------------------------------------------------------------------- hardware

    def changed(self, hardware: Mapping[str, str]) -> tuple[str, ...]:
        """Names of the ids that are not what they were, `hardware` being `hardware.hardware_ids`. Raises IdentityError.

        An id that cannot be read any more has not changed.
        """
        kept, now = self._kept(), self._salted(hardware)
        return tuple(sorted(name for name in now if name in kept and kept[name] != now[name]))

    def is_other_hardware(self, hardware: Mapping[str, str]) -> bool:
        """Whether that many changed that this is another machine. Raises IdentityError."""
        return len(self.changed(hardware)) >= CHANGED_IDS_OF_A_COPY

    def keep(self, hardware: Mapping[str, str]) -> None:
        """This is the machine: one id that changed (a new disk) is taken over. Raises IdentityError."""
        kept, now = self._kept(), self._salted(hardware)
        if kept | now != kept:
            self._store.write("hardware.json", json.dumps(kept | now, sort_keys=True).encode())

    def forget_hardware(self) -> None:
        """What the hardware is now counts: for an enrolment over a damaged file."""
        remove_owned(self._store.directory / "hardware.json")

    def _kept(self) -> dict[str, str]:
        try:
            return dict(json.loads(self._store.read("hardware.json")))
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError) as error:
            raise IdentityError(
                f"the identity in {self._store.directory} is damaged (hardware.json: {error}): enrol again with a new "
                "join file: `veilleuse-agent enrol JOINFILE`"
            ) from error

    def _salted(self, hardware: Mapping[str, str]) -> dict[str, str]:
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
        """Say that this is a copy; the next beginning acts on it. Raises IdentityError."""
        self._store.write(_MARK, json.dumps(asdict(mark)).encode())

    def marked(self) -> Mark | None:
        """What was said. A mark that cannot be read is one of a conflict: nothing doubtful is sent."""
        try:
            raw = json.loads(self._store.read(_MARK))
            return Mark(str(raw["why"]), int(raw["unix_milliseconds"]), str(raw["epoch"]))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):
            return Mark(CONFLICT, 0)

    def may_rekey(self, now_unix_milliseconds: int) -> bool:
        """Whether a conflict may lead to another identity: once an hour. A last one in the future was another clock's."""
        for path in (self._store.directory / _LAST, self._original / _LAST):
            with suppress(OSError, ValueError):
                since = now_unix_milliseconds - int(read_owned(path, 64).decode("ascii"))
                if 0 <= since < REKEY_MILLISECONDS:
                    return False
        return True

    # ------------------------------------------------------------------------------- beginning again

    def begin_again(self, mark: Mark) -> None:
        """Leave the identity, in one rename. What had none of its own yet keeps the original it had. Raises IdentityError."""
        directory, dropped = self._store.directory, self._state / DROPPED
        try:
            if mark.why == CONFLICT and directory.exists():
                self._store.write(_LAST, str(mark.unix_milliseconds).encode())
            if (directory / "certificate.pem").exists():
                shutil.rmtree(self._original, ignore_errors=True)
                directory.rename(self._original)
            elif directory.exists():
                shutil.rmtree(dropped, ignore_errors=True)
                directory.rename(
                    dropped
                )  # before anything in it goes: a key must never lie beside other hardware's ids
            here.sync_folder(self._state)
            shutil.rmtree(dropped, ignore_errors=True)
        except OSError as error:
            raise IdentityError(
                f"cannot move {directory} ({error.strerror}): check its directory's owner and space"
            ) from error

    def original(self) -> Identity | None:
        """The identity this machine was copied with; None when it is no copy, or what is left of it cannot prove it."""
        try:
            return IdentityStore(self._state, ORIGINAL).load()
        except (NotEnrolled, IdentityError):
            return None

    def drop_original(self) -> None:
        """It has an identity of its own: the other's key goes, the time of the last conflict stays."""
        if not self._original.exists():
            return
        with suppress(OSError, IdentityError):
            self._store.write(_LAST, read_owned(self._original / _LAST, 64))
        shutil.rmtree(self._original, ignore_errors=True)
        with suppress(OSError):
            here.sync_folder(self._state)
