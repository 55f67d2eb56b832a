# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The identity on disk: key, certificate, roots and agent id. docs/wire.md §6, §7 and §8.

It lies in `<state>/id`, mode 0700, files 0600; each file is replaced as a whole. The validity is stored as
text above the certificate, so that a sender need not import cryptography to read it. The certificate names
the hash of its key. After a crash between writing the certificate and moving the key, the next load finishes
the move.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from veilleuse.agent.errors import IdentityError, NotEnrolled
from veilleuse.agent.platforms import here
from veilleuse.wire.files import FileRefused, open_owned, read_owned, remove_owned
from veilleuse.wire.limits import AGENT_ID_BYTES

MOST_BYTES: Final = 1 << 20
"""Largest size of an identity file."""
DIRECTORY: Final = "id"
RENEW_AT: Final = 2 / 3
"""Share of a certificate's life after which it is renewed; the agent id adds up to RENEW_JITTER."""
RENEW_JITTER: Final = 0.1
_HEADER = re.compile(rb"^(not-before|not-after|key-sha256): (\S+)$", re.MULTILINE)
_ENROL = "`veilleuse-agent enrol JOINFILE`"
_REENROL = "enrol again with a new join file: `veilleuse-agent enrol JOINFILE`"


@dataclass(frozen=True, slots=True)
class Placement:
    """Placement given at enrolment, and the addresses of the collector."""

    address: str
    """host:port, mTLS; several are comma separated, in order."""
    enrolment_address: str
    """host:port, server-authenticated, likewise."""
    org_entity: str
    site: str
    population: str
    """workstation, classroom or server."""
    ca_pinned: bool
    """True when the CA was checked against `collector.ca_sha256`; else the join file was trusted."""


@dataclass(frozen=True, slots=True)
class Identity:
    """All that a connection needs."""

    agent_id: bytes
    """16 bytes."""
    key_pem: bytes = field(repr=False)
    certificate_pem: bytes
    """Leaf first, then intermediates."""
    roots_pem: bytes
    not_before_unix_milliseconds: int
    not_after_unix_milliseconds: int
    place: Placement

    def renewal_due_unix_milliseconds(self) -> int:
        """Return when to renew: 2/3 of the certificate's life, plus up to a tenth of it by the agent id."""
        life = self.not_after_unix_milliseconds - self.not_before_unix_milliseconds
        share = int.from_bytes(hashlib.sha256(self.agent_id).digest()[:4], "big") / 2**32
        return self.not_before_unix_milliseconds + round(life * (RENEW_AT + RENEW_JITTER * share))

    def leaf_der(self) -> bytes:
        """Return the agent's own certificate, DER."""
        return ders_of(self.certificate_pem)[0]


@contextmanager
def as_owner_of(state: Path) -> Iterator[None]:
    """Create the directory if needed; as root, act as its owner, so that the service can read the files.

    Raises IdentityError.
    """
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        state.stat()
    except OSError as error:
        raise IdentityError(
            f"cannot make {state} ({error.strerror}): run as root, or set paths.state"
        ) from error
    with here.acting_as_owner_of(state):
        yield


class IdentityStore:
    """Reads and writes the files below `<state>/id`."""

    def __init__(self, state: Path, directory: str = DIRECTORY) -> None:
        """Take `state` = `paths.state`; nothing is read or written yet."""
        self.directory = state / directory

    def load(self) -> Identity:
        """Load the identity. Raises NotEnrolled when there is none, IdentityError when it is damaged."""
        self._finish_renewal()
        try:
            certificate = self.read("certificate.pem")
            place: dict[str, Any] = json.loads(self.read("collector.json"))
            headers = {name.decode(): value.decode() for name, value in _HEADER.findall(certificate)}
            identity = Identity(
                agent_id=bytes.fromhex(self.read("agent_id").decode()),
                key_pem=self.read("key.pem"),
                certificate_pem=certificate[certificate.index(b"-----BEGIN") :],
                roots_pem=self.read("roots.pem"),
                not_before_unix_milliseconds=int(headers["not-before"]),
                not_after_unix_milliseconds=int(headers["not-after"]),
                place=Placement(**place),
            )
            _check(identity)
            return identity
        except FileNotFoundError as error:
            raise NotEnrolled(f"this machine is not enrolled (no {error.filename}): {_ENROL}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise IdentityError(
                f"the identity in {self.directory} is damaged ({error}): {_REENROL}"
            ) from error

    def is_enrolled(self) -> bool:
        """Return True when an identity exists, sound or damaged."""
        return (self.directory / "certificate.pem").exists()

    def drop_pending_key(self) -> None:
        """Delete a pending key that the collector will never accept; the next request creates another."""
        remove_owned(self.directory / "pending-key.pem")

    def pending_key(self) -> bytes | None:
        """Return the key of a request without stored answer, or None. A retry with it is idempotent."""
        try:
            return self.read("pending-key.pem")
        except FileNotFoundError:
            return None

    def keep_pending_key(self, key_pem: bytes) -> None:
        """Store the key of a request, before the call."""
        self.write("pending-key.pem", key_pem)

    def keep_certificate(
        self, certificates_der: list[bytes], roots_der: list[bytes], validity: tuple[int, int]
    ) -> None:
        """Store the answer: the roots, the certificate, then move the pending key into place."""
        key_pem = self.pending_key()
        if key_pem is None:
            raise IdentityError(f"no key of a request in {self.directory}: {_REENROL}")
        head = (
            f"not-before: {validity[0]}\nnot-after: {validity[1]}\nkey-sha256: "
            f"{hashlib.sha256(key_pem).hexdigest()}\n"
        )
        self.write("roots.pem", b"".join(map(pem_of, roots_der)))
        self.write("certificate.pem", head.encode() + b"".join(map(pem_of, certificates_der)))
        self._finish_renewal()

    def keep_place(self, agent_id: bytes, place: Placement) -> None:
        """Store the agent id and the placement.

        The certificate is deleted first: without it there is no identity, so halves of two are never mixed.
        """
        remove_owned(self.directory / "certificate.pem")
        plain = {name: getattr(place, name) for name in Placement.__slots__}
        self.write("agent_id", agent_id.hex().encode())
        self.write("collector.json", json.dumps(plain, indent=1, ensure_ascii=False).encode())

    def write(self, name: str, content: bytes) -> None:
        """Replace one file as a whole, durably, mode 0600. Raises IdentityError."""
        write_private(self.directory / name, content)

    def read(self, name: str) -> bytes:
        """Read one file. Raises FileNotFoundError, or IdentityError when it exists but cannot be read."""
        path = self.directory / name
        try:
            return read_owned(path, MOST_BYTES)
        except FileNotFoundError:
            raise
        except FileRefused as error:
            raise IdentityError(f"cannot read {path}: {error.strerror}") from error
        except OSError as error:
            raise IdentityError(
                f"cannot read {path} ({error.strerror or error}): run as the agent's user"
            ) from error

    def _finish_renewal(self) -> None:
        """Move the pending key into place when the stored certificate already belongs to it."""
        pending = self.pending_key()
        if pending is None:
            return
        try:
            headers = dict(_HEADER.findall(self.read("certificate.pem")))
        except FileNotFoundError:
            return
        if headers.get(b"key-sha256", b"").decode() == hashlib.sha256(pending).hexdigest():
            with suppress(FileNotFoundError):  # another process, for example `doctor`, may have moved it
                here.replace(self.directory / "pending-key.pem", self.directory / "key.pem")
            here.sync_folder(self.directory)


def write_private(path: Path, content: bytes) -> None:
    """Replace a file as a whole, durably, mode 0600; create its directory with mode 0700.

    On Windows the directory inherits its access list: with one of its own, what an administrator writes there
    would be closed to the service. Raises IdentityError.
    """
    fresh = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(mode=0o700 if here.ACCESS_BY_MODE else 0o777, parents=True, exist_ok=True)
        handle = open_owned(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        here.replace(fresh, path)
        here.sync_folder(path.parent)
    except OSError as error:
        raise IdentityError(
            f"cannot write {path} ({error.strerror or error}): check its directory's owner and space"
        ) from error


def _check(identity: Identity) -> None:
    """Raise ValueError for data that TLS rejects or misreads: an empty file would mean "any public CA"."""
    if len(identity.agent_id) != AGENT_ID_BYTES:
        raise ValueError(f"agent_id is not {AGENT_ID_BYTES} bytes")
    if b" PRIVATE KEY-----" not in identity.key_pem:
        raise ValueError("key.pem is not a key")
    for name, pem in (("certificate.pem", identity.certificate_pem), ("roots.pem", identity.roots_pem)):
        if not all(ders_of(pem) or [b""]):
            raise ValueError(f"{name} is not a certificate")


def pem_of(der: bytes) -> bytes:
    """Encode one certificate as PEM."""
    text = base64.b64encode(der)
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return b"\n".join([b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----", b""])


def ders_of(pem: bytes) -> list[bytes]:
    """Return the certificates of a PEM text as DER."""
    found = re.findall(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", pem, re.DOTALL)
    return [base64.b64decode(b"".join(body.split())) for body in found]
