# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Sends HTTP requests to servers outside: ODRÉ, Electricity Maps, GLPI, an OTLP endpoint.

Addresses are checked before anything is sent. TLS is verified; duration and size are limited. No redirect is
followed, and the environment sets nothing. Errors and log lines never contain a header: some hold tokens.
"""

from __future__ import annotations

import json
import logging
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from veilleuse.collector.errors import CollectorError
from veilleuse.wire.files import read_authorities
from veilleuse.wire.values import PROXY_PORT, origin_of, parse_proxy, parse_url

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    import httpx

E = TypeVar("E", bound=BaseException)

MAXIMUM_BYTES: Final = 4 * 2**20
"""A month of quarter hours is 0.2 MB."""
HEADERS: Final[Mapping[str, str]] = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # no compression: the limit in bytes is also the limit in memory
    "Connection": "close",
    "User-Agent": "veilleuse",
}


class FetchError(CollectorError):
    """FetchError: a request was not sent, or its answer cannot be used.

    `outcome`: one of model.grid.OUTCOMES.
    """

    def __init__(self, outcome: str, text: str) -> None:
        super().__init__(text)
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Route:
    """A Route says how to reach a server, and limits one call."""

    timeout_seconds: float
    """Longest duration of a call, from DNS resolution to the last byte."""
    proxy: str = ""
    """http://host:port; empty = none. Plain http, to this machine, never uses the proxy."""
    ca_file: str = ""
    """PEM file of the CAs to trust; empty = the system's."""
    silence_seconds: float | None = None
    """Longest wait for the connection or for the next bytes; None = `timeout_seconds`."""
    maximum_bytes: int = MAXIMUM_BYTES


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An HttpAnswer is an answer of any status, with the bytes as sent."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


class HttpClient:
    """HttpClient sends requests below one address; each opens its own connection."""

    def __init__(self, base: str, route: Route) -> None:
        """Raises FetchError, not_configured, for an address, a proxy or a ca_file that cannot be used."""
        parts = check_address(base, "the address")
        proxy = check_proxy(route.proxy) if route.proxy else None
        self.server = parts.netloc
        self._base = origin_of(parts) + parts.path.rstrip("/")
        self._proxy = None if parts.scheme == "http" else proxy
        self._context = _context(route.ca_file)
        self._route = route

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> HttpAnswer:
        """Return the answer to a GET.

        Raises FetchError when there is none, or when it is too long or too slow.
        """
        return self._ask("GET", path, headers or {}, None)

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> HttpAnswer:
        """Return the answer to a POST. Raises FetchError as `get`."""
        return self._ask("POST", path, headers, body)

    def _ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> HttpAnswer:
        import httpx  # noqa: F401  # takes 0.3 s: before the time starts

        for name in ("httpx", "httpcore"):  # both log each request
            logging.getLogger(name).setLevel(logging.WARNING)
        found: list[HttpAnswer | FetchError] = []
        # httpx limits each wait, not their sum. When the time is over, the thread is abandoned.
        thread = threading.Thread(
            target=lambda: found.append(self._attempt(method, path, headers, body)), name="http", daemon=True
        )
        thread.start()
        thread.join(self._route.timeout_seconds)
        if not found:
            raise self._too_slow(self._route.timeout_seconds)
        if isinstance(one := found[0], FetchError):
            raise one
        return one

    def _attempt(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> HttpAnswer | FetchError:
        import httpx

        silence = self._route.silence_seconds or self._route.timeout_seconds
        try:
            with (
                httpx.Client(
                    verify=self._context, proxy=self._proxy, trust_env=False, timeout=silence
                ) as client,
                client.stream(
                    method, self._base + path, headers={**HEADERS, **headers}, content=body
                ) as answer,
            ):
                told = {name.lower(): value for name, value in answer.headers.items()}
                return HttpAnswer(answer.status_code, told, self._body(answer))
        except FetchError as error:
            return error
        except httpx.TimeoutException:
            return self._too_slow(silence)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
            return self._failure(error, told_by_proxy=isinstance(error, httpx.ProxyError))

    def _body(self, answer: httpx.Response) -> bytes:
        """Read the bytes as sent, and count them on arrival: a Content-Length may be wrong."""
        end = time.monotonic() + self._route.timeout_seconds
        received = bytearray()
        for piece in answer.iter_raw():
            received += piece
            if len(received) > self._route.maximum_bytes:
                most = self._route.maximum_bytes
                raise FetchError(
                    "too_long", f"the answer of {self.server} is longer than {most} bytes: not taken"
                )
            if time.monotonic() > end:
                raise self._too_slow(self._route.timeout_seconds)
        return bytes(received)

    def _too_slow(self, seconds: float) -> FetchError:
        return FetchError("timeout", f"{self.server} did not answer within {seconds:g} s: try later")

    def _failure(self, error: Exception, *, told_by_proxy: bool) -> FetchError:
        """Turn a failure into a FetchError, with the operating system's or the proxy's message only.

        Messages of httpx may quote a header or the answer.
        """
        if refused := _cause(error, ssl.SSLError):
            why = getattr(refused, "verify_message", None) or refused.reason or "TLS failed"
            return FetchError(
                "not_trusted",
                f"{self.server} is not trusted ({why}): set ca_file to the PEM of its authority",
            )
        system = _cause(error, OSError)
        why = (system.strerror if system else str(error) if told_by_proxy else "") or type(error).__name__
        why = "".join(letter for letter in why if letter.isprintable())[:200]
        return FetchError(
            "unreachable", f"cannot reach {self.server} ({why}): look at its address and the network"
        )


def get_json(base: str, path: str, route: Route, headers: Mapping[str, str] | None = None) -> Any:
    """Return the JSON body of the answer to a GET. Raises FetchError, also for any status but 200."""
    client = HttpClient(base, route)
    answer = client.get(path, headers)
    if answer.status == 429:
        raise FetchError("quota", f"{client.server} says that its quota is used up (429): poll more rarely")
    if answer.status != 200:
        raise FetchError(
            "refused", f"{client.server} answered {answer.status}: look at its address and token"
        )

    def refuse(word: str) -> float:
        raise ValueError(word)

    try:
        return json.loads(answer.body, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise FetchError(
            "not_understood", f"{client.server} did not answer JSON: look at its address"
        ) from error


def check_address(url: str, what: str) -> SplitResult:
    """Split a URL: https anywhere, http to this machine only. Raises FetchError, not_configured."""
    try:
        return parse_url(url)
    except ValueError as error:
        raise FetchError("not_configured", f"{_shown(url, what)}: {error}") from error


def check_proxy(url: str) -> str:
    """Return the URL of a proxy, with its port. Raises FetchError, not_configured."""
    try:
        return origin_of(parse_proxy(url), PROXY_PORT)
    except ValueError as error:
        raise FetchError("not_configured", f"{_shown(url, 'the proxy')}: {error}") from error


def _shown(url: str, what: str) -> str:
    return what if "@" in url else f"{what} '{url}'"  # text before an @ may be a password


def _context(ca_file: str) -> ssl.SSLContext:
    """Return a TLS context that checks name and chain in the same way on every Python.

    The default of 3.13 also demands certificate extensions that small CAs omit.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if ca_file:
            context.load_verify_locations(cadata=read_authorities(Path(ca_file)))
        else:
            context.load_default_certs()
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "reason", None) or error.strerror or error
        raise FetchError(
            "not_configured", f"ca_file {ca_file}: {why}; name a file of certificates in PEM"
        ) from error
    return context


def _cause(error: BaseException | None, kind: type[E]) -> E | None:
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error
