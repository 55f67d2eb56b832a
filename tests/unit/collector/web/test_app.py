# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the service: ports, the web child, logs and the messages to the service manager."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tests.support import clock
from tests.support.machines import certificate_of, served, settings_in
from tests.support.ports import free_port, free_ports
from tests.support.processes import HANGS
from tests.support.waiting import PATIENCE_SECONDS, has_ended, until
from veilleuse.collector.app import child as child_module
from veilleuse.collector.app import grpc_server
from veilleuse.collector.app.child import Child, run_command
from veilleuse.collector.app.data_directory import initialise, open_collector
from veilleuse.collector.app.grpc_server import listen
from veilleuse.collector.app.service import notify
from veilleuse.collector.enrolment.ca import Authority, create
from veilleuse.collector.errors import AddressUnavailable, ConfigurationError, DataDirectoryError
from veilleuse.collector.logs import FactsFormatter, RepeatFilter
from veilleuse.collector.settings import Pki, read_settings, settings_environment
from veilleuse.collector.web.problems import choose_language


@pytest.mark.parametrize("name", ["grpc.address", "grpc.enrolment_address"])
def test_a_port_in_use_is_one_clear_line(tmp_path, capfd, name):
    """The error names the address and the setting, gRPC logs nothing of it, and no port stays open."""
    with socket.create_server(("127.0.0.1", free_port())) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        settings = settings_in(tmp_path, **{name: address})
        with (
            pytest.raises(AddressUnavailable, match=f"cannot listen on {address} .* set {name}"),
            served(settings),
        ):
            pass
    assert "add_port" not in capfd.readouterr().err
    with served(settings):
        pass


def test_a_command_that_ended_as_the_collector_stopped_leaves_no_open_pipe(monkeypatch):
    """Its output was neither read nor closed: one file descriptor for each such stop."""
    stopping, ours = threading.Event(), psutil.Process()
    before, known = ours.num_fds(), set(ours.children())

    def is_set() -> bool:
        (command,) = set(ours.children()) - known
        until(lambda: has_ended(command))
        return True

    monkeypatch.setattr(stopping, "is_set", is_set)
    with pytest.raises(OSError, match="it was stopped"):
        run_command(["true"], {"PATH": os.defpath}, stopping, PATIENCE_SECONDS)
    assert ours.num_fds() == before


def test_one_process_per_data_directory(tmp_path):
    """A second process gets the pid of the first (R21)."""
    settings = settings_in(tmp_path)
    with (
        served(settings),
        pytest.raises(DataDirectoryError, match=f"in use by pid {os.getpid()}"),
        open_collector(settings),
    ):
        pass


def test_a_lost_part_is_never_made_anew_by_itself(tmp_path):
    """A missing database is made empty only with --new-data; a missing authority is never made again.
    (test_cut covers an interrupted init.)"""
    settings = settings_in(tmp_path)
    first = initialise(settings)
    with pytest.raises(DataDirectoryError, match="--if-missing"):
        initialise(settings)
    (settings.data_dir / "data.db").unlink()
    with pytest.raises(
        DataDirectoryError, match=r"has lost data\.db: restore a backup .* 'veilleuse init --new-data'"
    ):
        initialise(settings)
    assert initialise(settings, new_data=True).ca_sha256 == first.ca_sha256
    (settings.data_dir / "ca").rename(tmp_path / "away")
    with pytest.raises(DataDirectoryError, match=r"has data\.db but no ca: restore a backup"):
        initialise(settings)


def test_a_directory_of_somebody_else_is_left_alone(tmp_path):
    """`data_dir = "/tmp"` must not close /tmp to everybody: the error names the other files."""
    settings = settings_in(tmp_path)
    settings.data_dir.mkdir()
    settings.data_dir.chmod(0o755)
    (settings.data_dir / "thesis.odt").touch()
    with pytest.raises(DataDirectoryError, match=r"holds other files \(thesis\.odt\)"):
        initialise(settings)
    assert settings.data_dir.stat().st_mode & 0o777 == 0o755
    (settings.data_dir / "thesis.odt").rename(settings.data_dir / "lost+found")
    initialise(settings)
    assert settings.data_dir.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("grpc.address", "127.0.0.1"),
        ("grpc.address", "127.0.0.1:99999"),
        ("grpc.enrolment_address", "unix:/run/x:1"),
        ("grpc.advertised_address", "collector.example.org"),
        ("grpc.advertised_enrolment_address", "0.0.0.0:8642"),
        ("http.address", "::1:8640"),
        ("pki.server_names", ""),
        ("pki.server_names", "coll\u00e8ge.example.org"),
        ("pki.server_names", "[::1]"),
        ("pki.server_names", "https://collector.example.org"),
    ],
)
def test_addresses_and_names_are_checked_as_they_are_read(tmp_path, setting, value):
    """Otherwise gRPC would listen on port 443 or on a file, or the certificate would fit no name."""
    with pytest.raises(ConfigurationError, match=f"'{setting}'"):
        settings_in(tmp_path, **{setting: value})


def test_tokens_name_the_ports_that_were_got(tmp_path):
    """With port 0 the join file has the real port."""
    with served(settings_in(tmp_path)) as running:
        join = running.token()
        assert join["address"] == running.collector.addresses.telemetry
        assert not join["address"].endswith(":0")


def test_settings_survive_the_environment(tmp_path):
    """A child reads the same settings, with every kind of value."""
    settings = settings_in(
        tmp_path, **{"pki.server_names": "a.example,192.0.2.1", "http.hosts_metrics": "true"}
    )
    assert read_settings(None, settings_environment(settings)) == settings


def test_child_is_restarted_and_ended(monkeypatch, tmp_path):
    """A child that dies is started again after a delay, and stop ends it."""
    monkeypatch.setattr(child_module, "BACKOFF_SECONDS", (0.05, 0.1))
    counter = tmp_path / "starts"
    program = f"open({str(counter)!r}, 'a').write('x')\n{HANGS}"
    child = Child("test", [sys.executable, "-c", program], dict(os.environ))
    child.start()
    until(lambda: counter.exists() and counter.read_text() == "x")
    first = child.pid
    assert first is not None
    os.kill(first, 9)
    until(lambda: counter.read_text() == "xx")
    assert child.pid not in (None, first)
    child.stop()
    assert child.pid is None


def test_child_that_cannot_start_is_tried_again(monkeypatch, caplog):
    """A missing program gives a log line, and is tried again."""
    monkeypatch.setattr(child_module, "BACKOFF_SECONDS", (0.02,))
    child = Child("test", ["/nowhere/program"], {})
    child.start()
    until(lambda: sum("not started" in record.message for record in caplog.records) >= 2)
    child.stop()


def test_log_lines(monkeypatch):
    """A line has the event, then its facts as JSON; an equal line is dropped for 20 s."""
    formatter, moments = FactsFormatter(), list[float]()
    monkeypatch.setattr("veilleuse.collector.logs.time", SimpleNamespace(monotonic=moments.pop))
    record = logging.makeLogRecord(
        {"msg": "agent enrolled", "levelname": "INFO", "levelno": 20, "site": "Lyon", "uses": 2}
    )
    assert formatter.format(record).endswith('Z INFO agent enrolled site="Lyon" uses=2')
    repeats = RepeatFilter()
    other = logging.makeLogRecord({"msg": "agent enrolled", "levelno": 20, "site": "Bron"})
    said = [(record, 0.0), (record, 0.0), (other, 0.0), (record, 19.0), (record, 20.5), (record, 39.0)]
    moments[:] = [moment for _, moment in reversed(said)]
    assert [repeats.filter(each) for each, _ in said] == [True, False, True, False, True, False]


def test_service_manager_is_told(monkeypatch, tmp_path):
    """READY=1 is one datagram; nothing happens without a listener or a socket name."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "n"))
        notify("READY=1")
        assert manager.recv(64) == b"READY=1"
    (tmp_path / "n").unlink()
    notify("STOPPING=1")
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("STOPPING=1")


def test_server_certificate_changes_under_a_running_server(tmp_path, monkeypatch):
    """A process that runs for months shows a new certificate before the old one ends, without a restart."""
    monkeypatch.setattr(grpc_server, "CHECK_SECONDS", 0.0)
    now = [clock.now()]
    create(tmp_path, now[0])
    authority = Authority(tmp_path, Pki(), lambda: now[0])
    listener = listen("127.0.0.1:0", "grpc.address", grpc_server.ServerCertificate(authority))
    listener.server.start()
    try:
        first = certificate_of(listener.address)
        assert certificate_of(listener.address) == first
        now[0] += timedelta(days=70)
        second = certificate_of(listener.address)
        assert second != first
        now[0] += timedelta(days=70)
        (tmp_path / "ca").rename(
            tmp_path / "gone"
        )  # a faulty disk: the handshake uses the certificate in memory
        assert certificate_of(listener.address) == second
    finally:
        listener.server.stop(0).wait()


def test_free_ports_are_free_and_nobody_gets_them_by_chance():
    """The tests' helper gives each port once, and none that the kernel gives to others."""
    ports = free_ports(50)
    assert len(set(ports)) == 50
    for port in ports:
        with socket.create_server(("127.0.0.1", port)):
            assert port not in free_ports(3)
    given = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    if given == ["32768", "60999"]:  # Linux's default
        assert max(ports) < 32_768


@pytest.mark.parametrize(
    ("asked", "accept", "expected"),
    [
        (None, "", "fr"),
        ("en", "fr", "en"),
        ("de", "en", "en"),
        (None, "en-GB,en;q=0.8,fr;q=0.3", "en"),
        (None, "de,fr;q=0.4,en;q=0.3", "fr"),
        (None, "en;q=nonsense,fr;q=0.1", "fr"),
        (None, "*", "fr"),
        (None, "en;q=0", "fr"),
    ],
)
def test_language(asked, accept, expected):
    """The language is the requested one, else the browser's preference, else French."""
    assert choose_language(asked, accept) == expected
