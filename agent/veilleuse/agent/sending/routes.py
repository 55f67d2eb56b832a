# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Routes to the collector: each address, directly or by an HTTP proxy, in order until one answers.

docs/networks.md.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from veilleuse.agent.errors import AddressAway, AgentError, ConnectionClosed, SourceUnavailable
from veilleuse.agent.settings import Collector, split_proxies
from veilleuse.wire.values import split_addresses

Result = TypeVar("Result")

log = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 5.0
"""Longest wait for a connection where there are several routes.

With one, the call's deadline limits it.
"""
_SETTING: Final = "collector.proxy_credentials_file"


@dataclass(frozen=True, slots=True)
class Route:
    """One way to one address of the collector."""

    address: str
    """host:port of the service."""
    proxy: str = ""
    """host:port of the HTTP proxy; empty = direct."""
    authorization: str = field(default="", repr=False)
    """Value of the header Proxy-Authorization; empty = none."""
    connect_seconds: float = CONNECT_SECONDS
    """Longest wait for the connection, with name resolution, CONNECT and TLS."""

    def __str__(self) -> str:
        return f"{self.address} by the proxy {self.proxy}" if self.proxy else self.address


def routes_to(collector: Collector, addresses: str) -> list[Route]:
    """Return the routes to comma-separated addresses, in the order of trying.

    Raises AgentError for unusable credentials of the proxy.
    """
    proxies = split_proxies(collector.proxy)
    authorization = _authorization(collector.proxy_credentials_file) if any(proxies) else ""
    ways = [(address, proxy) for address in split_addresses(addresses) for proxy in proxies]
    seconds = collector.deadline_seconds
    if len(ways) > 1:
        # at the call's own deadline it would look as if the collector were slow
        seconds = min(CONNECT_SECONDS, seconds / 2)
    return [Route(address, proxy, authorization if proxy else "", seconds) for address, proxy in ways]


def first_that_answers(routes: Sequence[Route], attempt: Callable[[Route], Result]) -> Result:
    """Return the result of `attempt` on the first route that has a connection.

    Raises AddressAway, which names every failure, when none has. Any other error is an answer, and ends it.
    """
    failures: list[AddressAway] = []
    for route in routes:
        try:
            result = attempt(route)
        except AddressAway as error:
            failures.append(error)
            continue
        if failures:
            log.info("collector reached", extra={"route": str(route), "not_by": _join(failures)})
        return result
    closed = any(isinstance(failure, ConnectionClosed) for failure in failures)
    raise (ConnectionClosed if closed else AddressAway)(_join(failures)) from failures[-1]


def explain_proxy_answer(route: Route, status: int) -> str:
    """Explain why a proxy made no connection to the address, given its HTTP status."""
    match status:
        case 407 if route.authorization:
            return f"the proxy does not accept the user and the password of {_SETTING} (407)"
        case 407:
            return f"the proxy asks for a user and a password (407): set {_SETTING}; only Basic is supported"
        case 502 | 503 | 504:
            return f"the proxy cannot reach {route.address} ({status}): is the address right, may it go out?"
        case _:
            return (
                f"the proxy refuses to connect to {route.address} ({status}): have CONNECT to this host and "
                "port allowed there"
            )


def _authorization(path: str) -> str:
    """Return the header's value for the credentials in a file; an empty path gives none."""
    if not path:
        return ""
    from veilleuse.agent.sources.meters_file import read_credentials

    try:
        user, password = read_credentials(path)
    except SourceUnavailable as error:
        raise AgentError(f"{_SETTING}: {error}") from error
    if not user:
        raise AgentError(f"{_SETTING}: {path} names no user; write `user:password` into it")
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


def _join(failures: Sequence[AddressAway]) -> str:
    return "; ".join(dict.fromkeys(map(str, failures)))
