# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Keeps the sessions of people who signed in, in the memory of the web process: a restart ends them all.

docs/decisions/0049-people-sign-in-with-a-token.md gives the reasons.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

SESSION_SECONDS: Final = 12 * 3_600.0
"""Life of a session: a working day. Then people sign in again."""
MOST_OF_TOKEN: Final = 32
"""Most sessions of one token; the oldest ends for one more."""
MOST_SESSIONS: Final = 4_096
"""Most sessions of all tokens; the oldest ends for one more."""
_IDENTIFIER_BYTES: Final = 32
_MOST_CHARACTERS: Final = 64


@dataclass(frozen=True, slots=True)
class Session:
    """What a session stands for: a token, which is looked up at each request."""

    token_sha256: bytes
    ends: float
    """Unix seconds."""


class Sessions:
    """Sessions by the SHA-256 of their identifier, which only the browser has; oldest first."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: Unix seconds."""
        self._clock = clock
        self._sessions: dict[bytes, Session] = {}

    def __len__(self) -> int:
        """Return the number of sessions kept."""
        return len(self._sessions)

    def begin(self, token_sha256: bytes) -> str:
        """Begin a session and return its identifier, for the browser's cookie."""
        identifier, now = secrets.token_urlsafe(_IDENTIFIER_BYTES), self._clock()
        same = []
        for key, one in list(self._sessions.items()):
            if one.ends <= now:
                del self._sessions[key]
            elif one.token_sha256 == token_sha256:
                same.append(key)
        for key in same[: max(0, len(same) - MOST_OF_TOKEN + 1)]:
            del self._sessions[key]
        while len(self._sessions) >= MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[_key(identifier)] = Session(token_sha256, now + SESSION_SECONDS)
        return identifier

    def token_sha256(self, identifier: str) -> bytes | None:
        """Return the hash of the token of a session; None where there is no such session any more."""
        found = self._sessions.get(_key(identifier))
        return found.token_sha256 if found is not None and self._clock() < found.ends else None

    def end(self, identifier: str) -> None:
        """End a session; no error when there is none."""
        self._sessions.pop(_key(identifier), None)


def _key(identifier: str) -> bytes:
    return hashlib.sha256(identifier[: _MOST_CHARACTERS + 1].encode()).digest()
