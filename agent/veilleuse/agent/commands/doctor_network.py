# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The part of `doctor` about the network: which routes lead to the collector, and why the others do not.

Each route is tried up to the TLS handshake. No certificate of this machine is shown, and nothing is sent.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPException, HTTPResponse
from typing import Any, Final

from veilleuse.agent.errors import AgentError
from veilleuse.agent.identity.join_file import read_join_file
from veilleuse.agent.identity.store import Identity
from veilleuse.agent.sending.routes import CONNECT_SECONDS, Route, explain_proxy_answer, routes_to
from veilleuse.agent.settings import AgentSettings, join_file_path
from veilleuse.wire.values import split_address

RECORDS: Final = "records"
ENROLMENT: Final = "enrolment"
_EXPIRED: Final = 10
_NOT_YET_VALID: Final = 9
_OTHER_HOST: Final = frozenset({62, 64})
"""X509_V_ERR codes of OpenSSL, x509_vfy.h."""
_ISSUER_CHARACTERS: Final = 200
_CLOCK: Final = "set the clock here or on the collector"


class _RouteFault(Exception):
    """The route does not lead to the collector; the text says why."""


def rows(settings: AgentSettings, identity: Identity | None) -> list[dict[str, Any]]:
    """Try each route of both services; an agent without identity uses its join file, if there is one.

    The keys are service, address, proxy (null = direct), answers, and text, which says why not.
    """
    if (known := _known(settings, identity)) is None:
        return []
    addresses, roots_pem = known
    try:
        tried = [
            (service, route) for service, text in addresses for route in routes_to(settings.collector, text)
        ]
    except AgentError as error:
        return [{"service": RECORDS, "address": None, "proxy": None, "answers": False, "text": str(error)}]
    with ThreadPoolExecutor(max_workers=len(tried)) as pool:
        faults = list(pool.map(lambda one: _fault(one[1], roots_pem), tried))
    return [
        {
            "service": service,
            "address": route.address,
            "proxy": route.proxy or None,
            "answers": not fault,
            "text": fault,
        }
        for (service, route), fault in zip(tried, faults, strict=True)
    ]


def warnings(tried: list[dict[str, Any]], *, enrolled: bool) -> Iterator[str]:
    """Yield a warning when no route leads to the service that the agent needs now."""
    needed = [row for row in tried if row["service"] == (RECORDS if enrolled else ENROLMENT)]
    if needed and not any(row["answers"] for row in needed):
        yield "no address of the collector answers: see Network"


def lines(tried: list[dict[str, Any]]) -> Iterator[str]:
    """Yield one line per route, in the order in which the agent tries them."""
    yield "Network, in the order of trying:"
    for row in tried:
        route = f"{row['address']}, {'by the proxy ' + row['proxy'] if row['proxy'] else 'direct'}"
        result = "answers, with the collector's certificate" if row["answers"] else row["text"]
        yield f"  {'+' if row['answers'] else '-'} {row['service']}: {route}: {result}"


def _known(
    settings: AgentSettings, identity: Identity | None
) -> tuple[tuple[tuple[str, str], tuple[str, str]], bytes] | None:
    """Return the addresses of both services and the CA; None when this machine knows no CA."""
    collector = settings.collector
    if identity is not None:
        address, enrolment = identity.place.address, identity.place.enrolment_address
        roots_pem = identity.roots_pem
    else:
        try:
            join = read_join_file(join_file_path(settings))
        except AgentError:
            return None
        address, enrolment, roots_pem = join.address, join.enrolment_address, join.ca_pem
    return (
        (RECORDS, collector.address or address),
        (ENROLMENT, collector.enrolment_address or enrolment),
    ), roots_pem


def _fault(route: Route, roots_pem: bytes) -> str:
    """Return why a route does not lead to the collector; empty when it does."""
    try:
        _try(route, roots_pem)
    except _RouteFault as fault:
        return str(fault)
    return ""


def _try(route: Route, roots_pem: bytes) -> None:
    """Make a TLS connection to the collector. Raises _RouteFault."""
    context = _trusting(roots_pem.decode("ascii"))
    context.set_alpn_protocols(["h2"])
    host, _ = split_address(route.address)
    try:
        with closing(_connection(route)) as plain, context.wrap_socket(plain, server_hostname=host) as secure:
            protocol = secure.selected_alpn_protocol()
    except ssl.SSLCertVerificationError as error:
        raise _RouteFault(_explain_certificate(error, route)) from error
    except TimeoutError as error:
        raise _RouteFault(f"no TLS within {CONNECT_SECONDS:g} s: is the port right?") from error
    except (ssl.SSLEOFError, ConnectionError) as error:
        raise _RouteFault("the connection is closed before TLS is set up: does the collector run?") from error
    except (ssl.SSLError, OSError) as error:
        raise _RouteFault(f"no TLS: is the port right? ({error})") from error
    if protocol != "h2":
        raise _RouteFault("TLS without HTTP/2 (ALPN h2): a server on the way ends TLS, it must pass it on")


def _connection(route: Route) -> socket.socket:
    """Connect to the address, by the proxy where there is one. Raises _RouteFault."""
    where = route.proxy or route.address
    host, port = split_address(where)
    who = "the proxy" if route.proxy else "it"
    try:
        connection = socket.create_connection((host, port), timeout=CONNECT_SECONDS)
    except socket.gaierror as error:
        raise _RouteFault(f"this machine finds no address of the name {host} ({error.strerror})") from error
    except TimeoutError as error:
        raise _RouteFault(
            f"{who} does not answer within {CONNECT_SECONDS:g} s: does a firewall stop it?"
        ) from error
    except ConnectionRefusedError as error:
        raise _RouteFault(f"{who} refuses the connection: nothing listens there, or a firewall") from error
    except OSError as error:
        raise _RouteFault(f"{who} cannot be reached: {error.strerror or error}") from error
    if route.proxy:
        try:
            _open_tunnel(connection, route)
        except BaseException:
            connection.close()
            raise
    return connection


def _open_tunnel(connection: socket.socket, route: Route) -> None:
    """Ask the proxy for a connection to the address. Raises _RouteFault."""
    authorization = f"Proxy-Authorization: {route.authorization}\r\n" if route.authorization else ""
    request = f"CONNECT {route.address} HTTP/1.1\r\nHost: {route.address}\r\n{authorization}\r\n"
    try:
        connection.sendall(request.encode("ascii"))
        answer = HTTPResponse(connection, method="CONNECT")
        answer.begin()
    except (OSError, HTTPException) as error:
        raise _RouteFault(f"the proxy is no HTTP proxy, or gives no answer ({error})") from error
    if answer.status != 200:
        offered = [value.partition(" ")[0] for value in answer.headers.get_all("Proxy-Authenticate", [])]
        other = f"; it offers {', '.join(offered)}" if offered and "Basic" not in offered else ""
        raise _RouteFault(explain_proxy_answer(route, answer.status) + other)


def _explain_certificate(error: ssl.SSLCertVerificationError, route: Route) -> str:
    if error.verify_code == _EXPIRED:
        return f"its certificate has expired by this machine's clock: {_CLOCK}"
    if error.verify_code == _NOT_YET_VALID:
        return f"its certificate is of the future by this machine's clock: {_CLOCK}"
    if error.verify_code in _OTHER_HOST:
        return "its certificate is for other names: add this one to pki.server_names on the collector"
    return (
        f"a certificate that is not the collector's, issued by {_issuer(route)}: TLS is inspected on the way (have "
        "this address exempted), or this is another server"
    )


def _issuer(route: Route) -> str:
    """Return the issuer of the certificate that is shown. It needs two more connections.

    Python decodes a certificate only when it is trusted. So the second one trusts this very certificate.
    """
    host, _ = split_address(route.address)
    try:
        first = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        first.check_hostname, first.verify_mode = False, ssl.CERT_NONE
        with closing(_connection(route)) as plain, first.wrap_socket(plain, server_hostname=host) as secure:
            shown = secure.getpeercert(binary_form=True)
        second = _trusting(shown or b"")
        second.check_hostname = False
        with closing(_connection(route)) as plain, second.wrap_socket(plain, server_hostname=host) as secure:
            found: Any = (secure.getpeercert() or {}).get("issuer", ())
    except (OSError, ValueError, _RouteFault):
        return "an unknown issuer"
    names = [f"{key}={value}" for part in found for key, value in part]
    return ascii(", ".join(names)[:_ISSUER_CHARACTERS])


def _trusting(certificates: str | bytes) -> ssl.SSLContext:
    """Return a context with these certificates as trust anchors, checked as gRPC checks them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=certificates)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
