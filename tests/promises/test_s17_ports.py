# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""S17: a scanner finds only TLS 1.3 on the ports of a real collector; none of them is plain off loopback."""

from __future__ import annotations

import re
import socket
import subprocess
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import psutil
import pytest

from tests.promises.support.served import where
from tests.support.peers import peer
from tests.support.stack import Stack
from tests.support.waiting import PATIENCE_SECONDS

VERSIONS = {("ssl", "2"), ("ssl", "3"), ("tls", "1.0"), ("tls", "1.1"), ("tls", "1.2"), ("tls", "1.3")}


def scan(port: tuple[str, int]) -> tuple[set[str], set[str]]:
    """Return (versions accepted, cipher suites accepted), as sslscan finds them."""
    command = [str(peer("sslscan")), "--no-colour", "--xml=-", "--no-heartbleed", "{}:{}".format(*port)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    document = Xml.fromstring(done.stdout[done.stdout.index("<?xml") :].encode())
    tested = {(each.get("type", ""), each.get("version", "")) for each in document.iter("protocol")}
    assert tested == VERSIONS, "sslscan did not look at all of them"
    enabled = {
        f"{each.get('type')} {each.get('version')}"
        for each in document.iter("protocol")
        if each.get("enabled") == "1"
    }
    suites = {f"{each.get('sslversion')} {each.get('cipher')}" for each in document.iter("cipher")}
    return enabled, suites


@pytest.mark.long
@pytest.mark.promise("S17")
def test_tls_1_3_alone_on_both_ports(tmp_path, figure):
    """sslscan finds TLS 1.3 and its suites, nothing older, on :8641 and :8642 of `veilleuse serve`."""
    with Stack(tmp_path) as stack:
        stack.start_collector()
        found = [scan(where(stack, setting)) for setting in ("GRPC__ADDRESS", "GRPC__ENROLMENT_ADDRESS")]
    versions = sorted(set().union(*(enabled for enabled, _ in found)))
    suites = sorted(set().union(*(suites for _, suites in found)))
    figure(
        f"{', '.join(versions).upper() or 'nothing'} found by sslscan on both ports, {len(suites)} cipher suites"
    )
    for enabled, accepted in found:
        assert enabled == {"tls 1.3"}
        assert accepted
        assert all(suite.startswith("TLSv1.3 TLS_") for suite in accepted)


@pytest.mark.long
@pytest.mark.promise("S17")
def test_tls_1_2_by_option_alone(tmp_path):
    """`grpc.tls_minimum = "1.2"` adds only TLS 1.2 with forward secrecy and authenticated encryption."""
    with Stack(tmp_path, {"VEILLEUSE__GRPC__TLS_MINIMUM": "1.2"}) as stack:
        stack.start_collector()
        enabled, suites = scan(where(stack, "GRPC__ENROLMENT_ADDRESS"))
    assert enabled == {"tls 1.2", "tls 1.3"}
    older = [suite for suite in suites if suite.startswith("TLSv1.2")]
    assert older
    assert all(re.search(r"ECDHE-.*(GCM|CHACHA20)", suite) for suite in older), older


def listened(process: psutil.Process) -> list[Any]:
    """Return the addresses where a process listens; one that has ended meanwhile listens nowhere."""
    try:
        found = process.net_connections("inet")
    except psutil.NoSuchProcess:
        return []
    return [each.laddr for each in found if each.status == psutil.CONN_LISTEN]


@pytest.mark.promise("S17")
def test_no_port_is_plain_off_loopback(tmp_path, figure):
    """Every port is on loopback by default, gRPC accepts TLS alone, and HTTP off loopback needs a token."""
    with Stack(tmp_path) as stack:
        process = psutil.Process(stack.start_collector().pid)
        family = [process, *process.children(recursive=True)]
        listening = [address for one in family for address in listened(one)]
        plain = [answers_plainly(where(stack, f"GRPC__{word}")) for word in ("ADDRESS", "ENROLMENT_ADDRESS")]
    assert len(listening) >= 3
    assert all(ip_address(address.ip.removeprefix("::ffff:")).is_loopback for address in listening), listening
    assert plain == [b"", b""]
    refused = off_loopback(tmp_path)
    figure(f"{len(listening)} ports, all on loopback, `http.address` off loopback without a token: {refused}")
    assert refused == "refused"


def answers_plainly(port: tuple[str, int]) -> bytes:
    """Return the answers to plain HTTP/2 and HTTP/1.1; a TLS alert counts as none."""
    answers = b""
    for hello in (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ):
        with socket.create_connection(port, PATIENCE_SECONDS) as connection:
            connection.sendall(hello)
            try:
                while piece := connection.recv(4096):
                    answers += piece
            except OSError:
                pass
    alert = b"\x15\x03"
    return b"" if not answers or answers.startswith(alert) else answers


def off_loopback(folder: Path) -> str:
    """Return "served" or "refused": http.address on every interface without http.metrics_token_file."""
    with Stack(folder, {}) as stack:
        port = stack.environment["VEILLEUSE__HTTP__ADDRESS"].rpartition(":")[2]
        environment = {"VEILLEUSE__HTTP__ADDRESS": f"0.0.0.0:{port}"}
        process = stack.start("veilleuse", "serve", **environment)
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            return "served"
        said = (folder / "veilleuse.log").read_text()
    assert process.returncode == 2
    assert f"http.address 0.0.0.0:{port} is not on loopback: set http.metrics_token_file" in said, said
    return "refused"
