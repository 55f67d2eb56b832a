# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The seams of who reads over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from veilleuse.collector.model.accounts import Access, Account, Role


class Accounts(Protocol):
    """Accounts and their access journal. In the writer's thread; what one job does is one transaction."""

    def insert_account(
        self,
        *,
        name: str,
        role: Role,
        entities: Sequence[str],
        token_sha256: bytes,
        created_unix_milliseconds: int,
        expires_unix_milliseconds: int,
    ) -> Account: ...
    def accounts(self) -> tuple[Account, ...]:
        """All that ever were, in the order they were made."""

    def account(self, account_id: int) -> Account | None: ...
    def revoke_account(self, token_sha256: bytes, now_unix_milliseconds: int) -> bool:
        """False when there is none with this token."""

    def note_use(self, account_id: int, now_unix_milliseconds: int) -> None: ...
    def note_access(
        self, account_id: int, now_unix_milliseconds: int, *, route: str, query: str, status: int, rows: int
    ) -> None:
        """One line of the journal, or one more on the line of this hour."""

    def accesses(
        self,
        since_unix_milliseconds: int,
        until_unix_milliseconds: int,
        *,
        account_id: int | None,
        limit: int,
    ) -> tuple[Access, ...]:
        """The newest first."""

    def expire_accesses(self, before_unix_milliseconds: int, limit: int) -> int:
        """How many went, at most `limit`."""


class AccountReader(Protocol):
    """Read-only, in the web process."""

    def account_by_hash(self, token_sha256: bytes) -> Account | None:
        """As it is this moment."""

    def close(self) -> None: ...
