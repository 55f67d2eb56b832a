# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The door: open on loopback, elsewhere for whoever holds the token of `http.metrics_token_file`. Accounts: `tokens`."""

from __future__ import annotations

import base64
import hmac
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from veilleuse.collector.errors import ConfigurationError
from veilleuse.collector.settings import Http
from veilleuse.wire.address import split_address
from veilleuse.wire.files import read_named

MINIMUM_TOKEN_CHARACTERS: Final = 16
TOKEN_BYTES: Final = 4096
"""Of the file that holds it."""
_LOOPBACK_NAMES: Final = frozenset({"localhost", "ip6-localhost"})


@dataclass(frozen=True, slots=True)
class Door:
    """Where to listen and what to ask for."""

    host: str
    port: int
    """0 to 65,535; 0 = any free one."""
    token: str | None

    @property
    def on_loopback(self) -> bool:
        """True when only this machine can connect."""
        return is_loopback(self.host)

    def admits(self, authorization: str | None) -> bool:
        """True without a token, or with it as a bearer token or as the password of Basic (what browsers can send)."""
        given = secret_of(authorization)
        return self.token is None or (given is not None and self.opens_to(given))

    def opens_to(self, secret: str) -> bool:
        """Whether there is a token, and it is this one."""
        return self.token is not None and hmac.compare_digest(secret.encode(), self.token.encode())

    def knows_host(self, host_header: str) -> bool:
        """On loopback only loopback names: a foreign page cannot read ours through a name it points here."""
        if not self.on_loopback:
            return True
        name = host_header.rpartition(":")[0] if _has_port(host_header) else host_header
        return is_loopback(name.strip("[]").lower())


def open_door(http: Http) -> Door:
    """From the settings. Raises ConfigurationError: no usable token, or a door open to the network."""
    host, port = split_address(http.address)
    token = read_token(Path(http.metrics_token_file)) if http.metrics_token_file else None
    door = Door(host, port, token)
    if token is None and not door.on_loopback:
        raise ConfigurationError(
            f"http.address {http.address} is not on loopback: set http.metrics_token_file, or use 127.0.0.1"
        )
    return door


def read_token(path: Path) -> str:
    """The token, stripped. Raises ConfigurationError when it cannot be read or is too short to be a secret."""
    try:
        token = read_named(path, TOKEN_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not plain text"
        raise ConfigurationError(
            f"cannot read http.metrics_token_file {path}: {reason}; make one with 'openssl rand -hex 32'"
        ) from error
    if len(token) < MINIMUM_TOKEN_CHARACTERS or not token.isprintable() or " " in token:
        raise ConfigurationError(
            f"http.metrics_token_file {path} must hold one token of {MINIMUM_TOKEN_CHARACTERS} characters or more: "
            "make one with 'openssl rand -hex 32'"
        )
    return token


def secret_of(authorization: str | None) -> str | None:
    """The bearer token, or the password of Basic, that came along; None without any."""
    scheme, _, rest = (authorization or "").partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip() or None
    return _password(rest.strip()) if scheme.lower() == "basic" else None


def is_loopback(host: str) -> bool:
    """127.0.0.0/8, ::1 or a name that means them."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in _LOOPBACK_NAMES


def _password(encoded: str) -> str | None:
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[2]
    except ValueError:  # no base64, no ASCII, no UTF-8
        return None


def _has_port(host_header: str) -> bool:
    return host_header.rpartition(":")[2].isdigit() and (host_header.count(":") == 1 or "]:" in host_header)
