# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The server of the gateway, from start to end."""

from __future__ import annotations

import asyncio
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from veilleuse.collector.app.gateway.limits import CALLS_AT_WORK, CallLimits
from veilleuse.collector.app.gateway.messages import (
    MAX_BODY_BYTES,
    SECONDS,
    CertificateSource,
    GatewaySetup,
    ask,
    setup_from,
)
from veilleuse.collector.app.gateway.relay import Relay, bind
from veilleuse.collector.app.grpc_server import GRACE_SECONDS, OPTIONS
from veilleuse.collector.errors import AddressUnavailable
from veilleuse.collector.ipc import GATEWAY_INNER_FILE, socket_path


def run(data_dir: Path) -> int:
    """Serve until SIGTERM; return 0.

    Raises GatewayError without a collector, AddressUnavailable without the address.
    """
    return asyncio.run(_serve(data_dir))


async def _serve(data_dir: Path) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    setup = setup_from(ask(data_dir, {"op": "open"}, seconds=SECONDS)[0])
    listeners = _bound(data_dir, setup.address)
    address = f"{setup.address.rpartition(':')[0]}:{listeners[0].getsockname()[1]}"
    inner = data_dir / GATEWAY_INNER_FILE
    inner.unlink(missing_ok=True)  # left by a gateway that was killed
    with (
        socket_path(data_dir, GATEWAY_INNER_FILE) as path,
        ThreadPoolExecutor(CALLS_AT_WORK, thread_name_prefix="calls") as pool,
    ):
        relay = Relay(listeners, path)
        server = _server(
            data_dir, setup, CallLimits(partial(ask, data_dir), pool, relay.peer), f"unix:{path}"
        )
        await server.start()
        relay.start()
        ask(data_dir, {"op": "listening", "address": address}, seconds=SECONDS)
        await stop.wait()
        await server.stop(GRACE_SECONDS)
        await relay.close()
    inner.unlink(missing_ok=True)
    return 0


def _bound(data_dir: Path, address: str) -> list[socket.socket]:
    """Bind the port. Raises AddressUnavailable, after telling the collector."""
    try:
        return bind(address)
    except OSError as error:
        ask(data_dir, {"op": "unavailable"}, seconds=SECONDS)
        raise AddressUnavailable(f"cannot listen on {address}: {error.strerror or error}") from error


def _server(data_dir: Path, setup: GatewaySetup, limits: CallLimits, where: str) -> grpc.aio.Server:
    """Create the gRPC server behind the relay, not yet started."""
    options = (*OPTIONS, ("grpc.max_receive_message_length", MAX_BODY_BYTES))
    server = grpc.aio.server(handlers=[_Methods(setup.methods, limits)], options=options)
    showing = CertificateSource(setup, data_dir)
    server.add_secure_port(
        where, grpc.dynamic_ssl_server_credentials(showing.configuration(), showing.renew_certificate)
    )
    return server


class _Methods(grpc.GenericRpcHandler):
    """Handlers of raw bytes. As streams of one message, they let us limit the time for a request."""

    def __init__(self, methods: tuple[str, ...], limits: CallLimits) -> None:
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            method: grpc.stream_unary_rpc_method_handler(partial(limits.serve, method)) for method in methods
        }

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return a handler; None = UNIMPLEMENTED, which takes no place."""
        return self._handlers.get(handler_call_details.method)
