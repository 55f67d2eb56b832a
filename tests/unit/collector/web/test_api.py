# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of /api/v1 as a program uses it: formats, pages, tags, problems, bounds, tokens, journal."""

from __future__ import annotations

import csv
import io
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

import pytest

from tests.support.filled import METER, Filled, cell, civil, clock
from tests.support.publishing import publish_months
from tests.support.reading import DOOR_TOKEN, Reading
from tests.support.waiting import PATIENCE_SECONDS, until
from veilleuse.collector.errors import AdminError, QueryTooSlow
from veilleuse.collector.model.accounts import TOKEN_PREFIX, Role, new_token
from veilleuse.collector.web.desk import Rate, Turns
from veilleuse.collector.web.problems import MEDIA_TYPE, TITLES, Problem
from veilleuse.wire.vocabulary import State

NOW = datetime(2026, 11, 25, 10, 30, tzinfo=UTC)
HOUR = 3_600_000
YEAR = "from=2026-01-01&to=2027-01-01"
EMISSIONS = f"/api/v1/emissions?{YEAR}"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """Return a store with six servers of as many entities."""
    with Filled(tmp_path_factory.mktemp("api") / "data", clock=NOW.timestamp) as filled:
        start = round(NOW.timestamp() * 1000) - 30 * HOUR
        start -= start % HOUR
        for number in range(6):
            server = filled.add_host(entity=f"E{number}")
            cells = [cell(State.ON_ACTIVE, HOUR, energy_millijoules=(100 + number) * HOUR, busy_ratio=0.4)]
            filled.push(server, [(clock(start, HOUR), cells)], METER)
        filled.derive()
        yield filled


@pytest.fixture
def reading(data: Filled) -> Iterator[Reading]:
    """Run the application over it, on loopback."""
    with Reading(data, clock=NOW.timestamp) as made:
        yield made


@pytest.fixture
def token(reading: Reading, request: pytest.FixtureRequest) -> str:
    """Return the token of an administrator's own account."""
    return reading.account(f"of-{abs(hash(request.node.name))}", Role.ADMIN)


def test_json_and_csv_say_the_same(reading, token):
    """JSON and CSV have the same numbers; CSV is requested by header or by name."""
    plain = reading.get(EMISSIONS, token)
    assert plain.headers["content-type"] == "application/json"
    answer = plain.json()
    asked = [reading.get(EMISSIONS, token, accept="text/csv"), reading.get(f"{EMISSIONS}&format=csv", token)]
    for text in asked:
        assert text.headers["content-type"].startswith("text/csv; charset=utf-8")
        lines = list(csv.DictReader(io.StringIO(text.text)))
        rows = [*answer["rows"], *answer["totals"], *answer["memo"]]
        assert [line["entity"] for line in lines] == [row.get("entity", "") for row in rows]
        assert [float(line["kwh_total"]) for line in lines] == [row["kwh_total"] for row in rows]
    total = answer["totals"][0]
    measured = total["kwh_measured"] + total["kwh_modelled"]
    assert measured == pytest.approx(sum(100 + n for n in range(6)) / 1000)
    assert total["kwh_total"] == pytest.approx(measured + total["kwh_imputed"] + total["kwh_extrapolated"])


def test_a_period_under_way_says_so(reading, token):
    """Head and rows say until when: yesterday for the fleet, today for sums of machines; past ones do not."""
    now = NOW.date()
    period = f"from={now.year}-01-01&to={now.year + 1}-01-01"
    for route, last in (
        ("emissions", now - timedelta(days=1)),
        ("coverage", now - timedelta(days=1)),
        ("indicators", now),
    ):
        answer = reading.get(f"/api/v1/{route}?{period}", token).json()
        assert answer["report"]["under_way_until"] == last.isoformat()
        for row in answer["rows"]:
            assert row.get("under_way_until") == (
                last.isoformat() if row["period_to"] > now.isoformat() else None
            )
    past = reading.get("/api/v1/emissions?from=2025-01-01&to=2025-02-01", token).json()
    assert "under_way_until" not in past["report"]


def links(header: str) -> dict[str, str]:
    """Return address by relation."""
    return {word: url for url, word in re.findall(r'<([^>]+)>; rel="(\w+)"', header)}


def test_pages_together_are_the_answer(reading, token):
    """Following `next` gives each row once and in order, and each page has its number."""
    whole = reading.get(EMISSIONS, token).json()
    url, found, pages = f"{EMISSIONS}&limit=2", [], 0
    while url:
        page = reading.get(url, token)
        body = page.json()
        pages += 1
        assert (body["report"]["page"], body["report"]["pages"], page.headers["x-total-count"]) == (
            pages,
            4,
            "7",
        )
        found += [*body["rows"], *body["totals"], *body["memo"]]
        url = links(page.headers["link"]).get("next", "")
    assert found == [*whole["rows"], *whole["totals"], *whole["memo"]]
    assert pages == 4
    lost = reading.get(f"{EMISSIONS}&limit=2&page=5", token, accept_language="en")
    assert lost.status_code == 422
    assert "there is no page 5: the answer has 7 rows, 4 pages of 2" in lost.json()["detail"]


def test_the_kinds_are_cuts_of_one_statement(reading, token):
    """/energy and /coverage have the numbers of /emissions, and no factor."""
    emissions = reading.get(EMISSIONS, token).json()["rows"]
    for kind, absent in (("energy", "kgco2e_total"), ("coverage", "kwh_total")):
        rows = reading.get(f"/api/v1/{kind}?{YEAR}", token).json()["rows"]
        assert len(rows) == len(emissions)
        for row, other in zip(rows, emissions, strict=True):
            assert row.items() <= other.items()
            assert absent not in row
            assert row["coverage_energy"] == other["coverage_energy"]
    indicators = reading.get(f"/api/v1/indicators?{YEAR}", token).json()["rows"]
    assert {row["indicator"] for row in indicators} >= {"I2", "I13"}


@pytest.mark.parametrize("role", Role)
def test_perimeters_and_levels(tmp_path, role):
    """Rows by perimeter and level sum to the total; who asks for power contexts reads them."""
    with Filled(tmp_path / "data", clock=NOW.timestamp) as data:
        for entity in ("E0", "E1 > A", "E1 > B"):
            server = data.add_host(entity=entity, enrolled_on=date(2026, 10, 1))
            cells = [cell(State.ON_ACTIVE, HOUR, energy_millijoules=100 * HOUR, busy_ratio=0.4)]
            data.push(server, [(civil(date(2026, 10, 5)), cells)], METER)
        data.derive()
        publish_months(data, NOW.date())
        with Reading(data, clock=NOW.timestamp) as reading:
            token = reading.account("places", role)
            october = "from=2026-10-01&to=2026-11-01"
            url = f"/api/v1/energy?{october}&group_by=entity,perimeter,power_context&level=1"
            answer = reading.get(url, token).json()
            assert [(row["entity"], row["perimeter"], row["power_context"]) for row in answer["rows"]] == [
                ("E0", "data_centre", "own_site"),
                ("E1", "data_centre", "own_site"),
            ]
            (total,) = answer["totals"]
            assert sum(row["energy_millijoules"] for row in answer["rows"]) == total["energy_millijoules"]
            assert answer["report"]["level"] == 1
            plain = reading.get(f"/api/v1/energy?{october}", token).json()["rows"]
            assert plain
            assert not {"perimeter", "power_context"} & {name for row in plain for name in row}


def test_the_whole_year_stands_beside_its_months(reading, token):
    """/energy and /coverage by month have the total of the whole year too; they failed with 500."""
    question = f"{YEAR}&group_by=entity,month"
    whole = reading.get(f"/api/v1/emissions?{question}", token).json()["year"]
    assert whole
    for kind in ("energy", "coverage"):
        answer = reading.get(f"/api/v1/{kind}?{question}", token).json()
        for row, other in zip(answer["year"], whole, strict=True):
            assert row.items() <= other.items()
        text = reading.get(f"/api/v1/{kind}?{question}&format=csv", token).text
        lines = list(csv.DictReader(io.StringIO(text)))
        assert len(lines) == sum(len(answer[table]) for table in ("rows", "totals", "memo", "year"))


def test_figures_are_kept_by_nobody_factors_until_they_change(reading, token):
    """Figures are no-store; factors and the description answer 304 to a known tag."""
    assert reading.get(EMISSIONS, token).headers["cache-control"] == "private, no-store"
    for url in ("/api/v1/factors?zone=fr", "/api/v1/openapi.json"):
        first = reading.get(url, token)
        assert first.headers["cache-control"] == "private, no-cache"
        again = reading.get(url, token, if_none_match=f'"x", W/{first.headers["etag"]}')
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
        assert reading.get(url, token, if_none_match='"other"').status_code == 200


def test_factors(reading, token):
    """Factors are found by zone and year, with source and licence; an unknown zone is a 422."""
    found = reading.get("/api/v1/factors?zone=FR&year=2022", token).json()["rows"]
    (one,) = [row for row in found if row["official"]]
    assert (one["factor_id"], one["factor_kgco2e_per_kwh"]) == ("ADEME-FR-2022-MOY", 0.052)
    assert len(found) == 2  # OWID's French value is listed, and never chosen
    assert one["licence"]
    assert one["factor_source"]
    everywhere = reading.get("/api/v1/factors", token)
    assert int(everywhere.headers["x-total-count"]) > 100
    unknown = reading.get("/api/v1/factors?zone=XQ", token)
    assert unknown.status_code == 422
    assert "no electricity factor for zone 'XQ'" in unknown.json()["detail"]


@pytest.mark.parametrize(
    ("query", "status", "where", "what"),
    [
        ("", 400, "from", "'from' is missing"),
        ("from=2026-01-01", 400, "to", "'to' is missing"),
        ("from=2026-1-1&to=2027-01-01", 400, "from", "'2026-1-1' is no value of 'from'"),
        ("from=20260101&to=2027-01-01", 400, "from", "is no value of"),
        ("from=1999-01-01&to=2027-01-01", 400, "from", "is no value of"),
        ("from=2026-02-30&to=2027-01-01", 422, "from", "there is no day 2026-02-30"),
        ("from=2026-01-01&to=2026-01-01", 422, "to", "must be before"),
        ("from=2026-01-01&to=2031-01-03", 422, "to", "1828 days: ask for at most 1827"),
        (f"{YEAR}&from=2026-01-01", 400, "from", "'from' is given twice"),
        (f"{YEAR}&grup_by=site", 400, "grup_by", "there is no parameter 'grup_by'"),
        (f"{YEAR}&group_by=colour", 400, "group_by", "'colour' is no value"),
        (f"{YEAR}&level=0", 400, "level", "'0' is no value"),
        (f"{YEAR}&group_by=device_class&level=2", 400, "level", "level needs rows by entity"),
        (f"{YEAR}&group_by=", 400, "group_by", "'' is no value"),
        (f"{YEAR}&page=0", 400, "page", "'0' is no value"),
        (f"{YEAR}&page=-1", 400, "page", "'-1' is no value"),
        (f"{YEAR}&limit=10001", 400, "limit", "'10001' is no value"),
        (f"{YEAR}&limit=1e3", 400, "limit", "'1e3' is no value"),
        (f"{YEAR}&limit=%D9%A3", 400, "limit", "is no value"),
        (f"{YEAR}&format=xlsx", 400, "format", "'xlsx' is no value"),
    ],
)
def test_what_is_wrong_is_said(reading, token, query, status, where, what):
    """A problem (RFC 9457) says what is wrong, where, and what to do: in French, or in English."""
    answer = reading.get(f"/api/v1/energy?{query}", token, accept_language="en")
    problem = answer.json()
    french = reading.get(f"/api/v1/energy?{query}", token).json()
    texts = ("title", "detail", "remedy")
    assert [name for name in problem if problem[name] == french[name] and name in texts] == []
    assert [name for name in problem if problem[name] != french[name] and name not in texts] == []
    assert (answer.status_code, problem["status"]) == (status, status)
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert what in problem["detail"]
    assert where in problem["where"]
    assert problem["remedy"]
    assert not problem["remedy"].startswith("give First")
    assert problem["type"].removeprefix("/api#") in TITLES
    assert problem["instance"] == "/api/v1/energy"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "application/json"),
        ("text/*", "text/csv"),
        ("text/csv;q=0.5, application/json;q=0.4", "text/csv"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "application/json"),
        ("application/json;q=0, text/csv", "text/csv"),
        ("", "application/json"),
        ("image/png", None),
        ("application/json;q=0", None),
    ],
)
def test_negotiation(reading, token, accept, expected):
    """The format is chosen by quality, then by order; 406 names both formats."""
    answer = reading.get(EMISSIONS, token, accept=accept)
    if expected is None:
        assert answer.status_code == 406
        assert "text/csv" in answer.json()["remedy"]
    else:
        assert answer.headers["content-type"].startswith(expected)


def test_only_reading(reading, token):
    """POST, PUT, DELETE and PATCH get 405 with Allow; HEAD has the headers of GET and no body."""
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        answer = reading.get(EMISSIONS, token, method)
        assert answer.status_code == 405
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}
        assert answer.json()["type"] == "/api#method"
    head = reading.get(EMISSIONS, token, "HEAD")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["x-total-count"] == "7"


# --- tokens


def test_a_token_is_tried_ten_times_a_minute_and_a_good_one_always(data):
    """After ten wrong tokens an address gets 429 with Retry-After; a good token from it is still accepted."""
    with Reading(data, door_token=DOOR_TOKEN, clock=NOW.timestamp, impatient=True) as reading:
        good = reading.account("in-a-hurry")
        statuses = [reading.get(EMISSIONS, new_token()).status_code for _ in range(12)]
        assert statuses == [401] * 10 + [429] * 2
        refused = reading.get(EMISSIONS, "x")
        assert (refused.headers["retry-after"], refused.json()["type"]) == ("60", "/api#too_many_tries")
        assert reading.get("/", "x").status_code == 429
        assert reading.get(EMISSIONS, good).status_code == 200
        assert reading.get(EMISSIONS).status_code == 401  # no token was tried


def test_only_the_hash_is_stored(reading, data):
    """Neither the token nor a part of it is in the database's files."""
    token = reading.account("hashed")
    assert token.startswith(TOKEN_PREFIX)
    assert len(token) == len(TOKEN_PREFIX) + 43
    data.store.data.checkpoint()
    kept = b"".join(path.read_bytes() for path in data.directory.iterdir() if path.is_file())
    assert token.encode() not in kept
    assert token.removeprefix(TOKEN_PREFIX).encode() not in kept
    assert reading.get(EMISSIONS, token).status_code == 200


def test_the_browser_s_way(reading, data):
    """Basic takes the token as its password; the day of its use is stored, for pages too."""
    import base64

    with Reading(data, door_token=DOOR_TOKEN, clock=NOW.timestamp) as closed:
        token = closed.account("browser")
        basic = base64.b64encode(f"anybody:{token}".encode()).decode()
        assert closed.get("/", authorization=f"Basic {basic}").status_code == 200

        def used_on() -> int | None:
            days = {one.name: one.last_used_day for one in data.store.accounts.accounts()}
            found: int | None = days["browser"]
            return found

        until(lambda: used_on() is not None)
        assert used_on() == NOW.date().toordinal()


def test_an_unreadable_store_lets_nobody_in(tmp_path):
    """Where accounts cannot be read, a good token gets 503 too."""
    with (
        Filled(tmp_path / "data", clock=NOW.timestamp) as data,
        Reading(data, clock=NOW.timestamp) as reading,
    ):
        token = reading.account()
        data.store.data.checkpoint()
        (data.directory / "data.db").write_bytes(b"not a database" * 40_000)
        answer = reading.get(EMISSIONS, token)
        assert (answer.status_code, answer.json()["type"]) == (503, "/api#unreadable")


# --- bounds


@contextmanager
def slow(reading: Reading) -> Iterator[threading.Event]:
    """Make questions wait until the event is set."""
    going = threading.Event()
    made = reading.figures.document

    def document(asked, account):
        assert going.wait(PATIENCE_SECONDS)
        return made(asked, account)

    reading.desk.desk._figures = type(
        "Slow", (), {"document": staticmethod(document), "inputs": staticmethod(lambda *_: None)}
    )()
    yield going
    going.set()


def test_one_question_at_a_time(reading):
    """Five questions of one account at once get one answer and four 429; another account gets its own."""
    one, other = reading.account("one-at-a-time"), reading.account("another")
    reading.desk._turns = Turns(wait_seconds=0.2)
    with slow(reading) as going:
        asked = [(f"{EMISSIONS}&limit={n + 1}", one) for n in range(5)] + [(EMISSIONS, other)]
        answers = reading.all(asked, answered=lambda number: going.set() if number == 4 else None)
        statuses = [answer.status_code for answer in answers]
    assert sorted(statuses[:5]) == [200, 429, 429, 429, 429]
    assert statuses[5] == 200


def test_panels_of_a_dashboard_come_one_after_the_other(reading):
    """Eight quick questions of one account at once are all answered."""
    token = reading.account("dashboard")
    reading.desk._turns = Turns(wait_seconds=PATIENCE_SECONDS)
    asked = [(f"/api/v1/energy?{YEAR}&limit={n + 1}", token) for n in range(8)]
    assert {answer.status_code for answer in reading.all(asked)} == {200}


def test_the_third_account_waits_for_two(reading):
    """Two questions run at once; a third account gets 503 with a retry time."""
    tokens = [reading.account(f"crowd-{n}") for n in range(3)]
    reading.desk._turns = Turns(wait_seconds=0.2)
    with slow(reading) as going:
        answers = reading.all([(EMISSIONS, token) for token in tokens], answered=lambda _: going.set())
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503]
    (busy,) = [answer for answer in answers if answer.status_code == 503]
    assert (busy.json()["type"], busy.headers["retry-after"]) == ("/api#busy", "5")


def test_so_many_requests_a_minute(data):
    """The next request gets its waiting time; each account has its own count."""
    with Reading(data, clock=NOW.timestamp, api_requests_per_minute=3) as reading:
        one, other = reading.account("three-a-minute"), reading.account("fresh")
        statuses = [reading.get(f"{EMISSIONS}&page=0", one).status_code for _ in range(4)]
        assert statuses == [400, 400, 400, 429]
        answer = reading.get(EMISSIONS, one)
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert reading.get(EMISSIONS, other).status_code == 200


def test_the_rate_forgets(reading):
    """After a minute there is room again; before, the error has the remaining time."""
    now = [0.0]
    rate = Rate(2, lambda: now[0])
    account = reading.data.store.accounts.accounts()[0]
    rate.count(account)
    now[0] = 10
    rate.count(account)
    with pytest.raises(Problem) as caught:
        rate.count(account)
    assert caught.value.retry_after_seconds == 50
    now[0] = 60
    rate.count(account)


def test_a_question_that_takes_too_long_is_ended(data):
    """A query that takes too long gets 503 with a retry time, and the next one is answered."""
    with Reading(data, clock=NOW.timestamp) as reading:
        token = reading.account("patient")
        known, ticks = reading.reader._now, iter(range(0, 10_000_000, 100))
        reading.reader._now = lambda: float(next(ticks))  # a clock on which everything takes long
        answer = reading.get(EMISSIONS, token)
        assert (answer.status_code, answer.json()["type"]) == (503, "/api#too_slow")
        assert answer.headers["retry-after"]
        reading.reader._now = known
        assert reading.get(EMISSIONS, token).status_code == 200


def test_sqlite_itself_is_interrupted(reading):
    """A query that would take minutes ends at its deadline."""
    endless = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1e10) SELECT max(i) FROM n"
    )

    with pytest.raises(QueryTooSlow, match=r"more than 0\.2 s"), reading.reader.within(0.2):
        reading.reader._rows(endless)
    assert reading.reader.dirty_count() == 0  # the connection still works


# --- the journal


def test_every_answer_is_in_the_journal(reading, data):
    """An answer is noted with account, question, time and rows; a repeat within the hour increments its line;
    a malformed question is not noted."""
    token = reading.account("noted", Role.ADMIN)
    reading.get("/api/v1/energy?to=2027-01-01&from=2026-01-01&limit=3", token)
    reading.get(f"/api/v1/energy?{YEAR}&limit=3", token)
    reading.get(f"/api/v1/energy?{YEAR}&secret=x", token)
    lines = [
        line
        for line in data.store.accounts.accesses(0, 2**62, account_id=None, limit=1000)
        if line.account == "noted"
    ]
    (line,) = lines
    assert (line.route, line.times, line.rows, line.status) == ("/api/v1/energy", 2, 3, 200)
    assert line.query == (
        "from=2026-01-01&to=2027-01-01&group_by=entity,device_class&page=1&limit=3&format=json"
    )
    assert line.first_unix_milliseconds == round(NOW.timestamp() * 1000)


def test_nothing_is_answered_unnoted(reading):
    """Without a journal the answer is 503, without a figure."""
    token = reading.account("unnoted")

    def fails(*_: object) -> None:
        raise AdminError("no collector runs")

    reading.desk.desk._note_access = fails
    answer = reading.get(EMISSIONS, token)
    assert (answer.status_code, answer.json()["type"]) == (503, "/api#no_journal")
    assert "kwh" not in answer.text


# --- the description


def test_the_page_and_the_description(reading):
    """Both are served, and the page names every route, parameter and problem in both languages."""
    description = json.loads(reading.get("/api/v1/openapi.json").text)
    for language in ("fr", "en"):
        page = reading.get(f"/api?lang={language}").text
        assert f'<html lang="{language}">' in page
        for path, methods in description["paths"].items():
            assert path in page
            for parameter in methods["get"].get("parameters", []):
                assert f'<th scope="row"><code>{parameter["name"]}</code></th>' in page, parameter
        for kind in TITLES:
            assert f'id="{kind}"' in page
        assert f'href="/api?lang={"en" if language == "fr" else "fr"}"' in page
