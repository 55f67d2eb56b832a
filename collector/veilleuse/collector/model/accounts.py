# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines accounts that read figures over HTTP, their rights and their access journal. No I/O."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Final

from veilleuse.wire.units import MILLISECONDS_PER_DAY, UNIX_EPOCH_DAY
from veilleuse.wire.vocabulary import Word

TOKEN_BYTES: Final = 32
TOKEN_PREFIX: Final = "veilleuse_"
"""Prefix of tokens: secret scanners find a token left in a file, and junk is rejected without a query."""
NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""Name of a use ("grafana", "bilan-carbone"), never of a person: the journal shows it."""
DEFAULT_DAYS: Final = 365
MAX_DAYS: Final = 3 * 366
MAX_ENTITIES: Final = 64
MAX_JOURNAL_LINES: Final = 10_000
"""Limit of one answer, for both journals."""
JOURNAL_DAYS: Final = 365
"""CNIL's recommendation 2021-122: six months to a year."""


class Role(Word):
    """Rights of an account."""

    READER = "reader"
    """Released figures, of the whole fleet or of some entities."""
    OWNER = "owner"
    """What a reader may read, and the single servers of its entities."""
    ADMIN = "admin"
    """Any period and any grouping, as `veilleuse report` gives them, and series of single servers."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account that reads. Only the SHA-256 of its token is stored."""

    account_id: int
    name: str
    role: Role
    entities: tuple[str, ...]
    """Entities whose subtrees it may read; empty: the whole fleet."""
    token_sha256: bytes
    created_unix_milliseconds: int
    expires_unix_milliseconds: int
    revoked_unix_milliseconds: int | None = None
    last_used_day: int | None = None
    """UTC day number; None: never."""

    def is_good(self, now_unix_milliseconds: int) -> bool:
        """Return whether the account is neither revoked nor expired."""
        return (
            self.revoked_unix_milliseconds is None and now_unix_milliseconds < self.expires_unix_milliseconds
        )

    @property
    def sees_all(self) -> bool:
        """True when no entity limits it."""
        return not self.entities


class Journal(Word):
    """Subject of an access journal."""

    OPERATORS = "operators"
    """Commands here; in identity.db."""
    API = "api"
    """Figures read over HTTP; in data.db."""


@dataclass(frozen=True, slots=True)
class Access:
    """One line of the access journal. The same query within one hour is one line, counted."""

    account_id: int
    account: str
    route: str
    query: str
    """Only the parsed parameters, in a fixed order."""
    status: int
    """HTTP status of the answer."""
    times: int
    rows: int
    """Rows of figures in the last answer."""
    first_unix_milliseconds: int
    last_unix_milliseconds: int


def new_token() -> str:
    """Return 256 random bits, URL-safe, with our prefix."""
    return TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def token_sha256(token: str) -> bytes:
    """Return the stored hash of a token; 32 bytes. A plain hash suffices:
    256 random bits cannot be guessed.
    """
    return hashlib.sha256(token.encode()).digest()


def day_number(unix_milliseconds: int) -> int:
    """Return the UTC day, as in date.toordinal()."""
    return unix_milliseconds // MILLISECONDS_PER_DAY + UNIX_EPOCH_DAY


def first_moment(day: int) -> int:
    """Return the start of a UTC day, Unix milliseconds; `day` as in date.toordinal()."""
    return (day - UNIX_EPOCH_DAY) * MILLISECONDS_PER_DAY
