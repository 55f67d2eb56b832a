# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A small HTTP client for devices that answer JSON: BMCs and plugs.

Devices hang, send slowly, send wrong data or never stop. So one deadline and one limit on bytes apply to the
whole exchange. Every receive gets the time left until the deadline. Every failure is a ReadFailed with its
reason. Redirections are followed only within the same device. Numbers keep their decimals (Decimal), because
they show a counter's resolution.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import re
import secrets
import socket
import ssl
import time
from base64 import b64encode
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from veilleuse.agent.errors import ReadFailed
from veilleuse.agent.ports import MeterSpec
from veilleuse.agent.sources.readings import address_of, explain_network_error
from veilleuse.wire.files import read_authorities

LARGEST_ANSWER_BYTES: Final = 1024 * 1024
"""Limit for headers and body. The largest resource read is a Redfish Power of about 100 kB."""
MOST_REDIRECTIONS: Final = 2
_LONGEST_NUMBER: Final = 40
_OTHER: Final = "is it the device that source names, and its own web port?"
"""Hint for an answer that is not from the expected kind of device."""
_PATH = re.compile(r"/[!-~]*")
_CHALLENGE = re.compile(r'(\w+)=(?:"([^"\\]*)"|([^\s,"]*))')


class Endpoint(NamedTuple):
    """Network address of a device."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Answer(NamedTuple):
    """A device's answer."""

    status: int
    headers: http.client.HTTPMessage
    document: Any
    """The JSON, with decimal numbers as Decimal; None when the status is no success or the body is empty."""


class _TooLarge(Exception):
    pass


def endpoint_of(meter: MeterSpec, default_port: int, tls: ssl.SSLContext | None = None) -> Endpoint:
    """Return the address of a configured meter. Raises SourceUnavailable."""
    return Endpoint(*address_of(meter, default_port), tls)


def document_of(exchange: Exchange, answer: Answer, *, credentials: bool = False) -> dict[str, Any]:
    """Return the JSON object of a successful answer. Raises ReadFailed on any other answer.

    `credentials` tells whether credentials were sent.
    """
    if answer.status in (401, 403):
        raise ReadFailed(explain_refusal(exchange.endpoint, credentials=credentials))
    if not 200 <= answer.status < 300:
        raise ReadFailed(f"{exchange.endpoint} answers with HTTP status {answer.status}; {_OTHER}")
    if not isinstance(answer.document, dict):
        raise ReadFailed(f"{exchange.endpoint} answers without a JSON object; {_OTHER}")
    return answer.document


def explain_refusal(endpoint: Endpoint, *, credentials: bool) -> str:
    """Explain an HTTP 401 or 403: credentials missing or rejected."""
    if credentials:
        return f"{endpoint} refuses the credentials; check name and secret in credentials_file"
    return f"{endpoint} needs credentials; set credentials_file in meters.toml"


def tls_context(*, verify: bool, ca_file: str) -> ssl.SSLContext:
    """Return a context for TLS 1.2 or later. Raises OSError when `ca_file` cannot be read.

    It trusts the system's authorities, or only those of `ca_file`.
    """
    context = ssl.create_default_context(cadata=read_authorities(Path(ca_file)) if ca_file else None)
    # Python requires formalities of RFC 5280 since 3.13, and controllers' certificates often lack them.
    # Names, dates, signatures and authorities are still checked.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Exchange:
    """Requests to one device under one deadline; the caller must `close` the exchange."""

    def __init__(self, endpoint: Endpoint, seconds: float) -> None:
        self.endpoint = endpoint
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._socket: socket.socket | None = None

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; may be called twice."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def get(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        """Return the resource at `path`, following redirections within the device. Raises ReadFailed."""
        for _ in range(MOST_REDIRECTIONS + 1):
            answer = self.send("GET", path, None, headers)
            if answer.status not in (301, 302, 307, 308):
                return answer
            path = self._redirect_path(answer.headers.get("Location", ""))
        raise ReadFailed(f"{self.endpoint} redirects in circles")

    def send(
        self, method: str, path: str, document: object = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send one request and return its answer. Raises ReadFailed."""
        try:
            return self._send(method, path, document, headers or {})
        except TimeoutError as error:
            raise ReadFailed(
                f"{self.endpoint} has not answered within {self._seconds:g} s;"
                " is it on, is the port right and open?"
            ) from error
        except _TooLarge as error:
            raise ReadFailed(f"{self.endpoint} answers more than {LARGEST_ANSWER_BYTES} bytes") from error
        except ssl.SSLCertVerificationError as error:
            raise ReadFailed(
                f"the certificate of {self.endpoint} is not trusted: {error.verify_message}; "
                "name its authority in ca_file, and the device as its certificate does"
            ) from error
        except ssl.SSLError as error:
            raise ReadFailed(f"{self.endpoint} fails at TLS: {error.reason or 'broken off'}") from error
        except http.client.RemoteDisconnected as error:
            raise ReadFailed(f"{self.endpoint} closes the connection without an answer") from error
        except (http.client.HTTPException, ValueError) as error:
            raise ReadFailed(
                f"{self.endpoint} does not speak HTTP properly ({type(error).__name__}); {_OTHER}"
            ) from error
        except OSError as error:
            raise ReadFailed(f"{self.endpoint} cannot be reached: {explain_network_error(error)}") from error

    def _send(self, method: str, path: str, document: object, headers: dict[str, str]) -> Answer:
        if _PATH.fullmatch(path) is None:
            raise ReadFailed(f"{self.endpoint} links to a resource without a valid path")
        body = None if document is None else json.dumps(document).encode()
        sent = {"Accept": "application/json", "Connection": "close", **headers}
        if body is not None:
            sent["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection(self.endpoint.host, self.endpoint.port)
        # HTTPConnection calls only sendall, makefile and close of its socket.
        connection.sock = self._connect()
        try:
            connection.request(method, path, body, sent)
            with connection.getresponse() as response:
                text = response.read(LARGEST_ANSWER_BYTES + 1)
        finally:
            self.close()
        if not 200 <= response.status < 300 or not text.strip():
            return Answer(response.status, response.headers, None)
        return Answer(response.status, response.headers, self._parse_json(text))

    def _parse_json(self, text: bytes) -> Any:
        try:
            return json.loads(text, parse_float=_decimal, parse_int=_integer, parse_constant=_refuse)
        except (ValueError, RecursionError, ArithmeticError) as error:
            raise ReadFailed(f"{self.endpoint} answers something that is not JSON; {_OTHER}") from error

    def _connect(self) -> _Bounded:
        """Open a connection. The addresses of the name are tried in order, all within the deadline."""
        refused: OSError | None = None
        for family, kind, protocol, _, address in socket.getaddrinfo(
            self.endpoint.host, self.endpoint.port, type=socket.SOCK_STREAM
        ):
            plain = socket.socket(family, kind, protocol)
            try:
                plain.settimeout(self._left())
                plain.connect(address)
                self._socket = plain
                if self.endpoint.tls is not None:
                    plain.settimeout(self._left())
                    self._socket = self.endpoint.tls.wrap_socket(plain, server_hostname=self.endpoint.host)
                return _Bounded(self._socket, self._deadline)
            except ssl.SSLError:
                plain.close()
                raise
            except OSError as error:
                plain.close()
                refused = error
        try:
            raise refused or OSError("the name has no address")
        finally:
            del refused  # the exception would keep itself and the TLS context alive until garbage collection

    def _left(self) -> float:
        return _left(self._deadline)

    def _redirect_path(self, location: str) -> str:
        parts = urlsplit(location)
        if parts.netloc and parts.netloc.lower() not in (
            str(self.endpoint).lower(),
            self.endpoint.host.lower(),
        ):
            raise ReadFailed(f"{self.endpoint} redirects to another host: not followed")
        if parts.scheme and (parts.scheme == "https") != (self.endpoint.tls is not None):
            raise ReadFailed(f"{self.endpoint} redirects to {parts.scheme}: not followed")
        return parts.path + (f"?{parts.query}" if parts.query else "")


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class _Bounded:
    """A socket for http.client, with one deadline and one byte limit instead of a timeout per receive."""

    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self._socket = connected
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        self._socket.settimeout(_left(self._deadline))
        self._socket.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return a reader with the deadline; `mode` is always rb."""
        return io.BufferedReader(_Receiver(self._socket, self._deadline))

    def close(self) -> None:
        """Do nothing: http.client closes before the body is read; the exchange closes the socket."""


class _Receiver(io.RawIOBase):
    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self._socket = connected
        self._deadline = deadline
        self._allowed = LARGEST_ANSWER_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._allowed <= 0:
            raise _TooLarge
        self._socket.settimeout(_left(self._deadline))
        received = self._socket.recv_into(memoryview(buffer)[: self._allowed])
        self._allowed -= received
        return received


def _decimal(text: str) -> Decimal:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError("too long for a number")
    return Decimal(text)


def _integer(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError("too long for a number")
    return int(text)


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


# ------------------------------------------------------------------------------------ credentials


def basic_header(name: str, secret: str) -> dict[str, str]:
    """Return the header of RFC 7617.

    It sends the secret in clear, so it is used only over TLS, or when a device supports nothing else.
    """
    return {"Authorization": "Basic " + b64encode(f"{name}:{secret}".encode()).decode()}


def digest_header(challenge: str, path: str, name: str, secret: str) -> dict[str, str] | None:
    """Return the header that answers a Digest challenge for GET: SHA-256 with qop=auth (RFC 7616).

    None for any other challenge.
    """
    if not challenge.lower().startswith("digest "):
        return None
    parameters = {key.lower(): quoted or plain for key, quoted, plain in _CHALLENGE.findall(challenge)}
    qualities = parameters.get("qop", "").replace(" ", "").split(",")
    if (
        parameters.get("algorithm", "").upper() != "SHA-256"
        or "auth" not in qualities
        or "nonce" not in parameters
    ):
        return None
    realm, nonce, fresh = parameters.get("realm", ""), parameters["nonce"], secrets.token_hex(8)
    who, what = _sha256(f"{name}:{realm}:{secret}"), _sha256(f"GET:{path}")
    response = _sha256(f"{who}:{nonce}:00000001:{fresh}:auth:{what}")
    opaque = f', opaque="{parameters["opaque"]}"' if "opaque" in parameters else ""
    return {
        "Authorization": f'Digest username="{name}", realm="{realm}", nonce="{nonce}", uri="{path}", '
        f'algorithm=SHA-256, qop=auth, nc=00000001, cnonce="{fresh}", response="{response}"{opaque}'
    }


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
