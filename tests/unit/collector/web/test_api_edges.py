# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of /api/v1 at its limits: odd requests, questions without answer, time, basis of figures."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest

from tests.support.filled import METER, Filled, cell, civil, clock
from tests.support.publishing import publish_months
from tests.support.reading import DOOR_TOKEN, Reading
from tests.support.rolled import days_of, retention, roll
from veilleuse.collector.documents.document import Document
from veilleuse.collector.errors import QueryTooSlow
from veilleuse.collector.model.accounts import Role
from veilleuse.collector.model.months import NOTHING, DayType, HostPeriod
from veilleuse.collector.model.records import HostId
from veilleuse.collector.web import desk
from veilleuse.collector.web.api.answers import _TimedPeriods
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

NOW = datetime(2026, 11, 25, 10, 30, tzinfo=UTC)
HOUR = 3_600_000
YEAR = "from=2026-01-01&to=2027-01-01"


def fill(data: Filled) -> None:
    """Add a server since yesterday, and twelve workstations with an October."""
    start = round(NOW.timestamp() * 1000) - 30 * HOUR
    start -= start % HOUR
    server = data.add_host(entity="A", enrolled_on=date(2026, 11, 24))
    cells = [cell(State.ON_ACTIVE, HOUR, energy_millijoules=100 * HOUR, busy_ratio=0.4)]
    data.push(server, [(clock(start, HOUR), cells)], METER)
    for _ in range(12):
        host = data.add_host(
            Population.WORKSTATION, DeviceClass.LAPTOP, entity="A", enrolled_on=date(2026, 10, 1)
        )
        days = days_of(date(2026, 10, 1), date(2026, 10, 6))
        data.push(host, [(civil(day), [cell(State.ON_IDLE, 5 * HOUR, Band.NIGHT)]) for day in days])
    data.derive()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """Return a store to read."""
    with Filled(tmp_path_factory.mktemp("edges") / "data", clock=NOW.timestamp) as filled:
        fill(filled)
        publish_months(filled, NOW.date())
        yield filled


@pytest.fixture
def reading(data: Filled) -> Iterator[Reading]:
    """Run the application over it, with the gateway's token set."""
    with Reading(data, door_token=DOOR_TOKEN, clock=NOW.timestamp, hosts_metrics=True) as made:
        yield made


@pytest.fixture
def admin(reading: Reading, request: pytest.FixtureRequest) -> str:
    """Return an administrator's token, of a separate account."""
    return reading.account(f"admin-{abs(hash(request.node.name))}", Role.ADMIN)


# --- odd requests


@pytest.mark.parametrize("sent", [b"Basic \xe9", b"Basic =", b"Basic /w==", b"Bearer \xff", b"Basic"])
def test_a_header_that_is_no_token_is_refused_as_one(reading, sent):
    """A header that is no base64, ASCII or UTF-8 gets 401, as any wrong token does."""
    answer = reading.get("/api/v1/factors", authorization=sent)
    assert answer.status_code == 401
    assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("path", ["/healthz%09", "/healthz%3f", "/healthz%23", "/metrics/"])
def test_the_gate_goes_by_the_routers_path(reading, admin, path):
    """A path that the router does not know is not open, and leads nowhere else."""
    assert reading.get(path).status_code == 401
    assert reading.get(path, host="x/healthz?").status_code == 401
    assert reading.get(path, admin).status_code == 404


@pytest.mark.parametrize("host", ["x/healthz?", "x/healthz#", "x\\healthz", "healthz"])
def test_a_host_header_opens_no_route(reading, host):
    """The gate decides by the path, whatever a URL made of host and path would be."""
    for path in ("/metrics", "/metrics/hosts", "/", f"/api/v1/emissions?{YEAR}"):
        assert reading.get(path, host=host).status_code == 401


# --- questions without an answer


@pytest.mark.parametrize(
    "period",
    ["from=2024-02-29&to=2024-03-31", "from=2024-02-01&to=2024-02-29", "from=2024-02-29&to=2024-03-01"],
)
def test_a_year_before_29_february_is_found(reading, admin, period):
    """The comparison with the year before has no 29 February, and the report is answered."""
    assert reading.get(f"/api/v1/emissions?{period}", admin).status_code == 200


def test_days_that_are_gone_are_a_question_without_answer(tmp_path):
    """A part of a month without days gets 422 with the reason; a whole month is answered."""
    with Filled(tmp_path / "data", clock=NOW.timestamp) as data:
        for _ in range(12):
            host = data.add_host(Population.WORKSTATION, DeviceClass.LAPTOP)
            days = days_of(date(2026, 5, 1), date(2026, 6, 1))
            data.push(host, [(civil(day), [cell(State.ON_IDLE, 5 * HOUR, Band.NIGHT)]) for day in days])
        data.derive()
        roll(data, NOW.date())
        retention(data).run(NOW.date())
        with Reading(data, clock=NOW.timestamp) as reading:
            token = reading.account("a", Role.ADMIN)
            url = "/api/v1/emissions?from=2026-05-08&to=2026-06-01"
            answer = reading.get(url, token, accept_language="en")
            problem = answer.json()
            assert (answer.status_code, problem["type"]) == (422, "/api#unanswerable")
            assert "days of 2026-05 are gone" in problem["detail"]
            assert "let from and to be the 1st" in problem["detail"]
            whole = reading.get("/api/v1/emissions?from=2026-05-01&to=2026-06-01", token)
            assert whole.json()["totals"][0]["n"] == 12


def test_what_has_no_answer_is_noted_too(reading, data):
    """A page that does not exist is noted, as it shows the number of rows; a malformed question is not."""
    token = reading.account("curious")
    assert reading.get(f"/api/v1/energy?{YEAR}&page=7", token).status_code == 422
    assert reading.get(f"/api/v1/energy?{YEAR}&limit=0", token).status_code == 400
    lines = data.store.accounts.accesses(0, 2**62, account_id=None, limit=99)
    (line,) = [one for one in lines if one.account == "curious"]
    assert (line.status, line.rows) == (422, 0)
    assert "page=7" in line.query


def test_what_is_kept_is_bounded(reading, monkeypatch):
    """Kept answers are bounded in number, rows and age; the newest stays, however large."""
    row = {"n": 1}

    def of(number: int) -> Document:
        return Document({}, (), {"rows": [row] * number}, ("rows",))

    monkeypatch.setattr(desk, "KEPT_ROWS", 40)
    for name in range(desk.KEPT_ANSWERS + 2):
        reading.desk.desk._keep((name,), of(1))
    assert len(reading.desk.desk._cache) == desk.KEPT_ANSWERS
    reading.desk.desk._keep(("many",), of(39))
    assert len(reading.desk.desk._cache) == 2
    reading.desk.desk._keep(("more",), of(50))
    assert list(reading.desk.desk._cache) == [("more",)]
    monkeypatch.setattr(desk, "KEEP_SECONDS", 0.0)
    reading.desk.desk._keep(("new",), of(1))
    assert list(reading.desk.desk._cache) == [("new",)]


# the administrator's report, bounded in time


def test_the_administrators_report_is_ended_in_time(reading, admin):
    """A report beyond its time gets 503 with a remedy, and the next question is answered."""
    known, ticks = reading.reader._now, iter(range(0, 100_000_000, 25))
    reading.reader._now = lambda: float(next(ticks))  # a clock on which every look takes 25 s
    for kind in ("emissions", "energy", "coverage", "indicators"):
        answer = reading.get(f"/api/v1/{kind}?{YEAR}", admin, accept_language="en")
        assert (answer.status_code, answer.json()["type"]) == (503, "/api#too_slow"), kind
        assert "shorter period" in answer.json()["remedy"]
        assert answer.headers["retry-after"]
    reading.reader._now = known
    assert reading.get(f"/api/v1/emissions?{YEAR}", admin).status_code == 200


def test_the_clock_is_looked_at_between_two_machines():
    """Time is checked at each machine's row: once it is over, no further row is given."""
    looks: list[int] = []

    def check_time() -> None:
        looks.append(1)
        if len(looks) == 3:
            raise QueryTooSlow("late")

    row = HostPeriod(HostId(1), date(2026, 1, 1), DayType.OPEN, Band.OPEN, NOTHING)

    class Kept:
        def host_periods(self, _first: date, _end: date) -> Iterator[HostPeriod]:
            yield from [row] * 5

        host_months = host_periods

    for rows in (
        _TimedPeriods(Kept(), check_time).host_periods,
        _TimedPeriods(Kept(), check_time).host_months,
    ):
        looks.clear()
        given = rows(date(2026, 1, 1), date(2027, 1, 1))
        assert next(given) is row
        with pytest.raises(QueryTooSlow):
            next(given)


def test_the_report_reads_on_connections_that_end_in_time(reading, admin, monkeypatch):
    """The report's queries run on the bounded reader, and leave it usable."""
    seen: list[float | None] = []
    asked = reading.reader.hosts

    def hosts():
        seen.append(getattr(reading.reader._local, "deadline", None))
        return asked()

    monkeypatch.setattr(reading.reader, "hosts", hosts)
    assert reading.get(f"/api/v1/emissions?{YEAR}&basis=unreleased", admin).status_code == 200
    assert seen
    assert None not in seen
    assert reading.reader.hosts()


def test_a_transaction_left_open_is_ended(reading):
    """A transaction left open is ended, so that the connection holds no snapshot."""
    with reading.reader.within(30):
        reading.reader._database().connection.execute("BEGIN")
        reading.reader.hosts()
    assert not reading.reader._database().connection.in_transaction


# the basis of figures


def test_each_answer_says_what_it_is_of(reading, admin):
    """All accounts get the fleet's released figure; with basis=observed rows say `observed`, in CSV too."""
    reader = reading.account("of-what")
    october = "from=2026-10-01&to=2026-11-01"
    for kind in ("emissions", "energy", "coverage"):
        for token in (reader, admin):
            fleet = reading.get(f"/api/v1/{kind}?{october}", token).json()
            assert (fleet["report"]["figures"], fleet["report"]["basis"]) == ("fleet", "released")
            assert "observed" not in {row["basis"] for row in (*fleet["rows"], *fleet["totals"])}
            answer = reading.get(f"/api/v1/{kind}?{october}&basis=observed", token).json()
            assert (answer["report"]["figures"], answer["report"]["basis"]) == ("observed", "observed")
            tables = [*answer["rows"], *answer["totals"]]
            assert tables
            assert {row["basis"] for row in tables} == {"observed"}
        text = reading.get(f"/api/v1/{kind}?{october}&basis=observed&format=csv", reader).text
        assert {line["basis"] for line in csv.DictReader(io.StringIO(text))} == {"observed"}
    for token in (reader, admin):
        assert reading.get(f"/api/v1/indicators?{october}", token).json()["report"]["figures"] == "observed"


def test_the_assumptions_are_those_of_the_basis(reading, admin):
    """Released figures say what they are, without what is true of machines' data alone."""
    reader = reading.account("assuming")
    for token, basis in (
        (reader, "released"),
        (reader, "observed"),
        (admin, "released"),
        (admin, "unreleased"),
    ):
        url = f"/api/v1/emissions?from=2026-10-01&to=2026-11-01&basis={basis}"
        told = reading.get(url, token, accept_language="en").json()["assumptions"]
        assert told[0].startswith(f"{basis.capitalize()}: ")
        of_machines = [text for text in told if "short silences of a machine" in text or "subtracted" in text]
        assert len(of_machines) == (2 if basis == "unreleased" else 0)


def test_the_assumptions_are_in_the_language_asked_for(reading):
    """The notes of an answer are French, as its errors, or English; an answer says that it depends on it."""
    url, token = "/api/v1/indicators?from=2026-10-01&to=2026-11-01", reading.account("translating")
    french, english = (reading.get(url, token, accept_language=one) for one in ("fr", "en"))
    assert {one.headers["vary"] for one in (french, english)} == {"Accept, Accept-Language, Authorization"}
    assert french.json()["assumptions"][0].startswith("Les rapports portent sur le temps observé")
    assert english.json()["assumptions"][0].startswith("Ratios are of observed time only")
    assert len(french.json()["assumptions"]) == len(english.json()["assumptions"])
    assert reading.get(url, token).json()["assumptions"] == french.json()["assumptions"]


def test_the_head_of_an_administrators_answer_is_the_reports(reading, admin):
    """An administrator's head has the report's state and no balance over years."""
    head = reading.get(f"/api/v1/emissions?{YEAR}", admin).json()["report"]
    assert head["state"] == "open"
    assert "unexplained_milliseconds" not in head  # the days of a year are not all stored
    month = reading.get("/api/v1/emissions?from=2026-11-01&to=2026-12-01", admin).json()["report"]
    assert month["unexplained_milliseconds"] >= 0
    assert month["role"] == "admin"


def test_an_answer_claims_95_percent_of_what_was_measured_alone(reading, admin):
    """No name or note of the fleet's figure says 95, since the sample was not drawn at random. The observed
    energy has its 95 %."""
    for route in ("emissions", "energy"):
        answer = reading.get(f"/api/v1/{route}?{YEAR}", admin).json()
        assert {row["representativeness"] for row in answer["totals"]} == {"not demonstrated"}
        for row in answer["totals"]:
            assert row["interval"] == "sample only"
            assert row["kwh_lo_sensitivity"] <= row["kwh_lo_sample"] <= row["kwh_total"]
        names = {name for table in ("rows", "totals") for row in answer[table] for name in row}
        assert [text for text in (*names, *answer["assumptions"]) if "95" in text] == []
        head = reading.get(f"/api/v1/{route}?{YEAR}&format=csv", admin).text.splitlines()[0]
        assert ("kwh_hi_sensitivity" in head, "95" in head) == (True, False)
        told = reading.get(f"/api/v1/{route}?{YEAR}&basis=observed", admin).json()
        assert told["totals"]
        for row in told["totals"]:
            assert (row["interval"], row["basis"]) == ("95 %", "observed")
            assert row["kwh_lo95"] <= row["kwh_total"]
