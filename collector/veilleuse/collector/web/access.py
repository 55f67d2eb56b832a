# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Controls access to the web process: open on loopback, elsewhere by a token or an account.

The token is that of `http.metrics_token_file`.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from starlette.requests import Request

from veilleuse.collector.clock import unix_seconds
from veilleuse.collector.enrolment.tokens import Address, FailureLimiter
from veilleuse.collector.errors import CollectorError, ConfigurationError, EnrolmentRefused
from veilleuse.collector.model.accounts import TOKEN_PREFIX, Account, Role, day_number, token_sha256
from veilleuse.collector.ports.registry import AccountReader
from veilleuse.collector.settings import PROXY_SECRET_HEADER, Http
from veilleuse.collector.web.api.resources import DESCRIPTION, RESOURCES
from veilleuse.collector.web.sessions import Sessions
from veilleuse.wire.files import is_secret, read_with_status
from veilleuse.wire.units import MILLISECONDS_PER_SECOND
from veilleuse.wire.values import is_loopback, split_address

MINIMUM_TOKEN_CHARACTERS: Final = 16
TOKEN_BYTES: Final = 4096
"""Largest size of the token file."""
_PROXY_SECRET_HEADER: Final = PROXY_SECRET_HEADER.lower().encode()


@dataclass(frozen=True, slots=True)
class MetricsAuth:
    """Listening address and required token."""

    host: str
    port: int
    """0 to 65,535; 0 = any free port."""
    token: str | None
    proxy_secret: str | None = None
    """Secret of the reverse proxy; None: no proxy can prove itself."""

    @property
    def on_loopback(self) -> bool:
        """True when only this machine can connect."""
        return is_loopback(self.host)

    def opens_to(self, secret: str) -> bool:
        """Return true when a token is required and `secret` is this token."""
        return self.token is not None and hmac.compare_digest(secret.encode(), self.token.encode())

    def is_proxy(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Return true when a request's headers, with names in lower case, show the proxy's secret, once."""
        shown = [value for name, value in headers if name == _PROXY_SECRET_HEADER]
        return (
            self.proxy_secret is not None
            and len(shown) == 1
            and hmac.compare_digest(shown[0], self.proxy_secret.encode())
        )

    def knows_host(self, host_header: str) -> bool:
        """Return true for a Host header that may be used; on loopback, only for loopback names.

        Otherwise a foreign page could read ours under a name that resolves to this machine.
        """
        if not self.on_loopback:
            return True
        name = host_header.rpartition(":")[0] if _has_port(host_header) else host_header
        return is_loopback(name.strip("[]").lower())


def read_metrics_auth(http: Http) -> MetricsAuth:
    """Read the settings. Raises ConfigurationError for an unusable token, or none outside loopback."""
    host, port = split_address(http.address)
    token = read_secret("metrics_token_file", http.metrics_token_file)
    proxy_secret = read_secret("proxy_secret_file", http.proxy_secret_file, is_private=True)
    metrics_auth = MetricsAuth(host, port, token, proxy_secret)
    if proxy_secret is None and http.account_header:
        raise ConfigurationError(
            "http.account_header needs http.proxy_secret_file: without a secret of the reverse proxy anybody who "
            "reaches http.address could name an account"
        )
    if token is None and proxy_secret is not None:
        raise ConfigurationError(
            "http.proxy_secret_file needs http.metrics_token_file: what a reverse proxy passes on may come from "
            "this machine, and would be open without a token"
        )
    if token is None and not metrics_auth.on_loopback:
        raise ConfigurationError(
            f"http.address {http.address} is not on loopback: set http.metrics_token_file, or use 127.0.0.1"
        )
    return metrics_auth


def read_secret(setting: str, file: str, *, is_private: bool = False) -> str | None:
    """Return the secret in a file of the section http, stripped; None for no file.

    `is_private`: only its owner may read the file; else its group too, for the scraper. Raises
    ConfigurationError for an unusable secret.
    """
    if not file:
        return None
    path, name = Path(file), f"http.{setting}"
    try:
        content, status = read_with_status(path, TOKEN_BYTES)
        token = content.decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not plain text"
        raise ConfigurationError(
            f"cannot read {name} {path}: {reason}; make one with 'openssl rand -hex 32'"
        ) from error
    if is_private and not is_secret(status):
        raise ConfigurationError(f"{path} can be read by others: run 'chmod 600 {path}'")
    if not is_secret(status, group_reads=True):
        raise ConfigurationError(f"{path} can be read or changed by others: run 'chmod o=,g-w {path}'")
    if len(token) < MINIMUM_TOKEN_CHARACTERS or not token.isprintable() or " " in token:
        raise ConfigurationError(
            f"{name} {path} must hold one token of {MINIMUM_TOKEN_CHARACTERS} characters or more: "
            "make one with 'openssl rand -hex 32'"
        )
    return token


def secret_of(authorization: str | None) -> str | None:
    """Return the bearer token, or the password of Basic; None without either."""
    scheme, _, rest = (authorization or "").partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip() or None
    return _password(rest.strip()) if scheme.lower() == "basic" else None


def _password(encoded: str) -> str | None:
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[2]
    except ValueError:  # not base64, not ASCII or not UTF-8
        return None


def _has_port(host_header: str) -> bool:
    return host_header.rpartition(":")[2].isdigit() and (host_header.count(":") == 1 or "]:" in host_header)


STATE: Final = "caller"
"""Key of the caller in the request's state, set by the middleware."""


class Guard(Enum):
    """Credentials that a route requires."""

    OPEN = auto()
    """None: the route reveals nothing about the fleet."""
    KNOWN = auto()
    """The metrics token, or any valid account.

    The route reveals nothing about the fleet, but strangers must not even learn what runs here.
    """
    READERS = auto()
    """The metrics token, or any account: released figures, of the entities that the account may read."""
    SERVERS = auto()
    """The metrics token, an admin, or an owner: single servers, of the entities that the account may read."""
    FLEET = auto()
    """The metrics token, or an account that sees the whole fleet."""
    HOSTS = auto()
    """The metrics token, or an admin: single servers."""
    FIGURES = auto()
    """Always an account: each access is logged under its name. The metrics token has no name."""


COOKIE: Final = "veilleuse"
"""Cookie with the session of a person who signed in; the browser forgets it when it closes."""
GUARDS: Final[Mapping[str, Guard]] = {
    "/healthz": Guard.OPEN,
    "/metrics": Guard.FLEET,
    "/metrics/hosts": Guard.HOSTS,
    "/static/{name}": Guard.OPEN,
    "/api": Guard.KNOWN,
    DESCRIPTION: Guard.KNOWN,
    **{resource.path: Guard.FIGURES for resource in RESOURCES},
}
UNLISTED_GUARD: Final = Guard.HOSTS
"""Guard of a route that is missing from the table."""
NO_ROUTE_GUARD: Final = Guard.KNOWN
"""Guard of a path without a route: only callers with access learn that it does not exist."""


@dataclass(frozen=True, slots=True)
class HttpCaller:
    """Credentials of a request."""

    has_metrics_access: bool = False
    """True with the token of `http.metrics_token_file`, or where none is required: on loopback."""
    account: Account | None = None
    """Account of the request's valid token."""
    wrong_token: bool = False
    """True when the request's token belongs to nobody."""
    by_session: bool = False
    """True for a person who signed in here, and may sign out."""

    def may(self, guard: Guard) -> bool:
        """Return true when the caller may use a route of this guard.

        Who signed in has the rights of the account, also on a machine that asks for none.
        """
        account, has_metrics_access = self.account, self.has_metrics_access and self.account is None
        match guard:
            case Guard.OPEN:
                return True
            case Guard.KNOWN | Guard.READERS:
                return has_metrics_access or account is not None
            case Guard.SERVERS:
                return has_metrics_access or (account is not None and account.role is not Role.READER)
            case Guard.FLEET:
                return has_metrics_access or (account is not None and account.sees_all)
            case Guard.HOSTS:
                return has_metrics_access or (account is not None and account.role is Role.ADMIN)
            case Guard.FIGURES:
                return account is not None


def caller_of(request: Request) -> HttpCaller:
    """Return the caller that the middleware found; an empty caller on an open route."""
    found = request.scope.get("state", {}).get(STATE)
    return found if isinstance(found, HttpCaller) else HttpCaller()


log = logging.getLogger(__name__)

MAX_TOKEN_CHARACTERS = 256


class AccessControl:
    """Finds the account of a token. For one event loop."""

    def __init__(
        self,
        metrics_auth: MetricsAuth,
        accounts: AccountReader | None = None,
        note_use: Callable[[int], None] | None = None,
        *,
        clock: Callable[[], float] = unix_seconds,
        limiter: FailureLimiter | None = None,
        account_header: str = "",
    ) -> None:
        """Without `accounts` there are none.

        `note_use` runs once a UTC day and account; `clock`: Unix seconds. `account_header`: header in which
        the reverse proxy names the account of a request.
        """
        self._metrics_auth = metrics_auth
        self._accounts = accounts
        self._note_use = note_use
        self._clock = clock
        self._limiter = limiter or FailureLimiter()
        self._account_header = account_header
        self._has_warned = False
        self.sessions = Sessions(clock)
        self._lookup_thread: Executor = ThreadPoolExecutor(1, "accounts")
        self._used: dict[int, int] = {}

    @property
    def by_proxy(self) -> bool:
        """True when a reverse proxy signs people in, and this service does not."""
        return bool(self._account_header)

    async def caller(self, request: Request, *, is_page: bool = True) -> HttpCaller:
        """Return the caller. Raises the store's errors.

        Where a reverse proxy signs people in, pages know the account that it names and nothing else; other
        routes also take tokens of requests that name none.
        """
        secret = secret_of(request.headers.get("authorization"))
        if self._account_header:
            names = request.headers.getlist(self._account_header)
            if names not in ([], [""]):
                return await self._named(request, names)
            return HttpCaller() if is_page or secret is None else await self.caller_with(secret)
        identifier = request.cookies.get(COOKIE)
        if secret is None and identifier is not None:
            return await self._with_session(identifier)
        return await self.caller_with(secret)

    async def caller_with(self, secret: str | None) -> HttpCaller:
        """Return the caller that shows a token. Raises the store's errors."""
        is_open = self._metrics_auth.token is None
        if secret is None:
            return HttpCaller(has_metrics_access=is_open)
        if self._metrics_auth.opens_to(secret):
            return HttpCaller(has_metrics_access=True)
        is_token = secret.startswith(TOKEN_PREFIX) and len(secret) <= MAX_TOKEN_CHARACTERS
        account = await self._account(token_sha256(secret)) if is_token else None
        return HttpCaller(is_open, account, wrong_token=account is None)

    async def _with_session(self, identifier: str) -> HttpCaller:
        """Return the caller of a session; one whose token opens nothing any more ends."""
        given, metrics_token = self.sessions.token_sha256(identifier), self._metrics_auth.token
        if given is None:
            return await self.caller_with(None)
        if metrics_token is not None and hmac.compare_digest(given, token_sha256(metrics_token)):
            return HttpCaller(has_metrics_access=True, by_session=True)
        account = await self._account(given)
        if account is None:
            self.sessions.end(identifier)
            return await self.caller_with(None)
        return HttpCaller(metrics_token is None, account, by_session=True)

    async def _named(self, request: Request, names: list[str]) -> HttpCaller:
        """Return the caller that the reverse proxy signed in; an unknown name, or two names, are nobody."""
        if not self._metrics_auth.is_proxy(request.headers.raw):
            if not self._has_warned:
                self._has_warned = True
                remedy = f"let the reverse proxy send {PROXY_SECRET_HEADER} with each request"
                log.warning("request names an account without the proxy's secret", extra={"remedy": remedy})
            return HttpCaller(wrong_token=True)
        accounts = self._accounts
        if accounts is None or len(names) > 1:  # a proxy that adds its own to the client's
            return HttpCaller()
        return HttpCaller(account=await self._found(lambda: accounts.account_by_name(names[0])))

    async def _account(self, given: bytes) -> Account | None:
        """Return the account of a token's hash if both are valid."""
        accounts = self._accounts
        if accounts is None:
            return None
        found = await self._found(lambda: accounts.account_by_hash(given))
        # The lookup is by hash, whose bytes nobody can choose; it is compared in constant time all the same.
        return found if found is not None and hmac.compare_digest(found.token_sha256, given) else None

    async def _found(self, find: Callable[[], Account | None]) -> Account | None:
        """Run a query in the thread of the accounts' connection; return an account that is good now."""
        found = await asyncio.get_running_loop().run_in_executor(self._lookup_thread, find)
        if found is None or not found.is_good(round(self._clock() * MILLISECONDS_PER_SECOND)):
            return None
        self._note_daily_use(found)
        return found

    def needs_tls(self, request: Request) -> bool:
        """Tell whether a cookie travels over TLS only: not on loopback, or behind a proxy that says so."""
        behind_tls = request.headers.get("x-forwarded-proto", "").lower() == "https"
        return behind_tls or not self._metrics_auth.on_loopback

    def has_tries_left(self, request: Request) -> bool:
        """Count a wrong token of this address; return False after too many recent ones.

        A valid token is never refused because of earlier wrong ones.
        """
        address = _address(request)
        try:
            self._limiter.check(address)
        except EnrolmentRefused:
            return False
        self._limiter.count_failure(address)
        return True

    def _note_daily_use(self, account: Account) -> None:
        """Store that the account was used today; a failed write refuses nothing."""
        today = day_number(round(self._clock() * MILLISECONDS_PER_SECOND))
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
