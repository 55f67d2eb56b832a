# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""S13: every route for every role, with a closed door and on loopback, and every call of the agents' ports.

The rows are compared with the application's own routes and the contract's own calls: a new one without a row
fails.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from tests.support.filled import Filled, cell, civil, clock
from tests.support.machines import SECONDS, Machine, refused, served, settings_in
from tests.support.publishing import publish_months
from tests.support.reading import DOOR_TOKEN, Reading
from veilleuse.collector.enrolment.tokens import new_token as enrolment_token
from veilleuse.collector.model.accounts import Role, new_token
from veilleuse.collector.web.access import Guard
from veilleuse.collector.web.pages.frame import WebPage
from veilleuse.collector.web.pages.table import PAGES
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.v1 import telemetry_pb2_grpc as pb_grpc
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

NOW: Final = datetime(2026, 11, 25, 10, 30, tzinfo=UTC)
MINE, OTHERS = "Lyon > Culture", "Lyon > Voirie"
PERIOD: Final = "?from=2026-01-01&to=2027-01-01"

WHO: Final = (
    "nobody",
    "wrong",
    "expired",
    "revoked",
    "agent",
    "door",
    "reader of others",
    "reader of mine",
    "reader",
    "admin",
)
"""Callers: without a token, with a wrong token, with an agent's enrolment token, …"""
OF_ONE: Final = ("/serveur",)
"""Pages of one thing, which the address names."""
_STRANGERS: Final = 5
"""The first callers, who are admitted nowhere."""

Row = tuple[str, tuple[int, ...]]


def row(url: str, door: int, others: int, mine: int, reader: int, admin: int, strangers: int = 401) -> Row:
    """Return a route's URL and its status for each of WHO."""
    return url, (*[strangers] * _STRANGERS, door, others, mine, reader, admin)


MAY_OPEN: Final = {
    Guard.OPEN: (200, 200, 200, 200, 200),
    Guard.READERS: (200, 200, 200, 200, 200),
    Guard.FLEET: (200, 403, 403, 200, 200),
    Guard.SERVERS: (200, 403, 403, 403, 200),
    Guard.HOSTS: (200, 403, 403, 403, 200),
}
"""Guard of a page → status for the callers who are admitted."""


def page_row(page: WebPage) -> Row:
    """Return the row of a page. That of one server needs its name: without it there is none."""
    strangers = 200 if page.guard is Guard.OPEN else 401
    told = (404 if status == 200 and page.path in OF_ONE else status for status in MAY_OPEN[page.guard])
    return page.path, (*[strangers] * _STRANGERS, *told)


CLOSED: Final[dict[str, Row]] = {
    "/healthz": row("/healthz", 200, 200, 200, 200, 200, strangers=200),
    **{page.path: page_row(page) for page in PAGES},
    "/connexion": row("/connexion", 200, 200, 200, 200, 200, strangers=200),
    "/deconnexion": row("/deconnexion", 405, 405, 405, 405, 405, strangers=405),
    "/metrics": row("/metrics", 200, 403, 403, 200, 200),
    "/metrics/hosts": row("/metrics/hosts", 200, 403, 403, 403, 200),
    "/static/{name}": row("/static/veilleuse.css", 200, 200, 200, 200, 200, strangers=200),
    "/api": row("/api", 200, 200, 200, 200, 200),
    "/api/v1/openapi.json": row("/api/v1/openapi.json", 200, 200, 200, 200, 200),
    "/api/v1/emissions": row(f"/api/v1/emissions{PERIOD}", 401, 200, 200, 200, 200),
    "/api/v1/energy": row(f"/api/v1/energy{PERIOD}", 401, 200, 200, 200, 200),
    "/api/v1/indicators": row(f"/api/v1/indicators{PERIOD}", 401, 200, 200, 200, 200),
    "/api/v1/coverage": row(f"/api/v1/coverage{PERIOD}", 401, 200, 200, 200, 200),
    "/api/v1/factors": row("/api/v1/factors?zone=FR", 401, 200, 200, 200, 200),
    "nowhere": row("/nothing", 404, 404, 404, 404, 404),
    "nowhere in /api": row("/api/v1/nothing", 404, 404, 404, 404, 404),
}
"""Routes with http.metrics_token_file set, which a collector off loopback must have."""
FIGURES: Final = [name for name in CLOSED if name.startswith("/api/v1/") and "openapi" not in name]
PAGES_OF_READERS: Final = [page.path for page in PAGES if page.guard is Guard.READERS]
FLEET: Final = (*PAGES_OF_READERS, "/reen", "/serveurs", "/metrics", "/metrics/hosts", *FIGURES)
"""Routes with figures of the fleet."""


def fill(data: Filled) -> None:
    """Add two entities that may be shown, and two that may be shown only together, with a server each."""
    hour = 3_600_000
    start = round(NOW.timestamp() * 1000) - 30 * hour
    start -= start % hour
    for entity, machines in ((MINE, 12), (OTHERS, 14), ("Lyon > Rare 1", 6), ("Lyon > Rare 2", 6)):
        server = data.add_host(entity=entity)
        data.push(server, [(clock(start, hour), [cell(State.ON_ACTIVE, hour, busy_ratio=0.4)])])
        for _ in range(machines):
            host = data.add_host(Population.WORKSTATION, DeviceClass.LAPTOP, entity=entity)
            days = [datetime(2026, 9, 1, tzinfo=UTC).date() + timedelta(days=n) for n in range(12)]
            data.push(host, [(civil(day), [cell(State.ON_IDLE, 3_600_000, Band.NIGHT)]) for day in days])
    data.derive()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """Yield a store with a month to show."""
    with Filled(tmp_path_factory.mktemp("s13") / "data", clock=NOW.timestamp) as filled:
        fill(filled)
        publish_months(filled, NOW.date())
        yield filled


@pytest.fixture(scope="module")
def tokens(data: Filled) -> dict[str, str | None]:
    """Return the token of each of WHO."""
    with Reading(data, clock=NOW.timestamp) as reading:
        found = {
            "nobody": None,
            "wrong": new_token(),
            "expired": reading.account("expired", Role.ADMIN, days=-1),
            "revoked": reading.account("revoked", Role.ADMIN),
            "agent": enrolment_token(),
            "door": DOOR_TOKEN,
            "reader of others": reading.account("others", Role.READER, OTHERS),
            "reader of mine": reading.account("mine", Role.READER, MINE),
            "reader": reading.account("reader"),
            "admin": reading.account("admin", Role.ADMIN),
        }
    (revoked,) = [one for one in data.store.accounts.accounts() if one.name == "revoked"]
    data.store.accounts.revoke_account(revoked.token_sha256, round(NOW.timestamp() * 1000))
    return found


@pytest.fixture
def closed(data: Filled) -> Iterator[Reading]:
    """Yield an application with the door's token set."""
    with Reading(data, door_token=DOOR_TOKEN, clock=NOW.timestamp, hosts_metrics=True) as reading:
        yield reading


@pytest.fixture
def loopback(data: Filled) -> Iterator[Reading]:
    """Yield an application without a door's token, the default."""
    with Reading(data, clock=NOW.timestamp, hosts_metrics=True) as reading:
        yield reading


@pytest.mark.promise("P13")
@pytest.mark.promise("S13")
def test_every_route_for_everybody(closed, tokens, figure):
    """Each route answers each caller with its status; refusals hold no figures; the journal is complete."""
    wrong = []
    for name, (url, expected) in CLOSED.items():
        for who, status in zip(WHO, expected, strict=True):
            answer = closed.get(url, tokens[who])
            if answer.status_code != status:
                wrong.append(f"{name} × {who}: {answer.status_code}, not {status}")
            if status != 200 and re.search(r"Lyon|veilleuse_\w|kwh", answer.text):
                wrong.append(f"{name} × {who}: a refusal that tells something")
    figure(f"{len(wrong)} wrong answers in {len(CLOSED)} routes × {len(WHO)} callers")
    assert wrong == []
    noted = {(line.account, line.route) for line in _journal(closed)}
    named = {(who, route) for who in ("others", "mine", "reader", "admin") for route in FIGURES}
    assert {(who, route) for who, route in noted if route in FIGURES} == named
    assert {route for _, route in noted} - set(FIGURES) <= {page.path for page in PAGES}
    assert {who for who, route in noted if route == "/"} == {"others", "mine", "reader", "admin"}


@pytest.mark.promise("S13")
def test_the_matrix_knows_every_route(closed):
    """The table has exactly the routes of the application."""
    routes = closed.routes
    assert routes == {name for name in CLOSED if name.startswith("/")}


@pytest.mark.promise("S13")
def test_loopback_opens_pages_not_figures(loopback, tokens, figure):
    """Callers on the machine read pages and /metrics without a token, but never figures of /api/v1."""
    strangers = WHO[:_STRANGERS]
    for name, (url, _) in CLOSED.items():
        for who in strangers:
            status = 404 if name.startswith("nowhere") or name in OF_ONE else 401 if name in FIGURES else 200
            status = 405 if name == "/deconnexion" else status
            assert loopback.get(url, tokens[who]).status_code == status, (name, who)
    figure(
        f"{len(FIGURES)} routes with figures refused to {len(strangers)} callers without a valid token, on loopback"
    )


@pytest.mark.promise("S13")
@pytest.mark.parametrize("route", FLEET)
def test_readers_of_an_entity_see_it_alone(closed, tokens, route):
    """Readers of an entity get no name or total of another, in JSON or CSV; readers of all get the fleet."""
    url = CLOSED[route][0]
    for who, seen, hidden in (("reader of mine", MINE, OTHERS), ("reader of others", OTHERS, MINE)):
        for accept in ("application/json", "text/csv"):
            answer = closed.get(url, tokens[who], accept=accept)
            text = html.unescape(answer.text)
            assert hidden not in text
            assert "Rare" not in text
            if route not in PAGES_OF_READERS:  # a word of pages too
                assert "autres" not in re.sub(r'"assumptions".*', "", text, flags=re.S)
            if answer.status_code == 200 and route in FIGURES and "/factors" not in route:
                assert seen in answer.text
                assert not re.search(r'"n": (24|26|38|42)\b', answer.text)
    if route in FIGURES and "/factors" not in route:
        assert MINE in closed.get(url, tokens["reader"]).text
        assert OTHERS in closed.get(url, tokens["reader"]).text
        rest = "autres" if "indicators" in route else "Lyon > Rare 2"  # the fleet's rows are of the inventory
        assert rest in closed.get(url, tokens["reader"], accept="text/csv").text


@pytest.mark.promise("S13")
def test_an_unknown_entity_is_as_silent_as_an_empty_one(closed, data):
    """A reader of an unknown entity gets answers without rows, which name no other entity."""
    token = closed.account("nothing", Role.READER, "Lyon > Cult")
    for route in FIGURES[:-1]:
        answer = closed.get(CLOSED[route][0], token).json()
        assert answer["rows"] == []
        assert {one["reason"] for one in answer["withheld"]} <= {"period"}
        assert answer.get("totals", []) == []


@pytest.mark.promise("S13")
def test_one_call_after_revocation(closed, data):
    """An account that is revoked between two calls is refused at the second one."""
    token = closed.account("short")
    url = CLOSED["/api/v1/factors"][0]
    assert closed.get(url, token).status_code == 200
    (account,) = [one for one in data.store.accounts.accounts() if one.name == "short"]
    data.store.accounts.revoke_account(account.token_sha256, 1)
    assert closed.get(url, token).status_code == 401


CALLS: Final = {
    "Hello": pb.HelloRequest(),
    "Push": pb.PushRequest(),
    "Renew": pb.RenewRequest(),
    "Enrol": pb.EnrolRequest(),
    "Challenge": pb.ChallengeRequest(),
    "RenewExpired": pb.RenewExpiredRequest(),
}
"""Every call of the contract → its request."""


@pytest.mark.promise("S13")
def test_no_call_of_the_agents_is_for_a_reader(tmp_path: Path, figure: Callable[[str], None]) -> None:
    """An admin's token opens no call: :8641 asks for a certificate, :8642 does not know it; no reflection."""
    services = pb.DESCRIPTOR.services_by_name.values()
    assert {method.name for service in services for method in service.methods} == set(CALLS)
    with served(settings_in(tmp_path)) as running:
        token = running.collector.operations.perform("account_create", {"name": "a", "role": "admin"})[
            "token"
        ]
        machine = Machine(running.token())
        metadata = (("authorization", f"Bearer {token}"),)
        said: dict[str, Any] = {}
        bare = grpc.ssl_channel_credentials(machine.roots)
        with grpc.secure_channel(machine.join["address"], bare) as channel:
            stub = pb_grpc.TelemetryServiceStub(channel)
            for name in ("Hello", "Push", "Renew"):
                said[name] = refused(getattr(stub, name), CALLS[name], timeout=SECONDS, metadata=metadata)
        with grpc.secure_channel(machine.join["enrolment_address"], bare) as channel:
            enrolment = pb_grpc.EnrolmentServiceStub(channel)
            for name in ("Enrol", "Challenge", "RenewExpired"):
                said[name] = refused(
                    getattr(enrolment, name), CALLS[name], timeout=SECONDS, metadata=metadata
                )
            request = pb.EnrolRequest(token=token, certificate_request_der=machine.request())
            said["as a join token"] = refused(enrolment.Enrol, request, timeout=SECONDS)
            reflection = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
            said["reflection"] = refused(channel.unary_unary(reflection), b"", timeout=SECONDS)
    figure(f"{len(CALLS)} of {len(CALLS)} agent calls refused with an administrator's token")
    assert {said[name][0] for name in ("Hello", "Push", "Renew")} == {grpc.StatusCode.UNAVAILABLE}
    assert said["as a join token"][1] == "unknown_token"
    assert said["reflection"][0] is grpc.StatusCode.UNIMPLEMENTED


def _journal(reading: Reading) -> Any:
    return reading.data.store.accounts.accesses(0, 2**62, account_id=None, limit=1_000)
