# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Other criteria of electricity (ADPe, primary energy, water) from a BoaviztAPI that the user runs. Never part of a figure.

Requirements: a BoaviztAPI 1 or 2 on this machine, or behind TLS. What it answers is ADEME's, WRI's and others': it is
shown, with its source, and not kept; docs/methodology.md §8. Its own carbon factor (98 g of 2019 for France) is never asked for.

Shapes read on a running BoaviztAPI 2.5.0: `POST /v1/peripheral/monitor?verbose=true&criteria=pe` with a use of 1,000 W
answers `verbose.pe_factor = {value, unit, source, status, min, max}`, per kWh; a country it does not know becomes Europe with
a warning; a criterion it does not have is not there.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import math
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from veilleuse.collector.errors import CollectorError, UsageError
from veilleuse.wire.files import read_authorities

LABEL: Final = "other criteria, indicative: not part of the official figure"

CRITERIA: Final[Mapping[str, tuple[str, str, str]]] = {
    "adp": ("adpe", "kgSbeq/kWh", "use of minerals and metals"),
    "pe": ("primary_energy", "MJ/kWh", "primary energy"),
    "wu": ("water", "m3eq/kWh", "use of water"),
}
"""BoaviztAPI's word → (ours, unit as it has to be, what it is)."""

_PATH: Final = "/v1/peripheral/monitor?verbose=true&duration=1" + "".join(
    f"&criteria={one}" for one in CRITERIA
)
_VERSION_PATH: Final = "/v1/utils/version"
_MAXIMUM_BYTES: Final = 256 * 1024
_HIGHEST: Final = 1e6
"""Of any criterion per kWh: what is above is no factor."""
_TEXT_CHARACTERS: Final = 200


class BoaviztaError(CollectorError):
    """It could not be asked, or what it answered cannot be used."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One criterion of a kWh."""

    criterion: str
    per_kwh: float
    unit: str
    lowest: float
    highest: float
    source: str
    """As BoaviztAPI names it."""


@dataclass(frozen=True, slots=True)
class OtherCriteria:
    """What a BoaviztAPI says of a kWh in a country."""

    country: str
    """ISO 3166-1 alpha-3."""
    api_version: str
    criteria: tuple[Criterion, ...]
    """Those it has; one that is not there is not known, never zero."""


def checked_url(url: str) -> SplitResult:
    """The address, when it may be asked: https anywhere, http on this machine alone. Raises UsageError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"--url '{url}': {error}") from error
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise UsageError(
            f"--url '{url}': write it like https://boavizta.example.org or http://127.0.0.1:5000"
        )
    if parts.username is not None or parts.query or parts.fragment:
        raise UsageError("--url holds neither a user nor a query")
    if parts.scheme == "http" and not _is_loopback(host):
        raise UsageError(
            f"--url: http only to this machine (127.0.0.1, ::1, localhost); use https for {host}"
        )
    return parts


def other_criteria(
    url: str, country: str, *, timeout_seconds: float = 10.0, ca_file: Path | None = None
) -> OtherCriteria:
    """What a kWh means in a country, by the BoaviztAPI at `url`; `timeout_seconds` for all of it.

    Raises UsageError for an address that may not be asked, BoaviztaFailed for everything else.
    """
    parts = checked_url(url)
    found: list[OtherCriteria | Exception] = []

    def work() -> None:
        try:
            found.append(_asked(parts, country, time.monotonic() + timeout_seconds, ca_file))
        except (BoaviztaError, UsageError) as error:
            found.append(error)

    # Timeouts of a socket are per piece: one that drips its answer would keep us for days.
    thread = threading.Thread(target=work, name="boavizta", daemon=True)
    thread.start()
    thread.join(timeout_seconds)
    if not found:
        raise BoaviztaError(f"{parts.netloc} did not answer in {timeout_seconds:g} s")
    (one,) = found
    if isinstance(one, Exception):
        raise one
    return one


def _asked(parts: SplitResult, country: str, deadline: float, ca_file: Path | None) -> OtherCriteria:
    body = {"usage": {"avg_power": 1000, "use_time_ratio": 1, "usage_location": country}}
    version = _ask(parts, "GET", _VERSION_PATH, None, deadline, ca_file)
    answer = _ask(parts, "POST", _PATH, body, deadline, ca_file)
    return OtherCriteria(country, _text(version), _criteria(answer, country))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _ask(parts: SplitResult, method: str, path: str, body: Any, deadline: float, ca_file: Path | None) -> Any:
    """The JSON of an answer 200; no redirect is followed, no proxy asked."""
    connection = _connection(parts, _left(deadline), ca_file)
    try:
        connection.request(
            method,
            parts.path.rstrip("/") + path,
            None if body is None else json.dumps(body),
            {"Accept": "application/json", "Content-Type": "application/json", "Connection": "close"},
        )
        with closing(
            connection.getresponse()
        ) as answer:  # it holds the socket, whatever becomes of the connection
            if answer.status != http.client.OK:
                raise BoaviztaError(f"{parts.netloc} answered {answer.status} to {path.partition('?')[0]}")
            return _parsed(_read(answer, deadline), parts.netloc)
    except TimeoutError as error:
        raise BoaviztaError(f"{parts.netloc} did not answer in time") from error
    except ssl.SSLError as error:
        raise BoaviztaError(
            f"{parts.netloc} is not trusted: {error.reason or error}; give its authority with --ca"
        ) from error
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise BoaviztaError(
            f"cannot ask {parts.netloc}: {_text(str(error)) or type(error).__name__}"
        ) from error
    finally:
        connection.close()


def _connection(parts: SplitResult, timeout: float, ca_file: Path | None) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, parts.port, timeout=timeout)
    # Name and chain are checked, alike on every Python: 3.13's default also wants extensions that small authorities leave out.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if ca_file is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(cadata=read_authorities(ca_file))
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "reason", None) or error.strerror or error
        raise UsageError(f"cannot read the authority in {ca_file}: {why}; name a file of PEM") from error
    return http.client.HTTPSConnection(host, parts.port, timeout=timeout, context=context)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _read(answer: http.client.HTTPResponse, deadline: float) -> bytes:
    """All of it, at most _MAXIMUM_BYTES, until the deadline."""
    received = bytearray()
    while piece := answer.read1(16_384):
        _left(deadline)
        received += piece
        if len(received) > _MAXIMUM_BYTES:
            raise BoaviztaError(f"its answer is longer than {_MAXIMUM_BYTES} bytes")
    return bytes(received)


def _parsed(raw: bytes, who: str) -> Any:
    def refuse(word: str) -> float:
        raise ValueError(word)

    try:
        return json.loads(raw, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise BoaviztaError(f"{who} did not answer JSON: is it a BoaviztAPI?") from error


def _criteria(answer: Any, country: str) -> tuple[Criterion, ...]:
    verbose = answer.get("verbose") if isinstance(answer, dict) else None
    if not isinstance(verbose, dict):
        raise BoaviztaError("it answered without details: is it a BoaviztAPI 1 or 2?")
    where = verbose.get("usage_location")
    if not isinstance(where, dict) or where.get("value") != country or where.get("status") != "INPUT":
        raise BoaviztaError(
            f"it has no electricity of {country}: another place's would have stood in, and is not taken"
        )
    found = [
        _criterion(name, unit, verbose[f"{word}_factor"])
        for word, (name, unit, _) in CRITERIA.items()
        if f"{word}_factor" in verbose
    ]
    if not found:
        raise BoaviztaError(
            f"it knows none of {', '.join(name for name, _, _ in CRITERIA.values())} of {country}"
        )
    return tuple(found)


def _criterion(name: str, unit: str, told: Any) -> Criterion:
    if not isinstance(told, dict) or told.get("status") == "DEFAULT":
        raise BoaviztaError(f"its {name} is another place's, or none")
    stated = _text(told.get("unit"))
    if stated.replace(" ", "") != unit:
        raise BoaviztaError(f"its {name} is in '{stated}', not in {unit}")
    value = _number(told.get("value"), name)
    lowest, highest = (_number(told.get(word, value), name) for word in ("min", "max"))
    return Criterion(name, value, unit, lowest, highest, _text(told.get("source", "not said")))


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BoaviztaError(f"its {name} is no number")
    if not math.isfinite(value) or not 0 <= value <= _HIGHEST:
        raise BoaviztaError(f"its {name} is {value}: out of range")
    return float(value)


def _text(value: Any) -> str:
    """What is shown at a terminal: printable, and short."""
    if not isinstance(value, str):
        raise BoaviztaError("it answered something else where a text should be")
    return "".join(letter for letter in value if letter.isprintable())[:_TEXT_CHARACTERS]
