# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the administration socket and its operations."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from tests.support.machines import settings_in
from tests.support.pushes import enrol
from tests.support.waiting import PATIENCE_SECONDS
from veilleuse.collector import clock
from veilleuse.collector.admin.operations import MAX_CONNECTIONS, OPERATIONS, AdminServer
from veilleuse.collector.app.data_directory import Collector, initialise, open_collector
from veilleuse.collector.errors import AdminError, UnknownZone, UsageError
from veilleuse.collector.ipc import MAX_REQUEST_BYTES, SOCKET_FILE, CollectorNotRunning, ask, socket_path

ORDER = {"org_entity": "DSI", "site": "Lyon", "population": "server"}


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Collector]:
    """Open a collector with its socket, without ports."""
    settings = settings_in(tmp_path)
    initialise(settings)
    with open_collector(settings) as collector:
        server = AdminServer(settings.data_dir, collector.operations)
        yield collector
        server.close()


def raw(data_dir: Path, request: bytes) -> bytes:
    """Return the socket's answer to these bytes."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_SECONDS)
        with socket_path(data_dir, SOCKET_FILE) as path:
            connection.connect(path)
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


def test_socket_is_private_and_goes_away(tmp_path):
    """The socket has mode 0600 and is removed afterwards; a call then says what to start."""
    settings = settings_in(tmp_path)
    initialise(settings)
    with open_collector(settings) as collector:
        server = AdminServer(settings.data_dir, collector.operations)
        path = settings.data_dir / SOCKET_FILE
        assert path.stat().st_mode & 0o777 == 0o600
        assert ask(settings.data_dir, "ping")["version"]
        server.close()
        assert not path.exists()
        with pytest.raises(CollectorNotRunning, match="veilleuse serve"):
            ask(settings.data_dir, "ping")
        path.touch()  # left by a dead process
        AdminServer(settings.data_dir, collector.operations).close()


def test_a_long_path_is_no_obstacle(tmp_path):
    """The kernel allows 108 bytes; data directories may be deeper."""
    deep = tmp_path / ("x" * 120)
    settings = settings_in(deep)
    initialise(settings)
    with open_collector(settings) as collector:
        server = AdminServer(settings.data_dir, collector.operations)
        assert ask(settings.data_dir, "ping")["pid"]
        server.close()


def test_health_is_json(opened):
    """Health holds counters, the ends of the certificates and the process id."""
    health = ask(opened.settings.data_dir, "health")
    assert set(health["certificates"]) == {"root", "intermediate", "server"}
    assert health["queue_pushes"] == 0
    assert health["pid"]


@pytest.mark.parametrize(
    ("request_bytes", "error"),
    [
        (b"rubbish\n", "not JSON"),
        (b"[]\n", "JSON object"),
        (b"{}\n", "JSON object"),
        (b'{"op": "explode"}\n', "unknown operation"),
        (b'{"op": "ping", "extra": 1}\n', "wrong arguments"),
        (b'{"op": "token_create", "population": "server"}\n', "wrong arguments"),
        (b'{"op": "host_status", "host": "ab", "status": "happy"}\n', "wrong arguments"),
        (b"{" + b" " * MAX_REQUEST_BYTES + b"\n", "at most"),
        (b"[" * 60_000 + b"\n", "not JSON"),
        (b'{"op": "token_revoke", "token_id": 99999999999999999999}\n', "wrong arguments"),
        (b'{"op": "site_put", "site": null}\n', "wrong arguments"),
        (b'{"op": "site_put", "site": ""}\n', "printable"),
        (b'{"op": "site_put", "site": "a\\nb"}\n', "printable"),
        (b'{"op": "site_put", "site": "a\\u202eb"}\n', "printable"),
        (
            b'{"op": "token_create", "org_entity": "a", "site": "b", "population": "server", "uses": 1.5}\n',
            "whole number",
        ),
    ],
)
def test_bad_requests_are_usage_errors(opened, request_bytes, error):
    """A bad request gets one line and exit code 2; the socket continues."""
    answer = json.loads(raw(opened.settings.data_dir, request_bytes).splitlines()[0])
    assert (answer["ok"], answer["exit_code"]) == (False, 2)
    assert error in answer["error"]
    assert ask(opened.settings.data_dir, "ping")


def test_what_nobody_foresaw_is_one_line(opened, caplog):
    """The traceback is only in the log."""
    answer = json.loads(raw(opened.settings.data_dir, b'{"op": "site_put", "site": "x", "zone": 7}\n'))
    assert (answer["ok"], answer["exit_code"]) == (False, 1)
    assert "its log says why" in answer["error"]
    assert "administration call failed" in caplog.text


def test_a_name_is_one_name_however_it_was_typed(opened):
    """S16: an é of one character and an é of two give one name."""
    composed, apart = "Coll\u00e8ge", "Colle\u0300ge"
    opened.operations.perform("site_put", {"site": apart})
    opened.operations.perform("token_create", ORDER | {"site": composed, "org_entity": apart})
    assert [site.site for site in opened.issuing.commit(opened.store.registry.sites)] == [composed]
    assert [token["org_entity"] for token in opened.operations.perform("token_list", {})] == [composed]


def test_several_requests_on_one_connection(opened):
    """Each line gets an answer, in order."""
    answers = raw(opened.settings.data_dir, b'{"op": "ping"}\n{"op": "flush"}\n').splitlines()
    assert [json.loads(answer)["ok"] for answer in answers] == [True, True]


def test_connections_are_bounded(opened):
    """Connections above 32 are closed; earlier ones are served."""
    data_dir = opened.settings.data_dir
    with socket_path(data_dir, SOCKET_FILE) as path:
        held = [socket.socket(socket.AF_UNIX) for _ in range(MAX_CONNECTIONS)]
        for connection in held:
            connection.connect(path)
        with pytest.raises(AdminError):
            ask(data_dir, "ping")
        held[0].sendall(b'{"op": "ping"}\n')
        assert held[0].recv(65536)
        for connection in held:
            connection.close()


def test_token_and_site(opened):
    """An undeclared site is made with the default timetable; the token's text is in the join file only."""
    made = opened.operations.perform("token_create", ORDER | {"time_zone": "Indian/Reunion"})
    assert set(made["join"]) == {
        "version",
        "address",
        "enrolment_address",
        "ca_pem",
        "ca_sha256",
        "org_entity",
        "site",
        "population",
        "token",
        "fleet_key",
    }
    site = opened.issuing.commit(lambda: opened.store.registry.site("Lyon"))
    assert (site.zone, site.time_zone) == ("FR", "Indian/Reunion")
    assert '"time_zone":"Indian/Reunion"' in site.calendar_json
    listed = json.dumps(ask(opened.settings.data_dir, "token_list"))
    assert made["join"]["token"] not in listed
    files = b"".join(path.read_bytes() for path in opened.settings.data_dir.glob("*.db*"))
    assert made["join"]["token"].encode() not in files


def test_a_site_is_not_changed_by_a_token(opened):
    """A token with the site's zones, or none, is accepted; other zones are refused."""
    opened.operations.perform("token_create", ORDER)
    opened.operations.perform("token_create", ORDER | {"zone": "FR"})
    with pytest.raises(UsageError, match="exists with zone FR"):
        opened.operations.perform("token_create", ORDER | {"zone": "DE"})


@pytest.fixture
def in_2026(monkeypatch):
    """Let it be a year for which the zone DE has a factor."""
    monkeypatch.setattr(clock, "today", lambda *_: date(2026, 1, 1))


def test_site_put_changes_zones(opened, in_2026):
    """The timetable follows a new time zone; zones that are not given stay."""
    opened.operations.perform("site_put", {"site": "Lyon"})
    assert opened.operations.perform("site_put", {"site": "Lyon", "zone": "DE"}) == {
        "site": "Lyon",
        "zone": "DE",
        "time_zone": "Europe/Paris",
    }
    opened.operations.perform("site_put", {"site": "Lyon", "time_zone": "Europe/Berlin"})
    site = opened.issuing.commit(lambda: opened.store.registry.site("Lyon"))
    assert site.zone == "DE"
    assert '"time_zone":"Europe/Berlin"' in site.calendar_json


def test_the_civil_day_of_a_site_with_machines_stays(opened, in_2026):
    """Records are filed by that day: another time zone would move energy to other days."""
    opened.operations.perform("token_create", ORDER)
    opened.issuing.commit(lambda: enrol(opened.store.registry, site_name="Lyon"))
    with pytest.raises(UsageError, match=r"site 'Lyon' has machines: .* declare another site"):
        opened.operations.perform("site_put", {"site": "Lyon", "time_zone": "UTC"})
    assert opened.operations.perform("site_put", {"site": "Lyon", "zone": "DE"})["zone"] == "DE"


def test_zones_are_checked(opened):
    """A site without factors or without a valid time zone is refused before records come."""
    with pytest.raises(UnknownZone):
        opened.operations.perform("site_put", {"site": "Atlantis", "zone": "ATLANTIS"})
    with pytest.raises(UsageError, match="time zone"):
        opened.operations.perform("site_put", {"site": "Atlantis", "time_zone": "Sea/Bottom"})
    assert opened.issuing.commit(opened.store.registry.sites) == ()


def test_nobody_can_connect_to_a_wildcard(tmp_path):
    """Agents never get 0.0.0.0: the error names the setting."""
    settings = settings_in(tmp_path, **{"grpc.address": "0.0.0.0:8641"})
    initialise(settings)
    with open_collector(settings) as collector, pytest.raises(UsageError, match=r"grpc\.advertised_address"):
        collector.operations.perform("token_create", ORDER)


@pytest.mark.parametrize("names", ["localhost", "*.org"])
def test_nobody_would_believe_a_collector_of_another_name(tmp_path, names):
    """The advertised name must be in the certificate, or else every agent would refuse the collector."""
    advertised = {"grpc.advertised_address": "collector.example.org:8641", "pki.server_names": names}
    settings = settings_in(tmp_path, **advertised)
    initialise(settings)
    with open_collector(settings) as collector, pytest.raises(UsageError, match=r"pki\.server_names"):
        collector.operations.perform("token_create", ORDER)


@pytest.mark.parametrize("names", ["Collector.example.org, 127.0.0.1", "*.example.org, 127.0.0.1"])
def test_the_names_of_the_certificate_are_matched_as_tls_does(tmp_path, names):
    """Case is ignored, and a wildcard matches one label."""
    advertised = {"grpc.advertised_address": "collector.example.org:8641", "pki.server_names": names}
    settings = settings_in(tmp_path, **advertised)
    initialise(settings)
    with open_collector(settings) as collector:
        join = collector.operations.perform("token_create", ORDER)["join"]
    assert join["address"] == "collector.example.org:8641"


def test_a_join_file_names_every_advertised_address(tmp_path):
    """Each host must be in the certificate; the first address is where agents of 0.2 look for it."""
    both = "inner.example.org:8641, agents.example.org:443"
    advertised = {"grpc.advertised_address": both, "pki.server_names": "inner.example.org, 127.0.0.1"}
    initialise(settings_in(tmp_path, **advertised))
    with (
        open_collector(settings_in(tmp_path, **advertised)) as collector,
        pytest.raises(UsageError, match=r"not for agents\.example\.org: add it to pki\.server_names"),
    ):
        collector.operations.perform("token_create", ORDER)
    advertised["pki.server_names"] = "*.example.org, 127.0.0.1"
    with open_collector(settings_in(tmp_path, **advertised)) as collector:
        join = collector.operations.perform("token_create", ORDER)["join"]
    assert join["address"] == "inner.example.org:8641"
    assert join["addresses"] == both.split(", ")
    assert "enrolment_addresses" not in join


def test_what_does_not_exist(opened):
    """The error is one line."""
    with pytest.raises(AdminError, match="no token 7"):
        opened.operations.perform("token_revoke", {"token_id": 7})
    with pytest.raises(AdminError, match="no host 'ab'"):
        opened.operations.perform("host_status", {"host": "ab", "status": "revoked"})


def test_derivation_can_be_asked_for(opened):
    """A derivation in a new directory derives nothing."""
    assert ask(opened.settings.data_dir, "derive_all") == {"periods": 0}
    assert ask(opened.settings.data_dir, "flush") == {"periods": 0}


def test_every_operation_is_documented():
    """Every operation has a docstring."""
    assert all(method.__doc__ for method in OPERATIONS.values())


def test_a_service_of_the_version_before_is_told_apart(tmp_path):
    """Before the restart after an update, an operation unknown to the service says what to do."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(tmp_path / SOCKET_FILE))
    listener.listen(1)
    listener.settimeout(60)  # without a call the test fails, instead of waiting for ever

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            old = {
                "ok": False,
                "exit_code": 2,
                "error": "unknown operation 'ca_show': use one of ping, health",
            }
            connection.sendall(json.dumps(old).encode() + b"\n")

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(AdminError, match="restart 'veilleuse serve'"):
        ask(tmp_path, "ca_show")
    thread.join()
    listener.close()
