# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""S4: the enrolments that a token permits."""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.promises.support.served import served as serving_http
from tests.support.machines import SECONDS, Machine, Served, refusal, refused, served, settings_in
from tests.support.stack import Stack
from tests.support.waiting import PATIENCE_SECONDS, until
from veilleuse.collector.enrolment.tokens import FAILED_TRIES
from veilleuse.collector.model.accounts import new_token
from veilleuse.wire.v1 import telemetry_pb2 as pb

CLIENTS = 100
AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
"""Codes without a reason: a slow handshake on a busy machine, or a lost answer. The call is repeated (S5)."""


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Served]:
    """Yield a collector of its own."""
    with served(settings_in(tmp_path)) as collector:
        yield collector


def outcome(machine: Machine) -> str:
    """Return "in", "waits", the reason of a refusal, or "away"."""
    for _ in range(10):
        try:
            return "in" if machine.enrol().HasField("certificate") else "waits"
        except grpc.RpcError as error:
            code, reason = refusal(error)
            if reason or code not in AWAY:
                return reason
    return "away"


def race(join: dict[str, Any], clients: int) -> Counter[str]:
    """Enrol so many machines at once, each with a key of its own; return the count of each outcome."""
    together = threading.Barrier(clients)

    def one(machine: Machine) -> str:
        together.wait(PATIENCE_SECONDS)
        return outcome(machine)

    machines = [Machine(join) for _ in range(clients)]
    with ThreadPoolExecutor(clients) as pool:
        return Counter(pool.map(one, machines))


@pytest.mark.promise("S4")
def test_a_hundred_at_once_on_a_one_time_token(running, figure):
    """Exactly one of a hundred machines enrols, whatever the order: one host, one use."""
    ended = race(running.token(), CLIENTS)
    hosts = running.collector.issuing.commit(running.collector.store.registry.hosts)
    figure(f"{ended['in']} of {CLIENTS} machines at once enrolled with a one-time token")
    assert ended["in"] == len(hosts) == 1
    assert set(ended) == {"in", "used_token", "rate_limited"} or set(ended) == {"in", "used_token"}
    assert running.collector.operations.perform("token_list", {})[0]["uses"] == 1


@pytest.mark.promise("S4")
def test_a_group_token_has_its_quota(running, figure):
    """Ten of thirty machines enrol on a token for ten, each with its own identity and under that token."""
    ended = race(running.token(uses=10, networks=["192.0.2.0/24", "127.0.0.0/8"]), 30)
    registry = running.collector.store.registry
    hosts = running.collector.issuing.commit(lambda: registry.hosts_of_token(1))
    ids = {host.agent_id for host in running.collector.issuing.commit(registry.hosts)}
    figure(f"{ended['in']} of 30 machines enrolled with a token for 10")
    assert (ended["in"], len(hosts), len(ids)) == (10, 10, 10)


@dataclass(frozen=True, slots=True)
class Case:
    """A token that must not admit a machine."""

    reason: str
    order: dict[str, Any]
    spoil: Callable[[Served, dict[str, Any]], Any] = lambda running, join: None


def revoke(running: Served, join: dict[str, Any]) -> None:
    """Revoke the token as the operator does."""
    running.collector.operations.perform("token_revoke", {"token_id": join["token_id"]})


def delete(running: Served, join: dict[str, Any]) -> None:
    """Delete the token's row."""
    connection = running.collector.store.data.connection
    running.collector.issuing.commit(
        lambda: connection.execute("DELETE FROM tokens WHERE token_id = ?", (join["token_id"],))
    )


CASES = {
    "used": Case("used_token", {}, lambda running, join: Machine(join).enrol()),
    "expired": Case("expired_token", {"hours": 0.0000001}),
    "another network": Case("wrong_network", {"networks": ["192.0.2.0/24", "2001:db8::/32"]}),
    "revoked": Case("revoked_token", {"uses": 5}, revoke),
    "deleted": Case("unknown_token", {"uses": 5}, delete),
    "guessed": Case("unknown_token", {}, lambda running, join: join.update(token="A" * 43)),
    "empty": Case("unknown_token", {}, lambda running, join: join.update(token="")),
    "approval": Case("waits", {"approve": True}),
}


@pytest.mark.promise("S4")
def test_tokens_that_do_not_open(running, figure):
    """Used, expired, foreign, revoked, deleted and guessed tokens are refused, each with its reason."""
    ended = {}
    for name, case in CASES.items():
        join = running.token(**case.order)
        case.spoil(running, join)
        ended[name] = outcome(Machine(join))
    good = sum(ended[name] == case.reason for name, case in CASES.items())
    figure(f"{good} of {len(CASES)} kinds of invalid token refused")
    assert ended == {name: case.reason for name, case in CASES.items()}


@pytest.mark.promise("S4")
def test_failed_tries_are_counted_per_address(running, figure):
    """After ten guesses a minute the next are refused unread: only the hash of their token is examined."""
    good = running.token()
    tries = [outcome(Machine(good | {"token": f"{number:043}"})) for number in range(FAILED_TRIES + 5)]
    unread = Machine(good | {"token": "A" * 43})
    with unread.enrolment() as stub:
        request = pb.EnrolRequest(token="A" * 43, certificate_request_der=b"not looked at")
        assert refused(stub.Enrol, request, timeout=SECONDS)[1] == "rate_limited"
    figure(f"{tries.count('unknown_token')} guesses read, the next refused unread")
    assert tries == ["unknown_token"] * 10 + ["rate_limited"] * 5


@pytest.mark.promise("S4")
def test_guesses_from_a_college_do_not_hold_its_machines_up(running, figure):
    """Endless guesses from a college's address delay none of its 30 machines, and no proven copy.

    Used and revoked tokens stay refused.
    """
    join, used, revoked = running.token(uses=30), running.token(), running.token(uses=5)
    machine = Machine(running.token(uses=3, admit_copies=True))
    machine.enrol()
    Machine(used).enrol()
    revoke(running, revoked)
    stop, guesses = threading.Event(), Counter[str]()

    def guess(number: int) -> None:
        while not stop.is_set():
            guesses[outcome(Machine(join | {"token": secrets.token_urlsafe(32)}))] += 1

    with ThreadPoolExecutor(4) as pool:
        for number in range(4):
            pool.submit(guess, number)
        try:
            until(lambda: guesses["rate_limited"] >= 5, "the address has no try left")
            ended = Counter(outcome(Machine(join)) for _ in range(30))
            copied = machine.clone().enrol_as_copy()
            others = [outcome(Machine(used)), outcome(Machine(revoked))]
        finally:
            stop.set()
    figure(
        f"{ended['in']} of 30 machines enrolled at once beside {guesses.total():,} guesses from their address"
    )
    assert ended == {"in": 30}
    assert copied.HasField("certificate")
    assert others == ["used_token", "rate_limited"]
    assert set(guesses) <= {"unknown_token", "rate_limited"}


@pytest.mark.promise("S4")
def test_wrong_tokens_of_readers_do_not_hold_a_good_one_up(tmp_path, figure, time_bound):
    """A good token is accepted over HTTP each time, while eight threads try wrong tokens from its address."""
    with serving_http(tmp_path) as (stack, _, _process):
        made = json.loads(stack.must("veilleuse", "account", "create", "college", "--json"))
        stop, guesses = threading.Event(), Counter[int]()

        def guess(number: int) -> None:
            while not stop.is_set():
                guesses[read(stack, new_token())[0]] += 1

        with ThreadPoolExecutor(8) as pool:
            for number in range(8):
                pool.submit(guess, number)
            try:
                until(lambda: guesses[429] >= 100, "the address has no try left")
                answers = [read(stack, made["token"]) for _ in range(50)]
            finally:
                stop.set()
        slowest = max(seconds for _, seconds in answers)
        good = sum(status == 200 for status, _ in answers)
        figure(
            f"{good} of 50 requests with a valid token answered in {slowest:.1f} s at most, beside {guesses.total():,} invalid ones"
        )
        assert good == 50
        time_bound(slowest, 2, "slowest answer")
        assert (guesses[401], set(guesses)) == (FAILED_TRIES, {401, 429})


def read(stack: Stack, token: str) -> tuple[int, float]:
    """Return (status of a question with that token, seconds)."""
    request = urllib.request.Request(
        f"{stack.url}api/v1/factors?zone=FR", headers={"Authorization": f"Bearer {token}"}
    )
    began = time.perf_counter()
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            return answer.status, time.perf_counter() - began
    except urllib.error.HTTPError as error:
        return error.code, time.perf_counter() - began


@pytest.mark.promise("S4")
def test_a_token_is_stored_nowhere(running, figure):
    """A token's text of 256 bits is in no file after its use."""
    joins = [running.token(uses=2) for _ in range(5)]
    for join in joins:
        Machine(join).enrol()
    found = 0
    for folder, _, names in os.walk(running.collector.settings.data_dir):
        for name in names:
            path = Path(folder) / name
            if path.is_file():
                content = path.read_bytes()
                found += sum(join["token"].encode() in content for join in joins)
    figure(f"{found} of {len(joins)} token texts found in the files")
    assert found == 0
    assert all(len(join["token"]) == 43 for join in joins)


@pytest.mark.promise("S4")
def test_one_command_ends_a_token_and_its_machines(running):
    """The revocation of a token refuses all its machines, and no other machine."""
    join, other = running.token(uses=3), running.token()
    machines, stays = [Machine(join) for _ in range(3)], Machine(other)
    for machine in (*machines, stays):
        machine.enrol()
    revoke(running, join)
    for machine in machines:
        with pytest.raises(grpc.RpcError) as caught:
            machine.hello()
        assert refusal(caught.value) == (grpc.StatusCode.PERMISSION_DENIED, "revoked")
    stays.hello()
