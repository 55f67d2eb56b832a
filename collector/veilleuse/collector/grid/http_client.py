# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""One GET of JSON from outside: TLS checked, a proxy if set, bounded in bytes and in seconds, no redirect followed."""

from __future__ import annotations

import http.client
import ipaddress
import json
import ssl
import stat
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from veilleuse.collector.errors import CollectorError
from veilleuse.wire.files import TooLong, read_authorities, read_with_status

MAXIMUM_BYTES: Final = 4 * 2**20
"""A month of quarter hours is 0.2 MB."""
_TOKEN_BYTES: Final = 4096


class FetchError(CollectorError):
    """It could not be asked, or what it answered cannot be used; `outcome`: one of intensities.OUTCOMES."""

    def __init__(self, outcome: str, text: str) -> None:
        super().__init__(text)
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Way:
    """How outside is reached."""

    timeout_seconds: float
    """Of one call, all of it."""
    proxy: str = ""
    """http://host:port; empty = none."""
    ca_file: str = ""
    """Empty = the system's authorities."""


def get_json(base: str, path: str, way: Way, headers: Mapping[str, str] | None = None) -> Any:
    """What it answered 200 with. Raises FetchFailed."""
    parts = _checked(base, "the address")
    proxy = _checked(way.proxy, "intensity.proxy") if way.proxy else None
    if proxy is not None and proxy.scheme != "http":
        raise FetchError("not_configured", "intensity.proxy: write it like http://proxy.example.org:3128")
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise FetchError(
            "not_configured", f"{base}: http only to this machine; use https for {parts.hostname}"
        )
    found: list[Any] = []
    failed: list[FetchError] = []

    def work() -> None:
        try:
            found.append(_asked(parts, path, way, proxy, headers or {}))
        except FetchError as error:
            failed.append(error)

    # Timeouts of a socket are per piece: one that drips its answer would keep us for days.
    thread = threading.Thread(target=work, name="fetch", daemon=True)
    thread.start()
    thread.join(way.timeout_seconds)
    if failed:
        raise failed[0]
    if not found:
        raise FetchError("timeout", f"{parts.netloc} did not answer in {way.timeout_seconds:g} s")
    return found[0]


def read_token(path: str) -> str:
    """A secret from a file that its owner alone can read. Raises FetchFailed."""
    try:
        raw, found = read_with_status(Path(path), _TOKEN_BYTES)
        mode = stat.S_IMODE(found.st_mode)
    except TooLong as error:
        why = f"{path} does not hold a token: {error.strerror}"
        raise FetchError("not_configured", why) from error
    except OSError as error:
        raise FetchError("not_configured", f"cannot read {path}: {error.strerror or error}") from error
    if mode & 0o077:
        raise FetchError(
            "not_configured", f"{path} has mode {mode:04o}: others can read it; chmod 600 {path}"
        )
    token = raw.strip().decode("ascii", "replace")
    if not token or not token.isprintable() or " " in token or "\ufffd" in token:
        raise FetchError("not_configured", f"{path} does not hold a token: one line of ASCII, without spaces")
    return token


def _checked(url: str, what: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise FetchError("not_configured", f"{what} '{url}': {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise FetchError("not_configured", f"{what} '{url}': write it like https://host.example.org")
    if parts.username is not None or parts.query or parts.fragment:
        raise FetchError("not_configured", f"{what} holds neither a user nor a query")
    return parts


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _asked(
    parts: SplitResult, path: str, way: Way, proxy: SplitResult | None, headers: Mapping[str, str]
) -> Any:
    deadline = time.monotonic() + way.timeout_seconds
    connection = _connection(parts, way, proxy)
    try:
        connection.request(
            "GET",
            parts.path.rstrip("/") + path,
            headers={
                "Accept": "application/json",
                "Connection": "close",
                "User-Agent": "veilleuse",
                **headers,
            },
        )
        with closing(
            connection.getresponse()
        ) as answer:  # it holds the socket, whatever becomes of the connection
            if answer.status == http.client.TOO_MANY_REQUESTS:
                raise FetchError("quota", f"{parts.netloc} says that its quota is used up (429)")
            if answer.status != http.client.OK:
                raise FetchError("refused", f"{parts.netloc} answered {answer.status}")
            return _parsed(_read(answer, deadline), parts.netloc)
    except TimeoutError as error:
        raise FetchError("timeout", f"{parts.netloc} did not answer in {way.timeout_seconds:g} s") from error
    except ssl.SSLError as error:
        raise FetchError("not_trusted", f"{parts.netloc} is not trusted: {error.reason or error}") from error
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        text = "".join(letter for letter in str(error) if letter.isprintable())[:200]
        raise FetchError(
            "unreachable", f"cannot ask {parts.netloc}: {text or type(error).__name__}"
        ) from error
    finally:
        connection.close()


def _connection(parts: SplitResult, way: Way, proxy: SplitResult | None) -> http.client.HTTPConnection:
    host, port = parts.hostname or "", parts.port
    if parts.scheme == "http":  # to this machine: never through a proxy
        return http.client.HTTPConnection(host, port, timeout=way.timeout_seconds)
    context = _context(way.ca_file)
    if proxy is None:
        return http.client.HTTPSConnection(host, port, timeout=way.timeout_seconds, context=context)
    through = http.client.HTTPSConnection(
        proxy.hostname or "", proxy.port or 3128, timeout=way.timeout_seconds, context=context
    )
    through.set_tunnel(host, port or 443)
    return through


def _context(ca_file: str) -> ssl.SSLContext:
    """Name and chain are checked, alike on every Python: 3.13's default also wants extensions that small authorities leave out."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if ca_file:
            context.load_verify_locations(cadata=read_authorities(Path(ca_file)))
        else:
            context.load_default_certs()
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "reason", None) or error.strerror or error
        raise FetchError("not_configured", f"cannot read the authorities in {ca_file}: {why}") from error
    return context


def _read(answer: http.client.HTTPResponse, deadline: float) -> bytes:
    received = bytearray()
    while piece := answer.read1(65_536):
        if time.monotonic() > deadline:
            raise TimeoutError
        received += piece
        if len(received) > MAXIMUM_BYTES:
            raise FetchError("too_long", f"its answer is longer than {MAXIMUM_BYTES} bytes")
    return bytes(received)


def _parsed(raw: bytes, who: str) -> Any:
    def refuse(word: str) -> float:
        raise ValueError(word)

    try:
        return json.loads(raw, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise FetchError("not_understood", f"{who} did not answer JSON") from error
