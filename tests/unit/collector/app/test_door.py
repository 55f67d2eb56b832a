# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The gateway's parts: its budget of bytes, the addresses where it listens, its messages to the collector."""

from __future__ import annotations

import asyncio
import errno
import gc
import io
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.waiting import PATIENCE_SECONDS
from veilleuse.collector.app.gateway.messages import (
    MAX_BODY_BYTES,
    MAX_HEAD_BYTES,
    GatewayCertificate,
    GatewayError,
    GatewaySetup,
    Reply,
    as_head,
    certificate_from,
    decode,
    encode,
    reasons_from,
    reply_from,
    setup_from,
)
from veilleuse.collector.app.gateway.relay import Budget, Relay, bind


def test_a_budget_lets_a_burst_through_and_then_its_rate():
    """At 1,000 bytes/s and a burst of 500, 500 bytes are free and the next 250 wait 0.25 s.
    After a pause the whole burst is available again."""
    now = [100.0]
    budget = Budget(1_000, 500, lambda: now[0])
    assert budget.take(500) == 0
    assert budget.take(250) == pytest.approx(0.25)
    assert budget.take(250) == pytest.approx(0.5)
    now[0] += 3600
    assert budget.take(500) == 0
    assert budget.take(1) > 0


@given(st.lists(st.tuples(st.integers(1, 5_000), st.floats(0, 2)), max_size=50))
def test_a_budget_is_never_overdrawn(takes):
    """For any requests at any times, what may be used by a moment is at most the burst plus the rate since
    the beginning."""
    now = [0.0]
    budget = Budget(1_000, 500, lambda: now[0])
    taken = 0
    for number, pause in takes:
        now[0] += pause
        taken += number
        usable_at = now[0] + budget.take(number)
        assert taken <= 500 + 1_000 * usable_at + 1e-6


def test_it_listens_on_all_addresses_of_a_name_with_one_port():
    """localhost is one or two addresses; all get the same port, and nobody else can bind it then."""
    bound = bind("localhost:0")
    try:
        assert len({each.getsockname()[1] for each in bound}) == 1
        with pytest.raises(OSError, match="in use"):
            bind(f"127.0.0.1:{bound[0].getsockname()[1]}") if bound[0].family == socket.AF_INET else bind(
                f"[::1]:{bound[0].getsockname()[1]}"
            )
    finally:
        for each in bound:
            each.close()


def test_an_address_of_another_machine_is_an_error():
    """No network has 192.0.2.1 (RFC 5737)."""
    with pytest.raises(OSError, match="assign"):
        bind("192.0.2.1:0")


def test_messages_come_back_as_they_went():
    """Head and body are decoded as they were encoded, and the private key is not in the message's repr."""
    certificate = GatewayCertificate("a key", "a chain")
    opening = GatewaySetup("127.0.0.1:0", ("/a/B",), certificate, "/somewhere/ca")
    reply = Reply("OK", "an é", (("veilleuse-reason", "x"),))
    assert setup_from(through(opening)[0]) == opening
    assert certificate_from(through(certificate)[0]) == certificate
    assert reply_from(through(reply, b"\n\x00")[0]) == reply
    assert through(reply, b"\n\x00")[1] == b"\n\x00"
    assert "a key" not in repr(opening)


def through(
    said: GatewaySetup | GatewayCertificate | Reply, body: bytes = b""
) -> tuple[dict[str, object], bytes]:
    """Encode the message and decode it again."""
    return decode(io.BytesIO(encode(as_head(said), body)))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"rubbish\n",
        b"[]\n",
        b"{}\n",
        b"[" * 60_000 + b"\n",
        b'{"body_bytes": 3}\nab',
        b'{"body_bytes": -1}\n',
        b'{"body_bytes": %d}\n' % (MAX_BODY_BYTES + 1),
        b'{"a": "' + b"x" * MAX_HEAD_BYTES + b'", "body_bytes": 0}\n',
    ],
)
def test_what_is_no_message(raw):
    """A cut, over-long or malformed message raises GatewayError."""
    with pytest.raises(GatewayError):
        decode(io.BytesIO(raw))


@pytest.mark.parametrize("read", [setup_from, certificate_from, reply_from, reasons_from])
@pytest.mark.parametrize("head", [{}, {"certificate": None, "trailing": 7, "reasons": [1]}])
def test_an_answer_that_makes_no_sense(read, head):
    """A head with missing or wrong fields raises GatewayError."""
    with pytest.raises(GatewayError):
        read(head)


class ScarceSocket(socket.socket):
    """A socket class at the limit of open files: no Unix socket can be made."""

    def __init__(self, family: int = -1, *rest: Any, **more: Any) -> None:
        if family == socket.AF_UNIX:
            raise OSError(errno.EMFILE, "Too many open files")
        super().__init__(family, *rest, **more)


def test_a_connection_without_a_second_descriptor_is_ended(tmp_path, monkeypatch):
    """EMFILE causes no traceback in the log: the caller's connection is closed."""
    failed: list[dict[str, Any]] = []

    async def call() -> bytes:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: failed.append(context))
        listeners = bind("127.0.0.1:0")
        relay = Relay(listeners, str(tmp_path / "nobody"))
        relay.start()
        with monkeypatch.context() as patched:
            patched.setattr(socket, "socket", ScarceSocket)
            reader, writer = await asyncio.open_connection(*listeners[0].getsockname())
            said = await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)
        writer.close()
        await relay.close()
        return said

    assert asyncio.run(call()) == b""
    gc.collect()
    assert not failed
