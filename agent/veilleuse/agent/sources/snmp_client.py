# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A blocking client for GET over SNMP v2c or v3, with a bounded time.

The library is pysnmp (extra `snmp`), imported when a client is built. pysnmp supports asyncio only: each
client has its own event loop, which runs only during a request. The engine is called directly, not through
`hlapi`: that module looks every OID up in MIBs. It also builds a compiler for them when pysmi is installed,
which may fetch files.
"""

from __future__ import annotations

import asyncio
import importlib
import socket
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

DEFAULT_PORT: Final = 161
_TARGET, _PARAMETERS, _SECURITY = "meter", "parameters", "security"
"""Names in the tables of the engine."""
_V2C: Final = 1
_CENTISECONDS_PER_SECOND: Final = 100
TRIES: Final = 2
"""Number of tries, because UDP sometimes loses a packet."""
AUTHENTICATION: Final = {
    "sha": "USM_AUTH_HMAC96_SHA",
    "sha224": "USM_AUTH_HMAC128_SHA224",
    "sha256": "USM_AUTH_HMAC192_SHA256",
    "sha384": "USM_AUTH_HMAC256_SHA384",
    "sha512": "USM_AUTH_HMAC384_SHA512",
}
"""Protocols of RFC 3414 and RFC 7860, without MD5 → pysnmp's name."""
PRIVACY: Final = {
    "aes128": "USM_PRIV_CFB128_AES",
    "aes192": "USM_PRIV_CFB192_AES",
    "aes256": "USM_PRIV_CFB256_AES",
}
"""Protocols of RFC 3826 and its extension as used by Cisco and most makers, without DES → pysnmp's name."""


class Community(NamedTuple):
    """v2c: a word that everybody on the network can read."""

    community: str


class User(NamedTuple):
    """v3, authPriv."""

    name: str
    authentication_secret: str
    """Secret of at least 8 characters: RFC 3414, §11.2."""
    privacy_secret: str
    authentication: str = "sha"
    privacy: str = "aes128"
    context: str = ""
    """contextName of RFC 3411; most devices have only the empty one."""


class Value(NamedTuple):
    """The answer for one OID."""

    number: int | None
    """The integer; None when the value is of another type."""
    problem: str = ""
    """Reason: noSuchInstance, or the type of the value."""


class Silent(Exception):
    """No answer in time. With v2c a wrong community has the same effect."""


class SnmpAccessError(Exception):
    """The device answered that it refuses access."""


class SnmpResponseError(Exception):
    """An error of the device, or an answer to another request."""


_REJECTIONS: Final = (
    "UnknownUserName",
    "UnknownSecurityName",
    "WrongDigest",
    "AuthenticationFailure",
    "AuthenticationError",
    "UnsupportedSecurityLevel",
    "DecryptionError",
    "UnknownCommunityName",
)
"""Classes of pysnmp.proto.errind."""
_INTEGERS: Final = ("Integer32", "Integer", "Unsigned32", "Gauge32", "Counter32", "Counter64")
_REFUSING: Final = ("noAccess", "authorizationError")
"""Values of error-status in RFC 3416."""


class Client:
    """Client of one device. Raises ImportError at construction when pysnmp is missing."""

    def __init__(self, host: str, port: int, timeout_seconds: float, security: Community | User) -> None:
        self._config: Any = importlib.import_module("pysnmp.entity.config")
        self._commands: Any = importlib.import_module("pysnmp.entity.rfc3413.cmdgen").GetCommandGenerator()
        self._engine: Any = importlib.import_module("pysnmp.entity.engine").SnmpEngine()
        self._host, self._port, self._timeout_seconds = host, port, timeout_seconds
        self._context = security.context.encode() if isinstance(security, User) else b""
        self._set_security(security)
        self._loop = asyncio.new_event_loop()
        self._reached: tuple[socket.AddressFamily, str] | None = None
        self._families: set[socket.AddressFamily] = set()

    def get(self, oids: Sequence[str]) -> tuple[Value, ...]:
        """Send one GET and return one value per OID.

        Raises Silent, SnmpAccessError, SnmpResponseError, OSError (a name that does not resolve).
        """
        question = asyncio.wait_for(self._get(oids), self._timeout_seconds)
        try:
            return self._loop.run_until_complete(question)
        except TimeoutError as error:
            raise Silent("no answer in time") from error

    def close(self) -> None:
        """Close the sockets and the loop; may be called twice."""
        if not self._loop.is_closed():
            self._loop.run_until_complete(self._end())
            self._loop.close()

    async def _end(self) -> None:
        if self._families:
            self._engine.close_dispatcher()
        for _ in range(3):  # cancelled tasks end, and the socket closes, in the next turns of the loop
            await asyncio.sleep(0)

    async def _get(self, oids: Sequence[str]) -> tuple[Value, ...]:
        await self._set_address()
        answer: asyncio.Future[tuple[Any, Any, Any]] = self._loop.create_future()
        asked = [(tuple(map(int, oid.split("."))), None) for oid in oids]
        self._commands.send_varbinds(self._engine, _TARGET, None, self._context, asked, _store_answer, answer)
        indication, status, varbinds = await answer
        _raise_error(indication, status)
        if [str(name) for name, _ in varbinds] != list(oids):
            raise SnmpResponseError("the answer is about other objects than those asked")
        return tuple(_value(value) for _, value in varbinds)

    async def _set_address(self) -> None:
        """Resolve the address again: a device may have moved since the last request."""
        found = await self._loop.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
        family, host = found[0][0], str(found[0][4][0])
        if (family, host) == self._reached:
            return
        name = "udp6" if family == socket.AF_INET6 else "udp"
        carrier: Any = importlib.import_module(f"pysnmp.carrier.asyncio.dgram.{name}")
        if family not in self._families:
            kind = carrier.Udp6AsyncioTransport if name == "udp6" else carrier.UdpAsyncioTransport
            self._config.add_transport(
                self._engine, carrier.DOMAIN_NAME, kind(loop=self._loop).open_client_mode()
            )
            self._families.add(family)
        self._config.add_target_address(
            self._engine,
            _TARGET,
            carrier.DOMAIN_NAME,
            (host, self._port),
            _PARAMETERS,
            self._timeout_seconds / TRIES * _CENTISECONDS_PER_SECOND,
            TRIES - 1,
        )
        self._reached = (family, host)

    def _set_security(self, security: Community | User) -> None:
        config = self._config
        if isinstance(security, Community):
            config.add_v1_system(self._engine, _SECURITY, security.community)
            config.add_target_parameters(self._engine, _PARAMETERS, _SECURITY, "noAuthNoPriv", _V2C)
            return
        config.add_v3_user(
            self._engine,
            security.name,
            getattr(config, AUTHENTICATION[security.authentication]),
            security.authentication_secret,
            getattr(config, PRIVACY[security.privacy]),
            security.privacy_secret,
        )
        config.add_target_parameters(self._engine, _PARAMETERS, security.name, "authPriv")


def _store_answer(
    engine: object,
    handle: object,
    indication: object,
    status: object,
    index: object,
    varbinds: object,
    answer: Any,
) -> None:
    """Store the answer when pysnmp calls back; after a timeout nothing waits for it."""
    del engine, handle, index
    if not answer.done():
        answer.set_result((indication, status, varbinds))


def _raise_error(indication: object, status: Any) -> None:
    """Raise the error in pysnmp's first two results; return when there is none."""
    if indication:
        name = type(indication).__name__
        if name == "RequestTimedOut":
            raise Silent("no answer in time")
        if name in _REJECTIONS:
            raise SnmpAccessError(str(indication))
        raise SnmpResponseError(str(indication))
    if status:
        word = status.prettyPrint()
        raise SnmpAccessError(word) if word in _REFUSING else SnmpResponseError(f"the device answered {word}")


def _value(value: Any) -> Value:
    """Return an integer of any of SMIv2's types; any other type is a problem, never a number."""
    kind = type(value).__name__
    if kind in _INTEGERS:
        return Value(int(value))
    return Value(None, kind[:1].lower() + kind[1:] if kind.startswith(("NoSuch", "EndOf")) else kind)
