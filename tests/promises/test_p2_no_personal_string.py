# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""P2: no name of a person or of the machine leaves it, is kept, logged, exported or served."""

from __future__ import annotations

import json
import re
import sqlite3
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from tests.promises.support.leaking import Places, Said, files_below, leaks_in, lowered, spellings
from tests.promises.support.person import (
    ADDRESS,
    CANARIES,
    CONTROL_MODEL,
    CONTROL_UNIT,
    let_work,
    somebodys_machine,
)
from tests.promises.support.proxy import Proxy
from tests.support import clock
from tests.support.fakes.collector import FakeCollector
from tests.support.stack import Stack
from veilleuse.wire.v1 import telemetry_pb2 as pb

CONTROL_ENTITY = "Service temoin"
CONTROLS = {"model": CONTROL_MODEL, "unit": CONTROL_UNIT, "entity": CONTROL_ENTITY}
STAYS = r"boot id as text in (other/)?agent/spool\.db.*"
"""The agent's own folder keeps the boot id, to recognise a restart of the machine: docs/privacy.md."""
KINDS = (
    r"model in wire \d+ EnrolRequest, bytes",
    r"model in wire \d+ HelloRequest, in clear",
    r"unit in wire \d+ PushRequest, record",
    r"unit in agent/spool\.db",
    r"boot id in agent/spool\.db",
    r"unit in collector/data\.db-wal, open",
    r"model in collector/data\.db$",
    r"agent id in collector/identity\.db$",
    r"entity in veilleuse\.log",
    r"entity in veilleuse report emissions",
    r"entity in /metrics$",
    r"agent id in /metrics/hosts",
    r"entity in /api/v1/(energy|indicators)",
    r"unit in export",
    r"model in veilleuse-agent show",
)
"""Places in which a control must be found: otherwise the search there proves nothing."""
PAGES = ("", "metrics", "metrics/hosts", "api", "api/v1/openapi.json")
RESOURCES = ("coverage", "emissions", "energy", "indicators")


def settings_of(folder: Path) -> dict[str, str]:
    """Return settings that ask for everything except the host name, with debug logs on both sides."""
    return {
        "VEILLEUSE__LOG__LEVEL": "debug",
        "VEILLEUSE__HTTP__HOSTS_METRICS": "true",
        "VEILLEUSE_AGENT__LOG__LEVEL": "debug",
        "VEILLEUSE_AGENT__PATHS__SYSFS": str(folder / "tree/sys"),
        "VEILLEUSE_AGENT__PATHS__PROCFS": str(folder / "tree/proc"),
        "VEILLEUSE_AGENT__MEASURE__TICK_SECONDS": "1",
        "VEILLEUSE_AGENT__MEASURE__PERIOD_SECONDS": "10",
        "VEILLEUSE_AGENT__MEASURE__UNITS": "true",
    }


@contextmanager
def between(stack: Stack) -> Iterator[list[Proxy]]:
    """Yield proxies between agent and collector, which call from the address of the agent's machine."""
    ports = {name: stack.environment[f"VEILLEUSE__GRPC__{name}"] for name in ("ADDRESS", "ENROLMENT_ADDRESS")}
    targets = {name: ("127.0.0.1", int(address.rpartition(":")[2])) for name, address in ports.items()}
    with (
        Proxy(targets["ADDRESS"], source=ADDRESS) as calls,
        Proxy(targets["ENROLMENT_ADDRESS"], source=ADDRESS) as enrolments,
    ):
        stack.environment["VEILLEUSE_AGENT__COLLECTOR__ADDRESS"] = calls.address
        stack.environment["VEILLEUSE_AGENT__COLLECTOR__ENROLMENT_ADDRESS"] = enrolments.address
        yield [calls, enrolments]


def join(stack: Stack, fake: FakeCollector, other: Stack) -> Places:
    """Enrol the machine with both collectors, start to measure for both, and return the commands' output."""
    where = ("--entity", CONTROL_ENTITY, "--site", "test", "--population", "server")
    stack.must("veilleuse", "token", "create", *where, "--output", str(stack.folder / "join"))
    fake.join_file(other.folder / "join")
    said = Said(stack), Said(other)
    for one, heard in zip((stack, other), said, strict=True):
        assert heard.run("veilleuse-agent", "enrol", str(one.folder / "join")) == 0
        one.start("veilleuse-agent", "run")
    return [text for heard in said for text in heard.texts]


def units_told(stack: Stack, fake: FakeCollector, tree: Path) -> bool:
    """Let the machine work; return whether both collectors have records with units, the real one derived."""
    let_work(tree)
    with closing(sqlite3.connect(f"file:{stack.data / 'data.db'}?mode=ro", uri=True)) as database:
        (derived,) = database.execute("SELECT count(*) FROM unit_sums").fetchone()
    records = [record for stream in fake.streams.values() for record in stream.records]
    return bool(derived) and any(CONTROL_UNIT.encode() in record for record in records)


def wire_of(requests: Sequence[Any]) -> list[tuple[str, str | bytes]]:
    """Return each message as bytes and in clear, with its records in clear."""
    found: list[tuple[str, str | bytes]] = []
    for number, request in enumerate(requests):
        name = f"wire {number} {request.DESCRIPTOR.name}"
        found += [(f"{name}, bytes", request.SerializeToString())]
        found += [(f"{name}, in clear", text_format.MessageToString(request, as_utf8=True))]
        if isinstance(request, pb.PushRequest):
            found += [
                (f"{name}, record", text_format.MessageToString(pb.Record.FromString(wire), as_utf8=True))
                for wire in request.records
            ]
    return found


def read_by_everybody(stack: Stack) -> tuple[str, Places]:
    """Return the machine's id, and all output of commands, pages, API and exports."""
    said, today = Said(stack), clock.today()
    period = (f"--from={today - timedelta(days=1)}", f"--to={today + timedelta(days=2)}")
    token = json.loads(stack.must("veilleuse", "account", "create", "reader", "--role", "admin", "--json"))[
        "token"
    ]
    (host,) = json.loads(stack.must("veilleuse", "hosts", "list", "--json"))
    agent_id = host["agent_id"]
    export = stack.folder / "export.json"
    assert said.run("veilleuse-agent", "show") == 0
    assert said.run("veilleuse", "hosts", "show", agent_id, "--name") == 0
    assert said.run("veilleuse", "hosts", "export", agent_id, "-o", str(export)) == 0
    assert said.run("veilleuse", "report", "emissions", *period, "--format=json") == 0
    places = [*said.texts, ("export", export.read_text())]
    for page in (*PAGES, *(f"api/v1/{one}?from={today}&to={today + timedelta(days=1)}" for one in RESOURCES)):
        asked = urllib.request.Request(stack.url + page, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            places.append((f"/{page}", answer.read().decode()))
    return agent_id, places


@pytest.mark.promise("P2")
def test_no_personal_string(tmp_path, figure):
    """A server with all optional data, on a machine with a user, leaves no canary anywhere.

    The permitted strings are found wherever they must be: a model, a unit, an entity, an id, and the boot id
    in the agent's own folder.
    """
    (tmp_path / "other").mkdir()
    settings = settings_of(tmp_path)
    with (
        FakeCollector() as fake,
        Stack(tmp_path, settings) as stack,
        Stack(tmp_path / "other", settings) as other,
        between(stack) as proxies,
        somebodys_machine(tmp_path) as agent,
    ):
        stack.programs["veilleuse-agent"] = other.programs["veilleuse-agent"] = agent
        stack.start_collector()
        joined = join(stack, fake, other)
        stack.wait_for(partial(units_told, stack, fake, tmp_path / "tree"), "units in a record of both")
        agent_id, read = read_by_everybody(stack)
        kept = [(f"{where}, open", held) for where, held in files_below(stack.data, stack.state, other.state)]
        for one in (stack, other):
            for process in reversed(one.processes):
                one.stop(process)
        sent = [("TLS", bytes(proxy.asked)) for proxy in proxies]
        logs = [(log.name, log.read_bytes()) for log in sorted(tmp_path.rglob("*.log"))]
    kept += files_below(stack.data, stack.state, other.state)
    places = lowered([*wire_of(fake.requests), *sent, *logs, *kept, *joined, *read])
    leaks = [leak for leak in leaks_in(places, spellings(CANARIES)) if not re.fullmatch(STAYS, leak)]
    controls = {"agent id": agent_id[:12], "boot id": CANARIES["boot id"], **CONTROLS}
    told = leaks_in(places, {name: text.lower() for name, text in controls.items()})
    figure(
        f"{len(leaks)} of {len(CANARIES)} canaries ({len(spellings(CANARIES))} spellings) found in {len(places)} places, among "
        f"them {len(fake.requests)} messages, {len(kept)} files, {len(logs)} logs and {len(joined) + len(read)} answers, "
        f"{len(controls)} permitted strings found {len(told)} times"
    )
    assert leaks == []
    assert [kind for kind in KINDS if not any(re.search(kind, one) for one in told)] == []
    assert all(len(held) > 1_000 for where, held in sent)
