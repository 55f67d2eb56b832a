# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Checks addresses of servers and proxies before anything is sent."""

from __future__ import annotations

from typing import Final
from urllib.parse import SplitResult, urlsplit

from veilleuse.collector.errors import CollectorError
from veilleuse.wire.address import is_loopback

PROXY_PORT: Final = 3128
"""Port of a proxy that names none: Squid's."""


class FetchError(CollectorError):
    """FetchError: a request was not sent, or its answer cannot be used.

    `outcome`: one of model.grid.OUTCOMES.
    """

    def __init__(self, outcome: str, text: str) -> None:
        super().__init__(text)
        self.outcome = outcome


def check_address(url: str, what: str) -> SplitResult:
    """Split a URL: https anywhere, http to this machine only. Raises FetchError, not_configured."""
    parts = _check(url, what)
    host = parts.hostname or ""
    if parts.scheme == "http" and not is_loopback(host):
        raise FetchError(
            "not_configured",
            f"{what} '{url}': http only to this machine, others can read it; use https for {host}",
        )
    return parts


def check_proxy(url: str) -> str:
    """Return the URL of a proxy, with its port. Raises FetchError, not_configured."""
    parts = _check(url, "the proxy")
    if parts.scheme != "http":
        raise FetchError("not_configured", "the proxy: write it like http://proxy.example.org:3128")
    return origin_of(parts, PROXY_PORT)


def origin_of(parts: SplitResult, port: int | None = None) -> str:
    """Return scheme, host and port, without a path; `port`: default when none is named."""
    host = parts.hostname or ""
    port = parts.port or port
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}" + (f":{port}" if port else "")


def _check(url: str, what: str) -> SplitResult:
    shown = what if "@" in url else f"{what} '{url}'"  # text before an @ may be a password
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise FetchError(
            "not_configured", f"{shown} is no URL: write it like https://host.example.org"
        ) from error
    if parts.username is not None or parts.query or parts.fragment:
        raise FetchError("not_configured", f"{what} holds neither a user nor a query: leave them out")
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise FetchError("not_configured", f"{shown}: write it like https://host.example.org")
    return parts
