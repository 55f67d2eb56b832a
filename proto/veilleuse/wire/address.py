# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Parses host:port in settings and join files.

Avoids `re` and `ipaddress`: the resident process reads settings.
"""

from __future__ import annotations

from typing import Final

WILDCARDS: Final = ("0.0.0.0", "::")
"""Addresses that mean every address of a machine: to listen on, never to connect to."""
_LOOPBACK_NAMES: Final = frozenset({"localhost", "ip6-localhost"})
MAX_PORT: Final = 65535
MAX_NAME_CHARACTERS: Final = 253
"""RFC 1035 §2.3.4, as text."""
MAX_ADDRESSES: Final = 4
"""Largest number of addresses of one service: each one that is dead costs its caller some seconds."""


def split_address(text: str) -> tuple[str, int]:
    """Split `host:port` or `[v6]:port` into (host without brackets, port 0 to 65535).

    Raises ValueError that states the right form.
    """
    host, separator, port = text.rpartition(":")
    if not (separator and port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= MAX_PORT):
        raise ValueError("it must be host:port, e.g. 192.0.2.1:8641 or [2001:db8::1]:8641")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        _check_ipv6(host)
    elif not is_host_name(host):
        raise ValueError("its host must be a name, an IPv4 address, or an IPv6 address in brackets")
    return host, int(port)


def check_reachable(text: str) -> None:
    """Raise ValueError unless a connection to this host:port is possible."""
    host, port = split_address(text)
    if port == 0:
        raise ValueError("its port must be 1 to 65535")
    if host in WILDCARDS:
        raise ValueError(f"nobody can connect to {host}: it must be a name or an address of one machine")


def split_addresses(text: str) -> list[str]:
    """Split comma-separated addresses, in order; an empty text gives none. Nothing is checked."""
    return [part for one in text.split(",") if (part := one.strip())]


def check_addresses(text: str) -> None:
    """Raise ValueError unless this is a comma-separated list of host:port that can be connected to."""
    addresses = split_addresses(text)
    if not 0 < len(addresses) <= MAX_ADDRESSES:
        raise ValueError(f"it must be one address, or up to {MAX_ADDRESSES} separated by commas")
    for address in addresses:
        try:
            check_reachable(address)
        except ValueError as error:
            raise ValueError(f"{address}: {error}" if len(addresses) > 1 else str(error)) from error


def is_loopback(host: str) -> bool:
    """127.0.0.0/8, ::1 or a name that means them."""
    from ipaddress import ip_address

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host in _LOOPBACK_NAMES


def check_account_header(name: str) -> None:
    """Raise ValueError unless an HTTP header of this name can mean an account and nothing else.

    Taken are names that mean something to browsers, proxies or the collector.
    """
    import re  # only for this check

    if not re.fullmatch("[A-Za-z0-9](-?[A-Za-z0-9]){0,63}", name):
        raise ValueError("it must be letters, digits and single hyphens, e.g. X-Veilleuse-Account")
    taken = (
        "(accept|access-control|cache|content|cookie|if|proxy|sec|x-prometheus)(-.*)?"
        "|authorization|connection|date|dnt|expect|forwarded|from|host|keep-alive|max-forwards|origin|pragma|range"
        "|referer|set-cookie2?|te|trailer|transfer-encoding|upgrade.*|user-agent|via|x-real-ip|x-requested-with"
        "|x-forwarded-(by|for|host|port|prefix|proto|scheme|server|ssl)|x-veilleuse-proxy-secret"
    )
    if re.fullmatch(taken, name.lower()):
        raise ValueError("this header means something else: use one of your own, e.g. X-Veilleuse-Account")


def is_host_name(text: str) -> bool:
    """Check by its characters that a text is a DNS name (IDN as A-labels) or an IPv4 address."""
    labels = text.removesuffix(".").split(".")
    return (
        text.isascii()
        and len(text) <= MAX_NAME_CHARACTERS
        and all(
            0 < len(label) <= 63 and all(c.isalnum() or c in "-_" for c in label) and label[0] != "-"
            for label in labels
        )
    )


def _check_ipv6(text: str) -> None:
    from ipaddress import IPv6Address

    try:
        IPv6Address(text)
    except ValueError as error:
        raise ValueError(f"{text} is not an IPv6 address") from error
