# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Bounds the connections to the web process, and chooses which one is cut for others.

Loopback and proxies that showed their secret have a pool of their own, so that strangers never cut them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from enum import Enum, auto
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final, Protocol

MOST_CONNECTIONS: Final = 512
"""Most connections of a pool; one more is accepted, and the slowest of the address with most is cut."""
MOST_OF_ADDRESS: Final = 32
"""Most connections of one address or IPv6 /64, without such a bound for loopback and known proxies."""
GRACE_SECONDS: Final = 0.25
"""Time in which a connection is not cut for others: when many come at once, its request is read first."""
MOST_IN_GRACE: Final = 4 * MOST_CONNECTIONS
"""Most connections of a pool where all are in their grace; beyond, the slowest is cut all the same."""
MOST_IN_ROOM: Final = 64
"""Most connections beyond these while all others wait for our answers: only WATCHED paths are answered."""
LOOPBACK: Final = "loopback"
"""Origin of connections from this machine."""
_IPV6_NETWORK_BITS: Final = 64
Headers = Iterable[tuple[bytes, bytes]]


class Connection(Protocol):
    """What the bounds ask of a connection."""

    origin: str
    """Result of `origin_of`."""
    since: float
    """Loop seconds of its start, or of its last complete answer."""

    @property
    def waits_for_us(self) -> bool:
        """True while we produce its answer, false while we wait for its client."""

    def cut(self) -> None:
        """Close it at once."""


class Verdict(Enum):
    """What becomes of a new connection."""

    SERVED = auto()
    IN_ROOM = auto()
    """Only WATCHED paths are answered."""
    CUT = auto()


class Connections(dict[Connection, None]):
    """uvicorn's set of connections, ordered: first the one that has waited longest at one step."""

    def __init__(self, is_proxy: Callable[[Headers], bool] = lambda _: False) -> None:
        """`is_proxy` tells whether a request's headers show the secret of the reverse proxy."""
        super().__init__()
        self._is_proxy = is_proxy
        self._of_origin: dict[str, dict[Connection, None]] = {}
        self._known = {LOOPBACK}
        self._arriving: Counter[str] = Counter()
        """Accepted connections that are not in this set yet; the event loop adds them a moment later."""

    def add(self, one: Connection) -> None:
        """Append a connection unless it is present."""
        if one not in self:
            self[one] = None
            self._of_origin.setdefault(one.origin, {})[one] = None
            self._arriving[one.origin] -= self._arriving[one.origin] > 0

    def discard(self, one: Connection) -> None:
        """Remove a connection; no error when absent."""
        self.pop(one, None)
        same = self._of_origin.get(one.origin, {})
        same.pop(one, None)
        if not same:
            self._of_origin.pop(one.origin, None)

    def meet(self, one: Connection, headers: Headers) -> None:
        """Trust the origin of a request that shows the proxy's secret, until this process ends."""
        if one.origin not in self._known and self._is_proxy(headers):
            self._known.add(one.origin)

    def admits(self, host: str, now: float) -> bool:
        """Tell whether a new connection is accepted: within its address's bound, or a slow one can go for it.

        The answer costs a tenth of a connection. `now`: loop seconds.
        """
        origin = origin_of(host)
        if origin not in self._known:
            number = self._arriving[origin] + len(self._of_origin.get(origin, ()))
            slowest = self._slowest([origin]) if number >= MOST_OF_ADDRESS else None
            if number >= MOST_OF_ADDRESS and (slowest is None or now - slowest.since < GRACE_SECONDS):
                return False
        self._arriving[origin] += 1
        return True

    def forget_arriving(self) -> None:
        """Forget connections that were accepted and never added."""
        self._arriving.clear()

    def judge(self, new: Connection, now: float) -> Verdict:
        """Cut others for a new connection where there are too many. `now`: loop seconds."""
        is_known = new.origin in self._known
        if not is_known and len(self._of_origin[new.origin]) > MOST_OF_ADDRESS:
            slowest = self._slowest([new.origin], new)
            if slowest is None:
                return self._cut(new)
            self._cut(slowest)
        pool = [origin for origin in self._of_origin if (origin in self._known) is is_known]
        size = sum(len(self._of_origin[origin]) for origin in pool)
        while size > MOST_CONNECTIONS:
            slowest = self._slowest(pool, new)
            if slowest is None or (now - slowest.since < GRACE_SECONDS and size <= MOST_IN_GRACE):
                break
            self._cut(slowest)
            size -= 1
        if size <= MOST_IN_GRACE:
            return Verdict.SERVED
        return Verdict.IN_ROOM if size <= MOST_IN_GRACE + MOST_IN_ROOM else self._cut(new)

    def _slowest(self, origins: list[str], new: Connection | None = None) -> Connection | None:
        """Return the connection that has kept us waiting longest, of the origin with most connections."""
        sizes = {origin: len(self._of_origin.get(origin, ())) for origin in origins}
        for origin in sorted(origins, key=lambda one: -sizes[one]):
            for one in self._of_origin.get(origin, ()):
                if one is not new and not one.waits_for_us:
                    return one
        return None

    def _cut(self, one: Connection) -> Verdict:
        self.discard(one)  # at once, since the next new connection counts it too
        one.cut()
        return Verdict.CUT


def origin_of(host: str | None) -> str:
    """Return LOOPBACK, an IPv4 address or an IPv6 network: who may share one bound. `host`: the peer's."""
    try:
        address = ip_address((host or "").partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback:
        return LOOPBACK
    if isinstance(address, IPv6Address):
        return str(ip_network((address, _IPV6_NETWORK_BITS), strict=False))
    return str(address)
