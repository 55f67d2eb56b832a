# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Checks values that people write in settings, files, commands and queries: addresses, URLs, days, zones.

Each raises ValueError that states what the value must be, and never quotes a password. The resident process
reads settings: what only a check needs is imported in it.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from urllib.parse import SplitResult

WILDCARDS: Final = ("0.0.0.0", "::")
"""Addresses that mean every address of a machine: to listen on, never to connect to."""
_LOOPBACK_NAMES: Final = frozenset({"localhost", "ip6-localhost"})
MAX_PORT: Final = 65535
MAX_NAME_CHARACTERS: Final = 253
"""RFC 1035 §2.3.4, as text."""
MAX_ADDRESSES: Final = 4
"""Largest number of addresses of one service: each one that is dead costs its caller some seconds."""
FIRST_YEAR: Final = 1980
"""Earliest year of a day that people write: an earlier one is a typing error."""
LAST_YEAR: Final = 2999
"""Latest year: an open end may be written as a far one."""
_FORM: Final = "0000-00-00"
GRID_ZONE: Final = r"[A-Z0-9]{2,3}(-[A-Z0-9]{1,8}){0,2}"
"""Pattern of the code of a grid zone: FR, FR-COR."""
GRID_SERIES: Final = r"[a-z][a-z0-9_]{1,39}"
"""Pattern of the name of a series of intensities."""
_ZONE_NAME: Final = r"\w[\w .,'’()&-]{0,79}"
_PROXY_EXAMPLE: Final = "http://proxy.example.org:3128"
PROXY_PORT: Final = 3128
"""Port of a proxy that names none: Squid's."""


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

    if len(name) > 128:
        raise ValueError("it may have 128 characters at most, e.g. X-Veilleuse-Account")
    if not re.fullmatch("[A-Za-z0-9](-?[A-Za-z0-9])*", name):
        raise ValueError("it must be letters, digits and single hyphens, e.g. X-Veilleuse-Account")
    taken = (
        "(accept|access-control|cache|content|cookie|if|proxy|sec|x-prometheus)(-.*)?"
        "|authorization|connection|date|dnt|expect|forwarded|from|host|keep-alive|max-forwards|origin|pragma|range"
        "|referer|set-cookie2?|te|trailer|transfer-encoding|upgrade.*|user-agent|via|x-real-ip|x-requested-with"
        "|x-forwarded-(by|for|host|port|prefix|proto|scheme|server|ssl)|x-veilleuse-proxy-secret"
    )
    if re.fullmatch(taken, name.lower()):
        raise ValueError("this header means something else: use one of your own, e.g. X-Veilleuse-Account")


def check_certificate_names(names: tuple[str, ...]) -> None:
    """Raise ValueError unless each is a DNS name (a leading `*.` is allowed) or an IP address, and there is
    one.
    """
    from ipaddress import ip_address

    if not names:
        raise ValueError("it must name the collector as agents do")
    for name in names:
        if is_host_name(name.removeprefix("*.")):
            continue
        try:
            ip_address(name)
        except ValueError as error:
            raise ValueError(f"{name[:60]!r} is neither a DNS name (in ASCII) nor an IP address") from error


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


def parse_day(text: str) -> date:
    """Parse YYYY-MM-DD, in ASCII digits, of the years FIRST_YEAR to LAST_YEAR.

    Raises ValueError that states what the text must be, also for the other forms of ISO 8601: 20260131,
    2026-W05-6.
    """
    if "".join("0" if letter in "0123456789" else letter for letter in text) == _FORM:
        try:
            day = date.fromisoformat(text)
        except ValueError as error:
            raise ValueError("there is no such day: write it like 2026-01-31") from error
        if FIRST_YEAR <= day.year <= LAST_YEAR:
            return day
        raise ValueError(f"its year must be {FIRST_YEAR} to {LAST_YEAR}")
    raise ValueError("it is not a date: write it like 2026-01-31")


def explain_json(error: Exception) -> str:
    """Say why a text was not read as JSON, and where; Python's own words are for programmers."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    line = getattr(error, "lineno", 0)
    return (
        f"look at line {line}, column {getattr(error, 'colno', 0)}" if line else "a part of it cannot be read"
    )


def check_time_zone(name: str) -> None:
    """Raise ValueError unless this machine knows the time zone."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("it must be an IANA time zone, such as Europe/Paris") from error


def check_zone(name: str) -> None:
    """Raise ValueError unless it may be the code or the name of a grid zone."""
    _require(_ZONE_NAME, name, "it must be the code or the name of a grid zone, such as FR or Corse")


def check_grid_zone(code: str) -> None:
    """Raise ValueError unless this may be the code of a grid zone."""
    _require(GRID_ZONE, code, "it must be the code of a grid zone, such as FR or FR-COR")


def check_series(name: str) -> None:
    """Raise ValueError unless this may be the name of a series of intensities."""
    _require(GRID_SERIES, name, "it must be the name of a series, such as odre_consumption")


def _require(pattern: str, text: str, otherwise: str) -> None:
    import re

    if not re.fullmatch(pattern, text):
        raise ValueError(otherwise)


def check_reused_purchases(targets: tuple[str, ...]) -> None:
    """Raise ValueError unless each is CATEGORY@YEAR=SHARE with a year and a share of 0 to 1."""
    for target in targets:
        parse_reused_purchase(target)


def parse_reused_purchase(target: str) -> tuple[str, int, float]:
    """Return category, first year and share. Raises ValueError."""
    name, _, rest = target.rpartition("@")
    year, _, share = rest.partition("=")
    try:
        found = name.strip(), int(year), float(share)
        if not (year.isascii() and share.isascii()):
            raise ValueError(target)
    except ValueError as error:
        raise ValueError(f"{target[:60]!r} is not CATEGORY@YEAR=SHARE, e.g. laptops@2027=0.25") from error
    if not found[0] or not 2020 <= found[1] <= 2100 or not 0 <= found[2] <= 1:
        raise ValueError(f"{target[:60]!r} is not CATEGORY@YEAR=SHARE with a share of 0 to 1")
    return found


def parse_url(text: str) -> SplitResult:
    """Split the URL of a server: https anywhere, http to this machine only.

    Raises ValueError that states what it must be.
    """
    parts = _parse(text, "https://host.example.org")
    host = parts.hostname or ""
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(f"http only to this machine, others can read it; use https for {host}")
    return parts


def parse_proxy(text: str) -> SplitResult:
    """Split the URL of a proxy. Raises ValueError that states what it must be."""
    parts = _parse(text, _PROXY_EXAMPLE)
    if parts.scheme != "http" or parts.path not in ("", "/"):
        raise ValueError(f"write it like {_PROXY_EXAMPLE}")
    return parts


def origin_of(parts: SplitResult, port: int | None = None) -> str:
    """Return scheme, host and port, without a path; `port`: default when none is named."""
    host = parts.hostname or ""
    port = parts.port or port
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}" + (f":{port}" if port else "")


def _parse(text: str, example: str) -> SplitResult:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ValueError(f"it is no URL: write it like {example}") from error
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("it holds neither a user nor a query: leave them out")
    # urlsplit drops line breaks, and accepts any letter in a host and a path
    plain = text.isascii() and text.isprintable() and not set(text) & set(' <>"\\^`{|}')
    known = parts.scheme in ("http", "https") and (is_host_name(host) or ":" in host)
    if not plain or not known or port == 0:
        raise ValueError(f"write it like {example}")
    return parts
