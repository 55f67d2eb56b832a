# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Whose token came with a request: the door's, an account's, or nobody's."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from ipaddress import ip_address

from starlette.requests import Request

from veilleuse.collector.enrolment.tokens import Address, FailureLimiter
from veilleuse.collector.errors import CollectorError, EnrolmentRefused
from veilleuse.collector.model.accounts import TOKEN_PREFIX, Account, day_number, token_sha256
from veilleuse.collector.ports import AccountReader
from veilleuse.collector.web.access import Door, secret_of
from veilleuse.collector.web.roles import Caller

log = logging.getLogger(__name__)

MAX_TOKEN_CHARACTERS = 256


class Admission:
    """Looks tokens up. For one event loop."""

    def __init__(
        self,
        door: Door,
        accounts: AccountReader | None = None,
        note_use: Callable[[int], None] | None = None,
        *,
        clock: Callable[[], float] = time.time,
        limiter: FailureLimiter | None = None,
    ) -> None:
        """`accounts` None: there are none. `note_use`: once a UTC day and account. `clock`: Unix seconds."""
        self._door = door
        self._accounts = accounts
        self._note_use = note_use
        self._clock = clock
        self._limiter = limiter or FailureLimiter()
        self._looking: Executor = ThreadPoolExecutor(1, "accounts")
        self._used: dict[int, int] = {}

    async def caller(self, request: Request) -> Caller:
        """Who asks. Raises what the store raises."""
        secret = secret_of(request.headers.get("authorization"))
        if secret is None:
            return Caller(at_door=self._door.token is None)
        if self._door.opens_to(secret):
            return Caller(at_door=True)
        loop = asyncio.get_running_loop()
        account = await loop.run_in_executor(self._looking, self._account, secret)
        if account is not None:
            self._note(account)
        return Caller(self._door.token is None, account, wrong_token=account is None)

    def has_tries_left(self, request: Request) -> bool:
        """Count a wrong token of this address; False when there were too many of late. A good one is never held back by it."""
        address = _address(request)
        try:
            self._limiter.check(address)
        except EnrolmentRefused:
            return False
        self._limiter.failed(address)
        return True

    def _account(self, secret: str) -> Account | None:
        """The account of a token, if both are good. In the thread of its connection."""
        if (
            self._accounts is None
            or not secret.startswith(TOKEN_PREFIX)
            or len(secret) > MAX_TOKEN_CHARACTERS
        ):
            return None
        given = token_sha256(secret)
        found = self._accounts.account_by_hash(given)
        # Looked up by its hash, of which nobody can choose a byte; compared in constant time all the same.
        if found is None or not hmac.compare_digest(found.token_sha256, given):
            return None
        return found if found.is_good(round(self._clock() * 1000)) else None

    def _note(self, account: Account) -> None:
        """That it was used today; nothing is refused when that cannot be written."""
        today = day_number(round(self._clock() * 1000))
        if self._note_use is None or self._used.get(account.account_id) == today:
            return
        self._used[account.account_id] = today
        asyncio.get_running_loop().run_in_executor(None, self._try_to_note, account.account_id)

    def _try_to_note(self, account_id: int) -> None:
        try:
            if self._note_use is not None:
                self._note_use(account_id)
        except CollectorError as error:
            log.debug("use of an account not noted", extra={"account_id": account_id, "reason": str(error)})


def _address(request: Request) -> Address | None:
    try:
        return None if request.client is None else ip_address(request.client.host)
    except ValueError:
        return None
