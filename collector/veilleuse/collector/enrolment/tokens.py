# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Enrolment tokens: validity, and limits of failed tries per address. docs/wire.md §6."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
import unicodedata
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final
from urllib.parse import unquote

from veilleuse.collector.errors import EnrolmentRefused, UsageError
from veilleuse.collector.model.hosts import Token
from veilleuse.collector.settings import CollectorSettings
from veilleuse.wire.units import MILLISECONDS_PER_HOUR
from veilleuse.wire.vocabulary import Population

TOKEN_BYTES: Final = 32
DEFAULT_HOURS: Final = 24
MAX_DAYS: Final = 30
MAX_USES: Final = 100_000
MAX_NAME_CHARACTERS: Final = 128
FAILED_TRIES: Final = 10
FAILED_TRIES_SECONDS: Final = 60.0
MAX_ADDRESSES: Final = 10_000
"""Largest number of addresses whose failures are kept; the oldest are dropped first."""

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class TokenOrder:
    """Token that an administrator asks for. Raises UsageError on values out of range."""

    org_entity: str
    site: str
    population: Population
    uses: int = 1
    hours: float = DEFAULT_HOURS
    """Life from now; at most 30 days."""
    networks: tuple[str, ...] = ()
    """CIDR networks from which it may be used; empty = any."""
    approve: bool = False
    admit_copies: bool = False
    """Clones of its machines are admitted without approval; so is a thief of such a machine's key."""

    def __post_init__(self) -> None:
        checked_name("entity", self.org_entity)
        checked_name("site", self.site)
        if self.uses not in range(1, MAX_USES + 1):
            raise UsageError(f"--uses must be a whole number from 1 to {MAX_USES}, not {self.uses}")
        if not 0 < self.hours <= MAX_DAYS * 24:
            raise UsageError(
                f"--hours must be more than 0 and at most {MAX_DAYS * 24} ({MAX_DAYS} days), not "
                f"{self.hours:g}"
            )
        if self.approve and self.admit_copies:
            raise UsageError("--approve and --admit-copies exclude each other: leave out one of them")
        for network in self.networks:
            try:
                ip_network(network)
            except ValueError as error:
                raise UsageError(f"--network {network}: {error}; write it like 192.0.2.0/24") from error

    def expires_unix_milliseconds(self, now_unix_milliseconds: int) -> int:
        """Return the time when the token expires."""
        return now_unix_milliseconds + round(self.hours * MILLISECONDS_PER_HOUR)


def checked_name(word: str, text: str) -> str:
    """Normalise the name of an entity or a site to NFC, so that it is one name however it was typed.

    `word` says which of the two it is. Raises UsageError unless it has 1 to 128 printable characters: no
    control, no bidi character (docs/guarantees.md S16).
    """
    name = unicodedata.normalize("NFC", text)
    if not (0 < len(name) <= MAX_NAME_CHARACTERS and name.isprintable() and name == name.strip()):
        raise UsageError(f"the {word} must be 1 to {MAX_NAME_CHARACTERS} printable characters, not {text!r}")
    return name


def new_token() -> str:
    """Return 256 random bits as 43 URL-safe characters."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def token_sha256(token: str) -> bytes:
    """Return the stored hash of a token; 32 bytes. A plain hash suffices for 256 random bits."""
    return hashlib.sha256(token.encode()).digest()


def check_token(
    token: Token | None, address: Address | None, now_unix_milliseconds: int, *, known_key: bool = False
) -> Token:
    """Return the token if this address may use it now. The store decides atomically whether uses are left.

    With `known_key`, the machine's key is bound to this token already: its expiry and its last use do not
    matter. Raises EnrolmentRefused: unknown_token, revoked_token, wrong_network, expired_token, used_token.
    """
    if token is None:
        raise EnrolmentRefused("unknown_token", "the token is not known here: ask for a new join file")
    if token.revoked:
        raise EnrolmentRefused("revoked_token", "the token was revoked: ask for a new join file")
    if not in_networks(address, token.networks):
        raise EnrolmentRefused("wrong_network", "the token may not be used from this network")
    if known_key:
        return token
    if now_unix_milliseconds >= token.expires_unix_milliseconds:
        raise EnrolmentRefused("expired_token", "the token has expired: ask for a new join file")
    if token.uses >= token.max_uses:
        raise used_token()
    return token


def used_token() -> EnrolmentRefused:
    """Return the rejection of a token with no use left."""
    return EnrolmentRefused("used_token", "the token was used already: ask for a new join file")


def in_networks(address: Address | None, networks: Sequence[str]) -> bool:
    """Return True when an address lies in one of the networks, or when there are no networks."""
    if not networks:
        return True
    return address is not None and any(address in ip_network(network) for network in networks)


def peer_address(peer: str) -> Address | None:
    """Parse a gRPC peer, e.g. `ipv4:192.0.2.1:5000` or `ipv6:%5B::1%5D:5000`; None for anything else.

    An IPv4 address mapped into IPv6 is returned as IPv4, so that networks are compared in their own family.
    """
    family, _, rest = unquote(peer).partition(":")
    host = rest.rpartition(":")[0]
    if family not in ("ipv4", "ipv6"):
        return None
    try:
        address = ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


class FailureLimiter:
    """Counts failed tries per address: after 10 within a minute, tries are refused until one ages out.

    It limits the cost of guesses, not their success: tokens have 256 bits. Only failures count, and a known
    token is admitted anyway: a whole college enrols from one address. IPv6 is counted per /64. Thread-safe.
    """

    def __init__(self, monotonic_seconds: Callable[[], float] = time.monotonic) -> None:
        """`monotonic_seconds`: a clock that only goes forward."""
        self._now = monotonic_seconds
        self._failures: OrderedDict[int, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, address: Address | None) -> None:
        """Raise EnrolmentRefused (rate_limited) while the address has no try left."""
        with self._lock:
            failures = self._failures.get(_bucket(address))
            if failures is None:
                return
            _forget(failures, self._now() - FAILED_TRIES_SECONDS)
            if len(failures) >= FAILED_TRIES:
                raise EnrolmentRefused(
                    "rate_limited", "too many failed tries from this address: wait a minute"
                )

    def count_failure(self, address: Address | None) -> None:
        """Count a failure."""
        key = _bucket(address)
        with self._lock:
            self._failures.setdefault(key, deque(maxlen=FAILED_TRIES)).append(self._now())
            self._failures.move_to_end(key)
            while len(self._failures) > MAX_ADDRESSES:
                self._failures.popitem(last=False)


def _bucket(address: Address | None) -> int:
    if address is None:
        return -1
    return int(address) >> 64 if isinstance(address, IPv6Address) else int(address)


def _forget(failures: deque[float], before: float) -> None:
    while failures and failures[0] <= before:
        failures.popleft()


@dataclass(slots=True)
class Addresses:
    """host:port for agents, comma separated; `serve` replaces port 0 with the assigned port."""

    telemetry: str
    enrolment: str

    @classmethod
    def from_settings(cls, settings: CollectorSettings) -> Addresses:
        """Return the advertised addresses, else those listened on."""
        grpc = settings.grpc
        return cls(
            grpc.advertised_address or grpc.address,
            grpc.advertised_enrolment_address or grpc.enrolment_address,
        )
