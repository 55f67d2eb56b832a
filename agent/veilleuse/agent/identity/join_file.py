# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the join file that `veilleuse token create` writes: all that a machine needs to enrol.

docs/wire.md §6.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import ssl
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from veilleuse.agent.errors import IdentityError
from veilleuse.agent.platforms import here
from veilleuse.agent.settings import MAX_JOIN_FILE_BYTES, normalise_fingerprint
from veilleuse.wire.files import TooLong, read_with_status
from veilleuse.wire.values import check_addresses

FORMAT_VERSION: Final = 1
_ANOTHER: Final = "make one with `veilleuse token create`"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_FLEET_KEY = re.compile(r"[0-9a-fA-F]{64}")
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\s*(.+?)\s*-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class JoinFile:
    """Content of a join file."""

    address: str
    """host:port of the mTLS service; several are comma separated, in order."""
    enrolment_address: str
    """host:port of the enrolment service, likewise."""
    ca_pem: bytes
    """PEM of the root: exactly one certificate, even if the file holds more."""
    ca_sha256: str
    """SHA-256 of the root's DER, 64 hexadecimal digits."""
    token: str = field(repr=False)
    """43 characters, URL-safe base64."""
    fleet_key: bytes = field(repr=False)
    """32 bytes."""
    org_entity: str
    """Entity of the token; empty in files of 0.2."""
    readable_by_others: bool
    """True when the file mode lets the group or others read it; False on systems without modes."""


def read_join_file(path: Path) -> JoinFile:
    """Read the join file at `path`. Raises IdentityError that names the fault, never the secrets."""
    try:
        content, found = read_with_status(path, MAX_JOIN_FILE_BYTES, regular=True)
        mode = found.st_mode
    except TooLong as error:
        raise IdentityError(f"{path} is not a join file: {error.strerror}; {_ANOTHER}") from error
    except OSError as error:
        raise IdentityError(
            f"cannot read the join file {path}: {error.strerror or error}; make one with `veilleuse token "
            "create`"
        ) from error
    try:
        raw = json.loads(content)
        if not isinstance(raw, dict):
            raise TypeError("it is not a JSON object")
        return _parse(
            raw, readable_by_others=here.ACCESS_BY_MODE and bool(mode & (stat.S_IRWXG | stat.S_IRWXO))
        )
    except KeyError as error:
        raise IdentityError(f"{path} is not a join file: {error} is missing; {_ANOTHER}") from error
    except json.JSONDecodeError as error:
        raise IdentityError(f"{path} is not a join file: it is no JSON; {_ANOTHER}") from error
    except RecursionError as error:
        raise IdentityError(f"{path} is not a join file: it is nested too deeply; {_ANOTHER}") from error
    except (TypeError, ValueError) as error:
        raise IdentityError(f"{path} is not a join file: {error}; {_ANOTHER}") from error


def first_certificate(pem: str) -> bytes:
    """Return the DER of the first certificate in `pem`. Raises ValueError when there is none."""
    found = _CERTIFICATE.search(pem)
    if found is None:
        raise ValueError("no PEM certificate in it")
    try:
        return base64.b64decode("".join(found[1].split()), validate=True)
    except binascii.Error as error:
        raise ValueError("its certificate is not base64") from error


def fingerprints(text: str) -> frozenset[str]:
    """Parse `collector.ca_sha256`: comma-separated fingerprints; an empty text gives none."""
    return frozenset(one for part in text.split(",") if (one := normalise_fingerprint(part)))


def _parse(raw: dict[str, Any], *, readable_by_others: bool) -> JoinFile:
    if raw["version"] != FORMAT_VERSION:
        raise ValueError(f"version {raw['version']!r} is not {FORMAT_VERSION}: upgrade the agent")
    if not isinstance(raw["token"], str) or not _TOKEN.fullmatch(raw["token"]):
        raise ValueError("the token is not 43 characters of URL-safe base64")
    if not _FLEET_KEY.fullmatch(str(raw["fleet_key"])):
        raise ValueError("the fleet key is not 32 bytes, as 64 hexadecimal digits")
    fleet_key = bytes.fromhex(raw["fleet_key"])
    root_der = first_certificate(str(raw["ca_pem"]))
    actual = hashlib.sha256(root_der).hexdigest()
    if actual != normalise_fingerprint(str(raw["ca_sha256"])):
        raise ValueError("its CA certificate does not match its ca_sha256: it was altered, make another")
    return JoinFile(
        address=_addresses(raw, "address", "addresses"),
        enrolment_address=_addresses(raw, "enrolment_address", "enrolment_addresses"),
        ca_pem=ssl.DER_cert_to_PEM_cert(root_der).encode("ascii"),
        ca_sha256=actual,
        token=raw["token"],
        fleet_key=fleet_key,
        org_entity=str(raw.get("org_entity", "")),
        readable_by_others=readable_by_others,
    )


def _addresses(raw: dict[str, Any], first: str, every: str) -> str:
    """Return the addresses, comma separated: those of `every`, or `first`, which agents of 0.2 read."""
    name, addresses = (every, raw[every]) if every in raw else (first, [raw[first]])
    try:
        if not isinstance(addresses, list):
            raise ValueError("it must be a list")
        text = ", ".join(map(str, addresses))
        check_addresses(text)
    except ValueError as error:
        raise ValueError(f"{name} is {raw[name]!r}: {error}") from error
    return text
