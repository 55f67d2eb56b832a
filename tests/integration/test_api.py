# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test /api/v1 of a real `veilleuse serve` over a filled store: accounts, access journal, schemathesis."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from tests.support import clock
from tests.support.filled import METER, Filled, cell, civil, minutes_of_server
from tests.support.processes import ran
from tests.support.stack import Stack
from tests.support.waiting import PATIENCE_SECONDS, until
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

CONFIGURATION = """
[checks.positive_data_acceptance]
# 422: a question as described that has no answer (from after to, a page that is not there, an unknown zone); no schema can say so.
expected-statuses = [200, 304, 422]
[checks.negative_data_rejection]
# A header Accept or If-None-Match that is none is not looked at: RFC 9110.
expected-statuses = [400, 401, 404, 405, 406, 422]
"""
HOOKS = """
import schemathesis

@schemathesis.hook
def map_query(context, query):
    if "from" in query and "to" in query and isinstance(query["from"], str) and isinstance(query["to"], str):
        query["from"], query["to"] = sorted((query["from"], query["to"]))
        query["from"] = max(query["from"], f"{query['to'][:2]}{int(query['to'][2:4]) - 4:02}-03-01")
    query.pop("page", None)
    query.pop("zone", None)
    return query
"""
"""Requests that have an answer: a period of at most five years, the first page, every zone."""


def fill(directory: Path) -> None:
    """Store a server of today, and 14 workstations of the last two whole months. Two of them are of an entity
    too small to be shown."""
    today = clock.today()
    with Filled(directory) as store:
        store.push(store.add_host(entity="Lyon > DSI"), minutes_of_server(20, 15, 180.0), METER)
        for number in range(14):
            entity = "Lyon > Culture" if number < 12 else "Lyon > Voirie"
            host = store.add_host(Population.WORKSTATION, DeviceClass.LAPTOP, entity=entity)
            days = [today - timedelta(days=back) for back in range(75, 30, -9)]
            store.push(host, [(civil(day), [cell(State.ON_IDLE, 9_000_000, Band.NIGHT)]) for day in days])
        store.derive()


@dataclass(frozen=True)
class Served:
    """A running collector, with a token of each role."""

    stack: Stack
    tokens: dict[str, str]

    def get(self, path: str, who: str | None, **headers: str) -> tuple[int, dict[str, str], str]:
        """Return (status, headers, body) of GET `path` with the token of `who`, or without."""
        sent = {"Authorization": f"Bearer {self.tokens[who]}"} if who else {}
        request = urllib.request.Request(self.stack.url + path.lstrip("/"), headers=sent | headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
                return answer.status, _lower(answer.headers), answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, _lower(error.headers), error.read().decode()


def _lower(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """Initialise, fill and serve a collector, and create its accounts, by the installed commands."""
    with Stack(folder, {"VEILLEUSE__HTTP__API_REQUESTS_PER_MINUTE": "60000"}) as stack:
        stack.must("veilleuse", "init")
        fill(stack.data)
        stack.start_collector()
        tokens = {
            name: json.loads(stack.must("veilleuse", "account", "create", name, *words, "--json"))["token"]
            for name, words in {
                "reader": (),
                "culture": ("--entity", "Lyon > Culture"),
                "admin": ("--role", "admin"),
            }.items()
        }
        yield Served(stack, tokens)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Give one collector for all tests of this file, which only read it."""
    with serving(tmp_path_factory.mktemp("api")) as made:
        yield made


def period() -> str:
    """Return the parameters of a period from four months ago until today, never of whole months alone."""
    today = clock.today()
    first = date(today.year - (today.month <= 4), (today.month - 5) % 12 + 1, 1)
    tomorrow = today + timedelta(days=1)
    return f"from={first}&to={today if tomorrow.day == 1 else tomorrow}"


def test_roles_and_journal(served):
    """Each role sees its own rows; `account journal` has every answer, `account list` the last day of use."""
    seen: dict[str, set[str]] = {}
    for who in served.tokens:
        status, headers, body = served.get(f"/api/v1/emissions?{period()}&group_by=entity", who)
        assert (status, headers["cache-control"]) == (200, "private, no-store")
        seen[who] = {row["entity"] for row in json.loads(body)["rows"]}
    assert "Lyon > DSI" in seen["reader"]
    assert {"Lyon > DSI", "autres"} <= seen["admin"]
    assert not seen["culture"] & {"Lyon > DSI", "Lyon > Voirie", "autres"}
    journal = json.loads(served.stack.must("veilleuse", "account", "journal", "--json"))
    assert {line["account"] for line in journal} >= set(served.tokens)
    assert all(line["query"].startswith("from=") for line in journal if line["route"] == "/api/v1/emissions")
    used = {
        one["name"]: one["last_used_on"]
        for one in json.loads(served.stack.must("veilleuse", "account", "list", "--json"))
    }
    assert used["reader"] == clock.today().isoformat()
    assert served.get(f"/api/v1/emissions?{period()}", None)[0] == 401


def test_published_months_come_through_the_socket(served):
    """The running collector publishes the months that it has. A month that is taken back is published again
    within minutes."""

    def released() -> dict[str, str]:
        kept = json.loads(served.stack.must("veilleuse", "published", "list", "--json"))
        return {one["period_from"]: one["period_to"] for one in kept if one["kind"] == "release"}

    months = released()
    rows = json.loads(served.get(f"/api/v1/coverage?{period()}", "reader")[2])["rows"]
    of_pcs = [row for row in rows if row["population"] == "workstation" and row.get("n")]
    assert months
    assert min(row["period_from"] for row in of_pcs) <= min(months)
    first = min(months)
    served.stack.must("veilleuse", "published", "take-back", first, months[first], "--why", "a test")
    assert first not in released()
    until(lambda: first in released(), "the month was not published again", seconds=60)


def test_the_examples_of_the_page_work(served):
    """Each address that /api shows is answered."""
    page = served.get("/api?lang=en", None)[2]
    shown = re.findall(r"\$VEILLEUSE(/api/v1/[^&]\S*?)&#34;", page)
    assert len(shown) == 3
    for path in shown:
        assert served.get(path.replace("&amp;", "&"), "reader")[0] == 200, path


def test_a_revoked_account_is_refused_at_its_next_call(served):
    """The running service refuses a revoked account at once."""
    made = json.loads(served.stack.must("veilleuse", "account", "create", "short", "--json"))
    served.tokens["short"] = made["token"]
    assert served.get("/api/v1/factors?zone=FR", "short")[0] == 200
    served.stack.must("veilleuse", "account", "revoke", "short")
    assert served.get("/api/v1/factors?zone=FR", "short")[0] == 401
    del served.tokens["short"]


def test_no_token_in_any_log(served):
    """No log of the service contains a token."""
    logs = "".join(path.read_text(errors="replace") for path in served.stack.folder.glob("*.log"))
    assert logs
    assert not [name for name, token in served.tokens.items() if token in logs]


def attacked(
    served: Served, who: str, folder: Path, *words: str, hooks: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run schemathesis with every check; with `hooks` it sends only requests that have an answer.

    Wrong tokens are tested separately, because schemathesis expects 401 for each, and the eleventh wrong
    token in a minute is answered with 429.
    """
    (folder / "schemathesis.toml").write_text(CONFIGURATION, encoding="utf-8")
    (folder / "answerable.py").write_text(HOOKS, encoding="utf-8")
    command = (
        "run",
        f"{served.stack.url}api/v1/openapi.json",
        "--header",
        f"Authorization: Bearer {served.tokens[who]}",
        *(() if "--checks" in words else ("--exclude-checks", "ignored_auth")),
        "--seed",
        "5",
        "--continue-on-failure",
        "--no-color",
        *words,
    )
    return ran(
        [sys.executable, "-m", "schemathesis.cli", *command],
        cwd=folder,
        timeout=550,
        stdin=subprocess.DEVNULL,
        env=os.environ | ({"SCHEMATHESIS_HOOKS": "answerable", "PYTHONPATH": _path(folder)} if hooks else {}),
    )


def _path(folder: Path) -> str:
    return os.pathsep.join((str(folder), os.environ.get("PYTHONPATH", "")))


def assert_clean(done: subprocess.CompletedProcess[str]) -> int:
    """Check that there is no failure and no error; return the number of cases."""
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    found = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert found is not None
    assert found[1] == found[2]
    return int(found[1])


def test_schemathesis_finds_nothing(served, tmp_path):
    """Some cases of each route give answers as described, refusals of wrong requests, and no 5xx."""
    words = ("--phases", "examples,fuzzing", "--max-examples", "4")
    assert assert_clean(attacked(served, "reader", tmp_path, *words)) > 20


def test_schemathesis_gets_nothing_without_a_token(served, tmp_path):
    """Without a token or with a wrong one, each route with data answers 401."""
    words = ("--checks", "ignored_auth", "--phases", "fuzzing", "--max-examples", "1")
    assert assert_clean(attacked(served, "reader", tmp_path, *words)) >= 5


@pytest.mark.long
@pytest.mark.parametrize("who", ["reader", "culture", "admin"])
def test_schemathesis_finds_nothing_at_length(served, tmp_path, who):
    """Many cases of every kind pass for each role; then only requests with an answer, so that many answers
    are checked too."""
    assert assert_clean(attacked(served, who, tmp_path, "--max-examples", "200")) > 1_000
    words = ("--max-examples", "200", "--phases", "fuzzing", "--mode", "positive")
    answered = attacked(served, who, tmp_path, *words, hooks=True)
    assert assert_clean(answered) > 500
    assert "mostly rejected" not in answered.stdout


@pytest.mark.long
def test_the_attack_finds_what_is_wrong(served, tmp_path):
    """Schemathesis reports a description that promises another type for a column."""
    spec: dict[str, Any] = json.loads(served.get("/api/v1/openapi.json", "reader")[2])
    spec["components"]["schemas"]["factors_row"]["properties"]["zone"] = {"type": "integer"}
    spec["paths"] = {"/api/v1/factors": spec["paths"]["/api/v1/factors"]}
    (tmp_path / "wrong.json").write_text(json.dumps(spec), encoding="utf-8")
    done = ran(
        [
            sys.executable,
            "-m",
            "schemathesis.cli",
            "run",
            "wrong.json",
            "--url",
            served.stack.url,
            "--header",
            f"Authorization: Bearer {served.tokens['reader']}",
            "--max-examples",
            "3",
            "--checks",
            "response_schema_conformance",
            "--phases",
            "fuzzing",
            "--mode",
            "positive",
        ],
        cwd=tmp_path,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 1
    assert "is not of type" in done.stdout
