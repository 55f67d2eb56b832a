# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the application as a client sees it: routes, roles, headers, hostile names, figures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import ASGIApp

from tests.support.clock import unix_milliseconds
from tests.support.filled import (
    METER,
    Filled,
    cell,
    civil,
    clock,
    minutes_of_server,
    reporting_day,
    start_of_minute,
    week,
)
from tests.support.publishing import monthly_figures, publish_months
from tests.support.reading import Reading
from veilleuse.collector.settings import CollectorSettings, Http
from veilleuse.collector.silence import PRESENCE, Past, Silence, SilenceLevel
from veilleuse.collector.web.access import MetricsAuth
from veilleuse.collector.web.app import make_app
from veilleuse.collector.web.metrics import snapshot
from veilleuse.collector.web.metrics.released_month import MonthView, last_month
from veilleuse.collector.web.metrics.samples import energy_today
from veilleuse.collector.web.metrics.scrape import series_bound
from veilleuse.collector.web.metrics.snapshot import SnapshotCache
from veilleuse.collector.web.pages.table import PAGES
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Band, DeviceClass, GapReason, Population, State, Supply

TOKEN = "0123456789abcdef0123456789abcdef"
HOSTILE = "<script>alert(1)</script>\"'&\\ =cmd|é"


class Site:
    """A client of the application, without a socket."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def get(self, url: str, headers: dict[str, str] | None = None, method: str = "GET") -> httpx.Response:
        """Return the answer, whatever its status."""
        return asyncio.run(self._ask(method, url, headers or {}))

    async def _ask(self, method: str, url: str, headers: dict[str, str]) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8640") as client:
            return await client.request(method, url, headers=headers)


Client = Callable[..., Site]
Parse = Callable[[str], Iterable[Metric]]


@pytest.fixture
def data(tmp_path) -> Iterator[Filled]:
    """Return an empty store."""
    with Filled(tmp_path / "data") as filled:
        yield filled


@pytest.fixture
def client(data) -> Iterator[Client]:
    """Return a maker of clients over the store, with the server's `token` and `host`."""
    opened = []

    def make(
        token: str | None = None,
        host: str = "127.0.0.1",
        hosts_metrics: bool = False,
        month: Callable[[], MonthView | None] = lambda: None,
    ) -> Site:
        settings = CollectorSettings(data_dir=data.directory, http=Http(hosts_metrics=hosts_metrics))
        reader = data.reader()
        opened.append(reader)
        outlook = SnapshotCache(reader, settings, month=month)
        return Site(make_app(outlook, settings, MetricsAuth(host, 8640, token), "0.1.0"))

    yield make
    for reader in opened:
        reader.close()


def a_server_and_a_virtual_machine(data: Filled) -> None:
    """Add 15 minutes of a metered server, and of a virtual machine known by its load."""
    server = data.add_host(entity="DSI")
    data.push(server, minutes_of_server(20, 15, 180.0), METER)
    virtual = data.add_host(device_class=DeviceClass.VIRTUAL_MACHINE)
    start = start_of_minute(20)
    data.push(
        virtual,
        [
            (clock(start + i * 60_000, 60_000), [cell(State.ON_ACTIVE, 60_000, busy_ratio=0.5)])
            for i in range(15)
        ],
    )
    data.derive()


def samples(
    text: str, parse: Parse = text_string_to_metric_families
) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return (name, labels) → value; fail on a series given twice."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in parse(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


def of(text: str, name: str, **labels: str) -> list[float]:
    """Return the values of the series that have these labels."""
    return [
        value
        for (found, pairs), value in samples(text).items()
        if found == name and labels.items() <= dict(pairs).items()
    ]


def test_metrics_of_two_servers(data, client):
    """Joules and grams are those of the records, watts the last record's; virtual machines are separate."""
    a_server_and_a_virtual_machine(data)
    text = client().get("/metrics").text
    assert of(text, "veilleuse_energy_joules_total", device_class="server") == [180.0 * 900]
    (grams,) = of(text, "veilleuse_emissions_grams_total", device_class="server")
    assert grams == pytest.approx(180 * 900 / 3_600_000 * 46.1)
    assert of(text, "veilleuse_power_watts", device_class="server") == [180.0]
    (memo,) = of(text, "veilleuse_power_watts", device_class="virtual_machine")
    assert memo > 0
    assert of(text, "veilleuse_factor_gco2e_per_kwh", provisional="true") == [46.1]
    assert of(text, "veilleuse_state_seconds_total", state="on_active") == [2 * 900]
    assert of(text, "veilleuse_collector_up") == [0]
    assert of(text, "veilleuse_store_records") == [30]
    assert of(text, "veilleuse_derive_backlog_periods") == [0]
    assert of(text, "process_resident_memory_bytes")[0] > 0


def test_not_known_is_absent_never_zero(data, client):
    """A virtual machine that was off, and one never heard of, have no watts, joules or emissions."""
    off = data.add_host(device_class=DeviceClass.VIRTUAL_MACHINE, contact=False)
    start = start_of_minute(10)
    data.push(off, [(clock(start, 60_000), [cell(State.OFF, 60_000, Band.OPEN, Supply.UNKNOWN)])])
    data.add_host(contact=False)
    data.derive()
    http = client()
    text = http.get("/metrics").text
    for name in ("energy_joules_total", "emissions_grams_total", "power_watts", "day_energy_joules"):
        assert of(text, f"veilleuse_{name}") == []
    with Reading(data) as reading:
        home, servers = (reading.get(f"{path}?lang=en").text for path in ("/", "/serveurs"))
    assert "not known" in home
    assert "1 without a recent record" in home
    for page in (home, servers):
        assert "0 W" not in page.replace("\u00a0", " ")
    assert '<svg class="chart"' not in servers


def test_counters_never_go_down(data, client):
    """Counters do not fall while records come in, nor after everything is derived again."""
    server = data.add_host()
    data.push(server, minutes_of_server(30, 5, 100.0), METER)
    data.derive()
    first = of(client().get("/metrics").text, "veilleuse_energy_joules_total")
    data.push(server, minutes_of_server(20, 5, 100.0), METER)
    data.derive()
    second = of(client().get("/metrics").text, "veilleuse_energy_joules_total")
    data.store.derive.mark_all_dirty()
    data.derive()
    third = of(client().get("/metrics").text, "veilleuse_energy_joules_total")
    assert first == [30_000.0]
    assert second == third == [60_000.0]


def test_a_new_class_moves_no_counter(data, client):
    """When a machine changes its class, counters of the old class stay."""
    server = data.add_host()
    data.push(server, minutes_of_server(20, 5, 100.0), METER)
    data.derive()
    before = samples(client().get("/metrics").text)
    facts = pb.Facts(device_class=pb.DEVICE_CLASS_TOWER, cpu_count=8).SerializeToString()
    data.store.registry.record_hello(
        server, facts_wire=facts, health_wire=None, now_unix_milliseconds=unix_milliseconds()
    )
    data.push(server, minutes_of_server(10, 5, 100.0), METER)
    data.derive()
    text = client().get("/metrics").text
    assert of(text, "veilleuse_state_seconds_total") == [600.0]
    after = samples(text)
    counters = {key for key in before if key[0].startswith("veilleuse_") and key[0].endswith("_total")}
    assert counters
    assert all(after[key] >= before[key] for key in counters)


def test_workstations_have_no_live_series(data, client):
    """12 workstations show their number and silence until a month is released; no clock, no watts."""
    day = reporting_day()
    for number in range(12):
        host = data.add_host(Population.WORKSTATION, DeviceClass.LAPTOP, entity=f"E{number % 2}")
        records = [
            (civil(day - timedelta(days=back)), [cell(State.ASLEEP, 50_400_000, Band.NIGHT)])
            for back in range(3, 8)
        ]
        records.append((week(day - timedelta(days=10)), [cell(State.ON_ACTIVE, 90_000_000, busy_ratio=0.2)]))
        data.push(host, records)
    data.derive()
    three_days_ago = day - timedelta(days=3)
    good = Silence(Population.WORKSTATION, SilenceLevel.GOOD, 0, 10, three_days_ago)
    data.store.registry.put_meta(PRESENCE, Past(three_days_ago, day, told=(good,)).to_json())
    http = client(hosts_metrics=True)
    text = http.get("/metrics").text
    shown = {name for (name, labels), _ in samples(text).items() if ("population", "workstation") in labels}
    assert shown == {"veilleuse_hosts", "veilleuse_agents_silent", "veilleuse_silence_level"}
    assert http.get("/metrics/hosts").text == ""
    with Reading(data) as reading:
        for path in ("/", "/serveurs", "/parc"):
            assert "E0" not in reading.get(f"{path}?lang=fr").text


def test_nine_workstations_are_withheld(data, client):
    """Nine workstations show their number in the registry only."""
    for _ in range(9):
        data.add_host(Population.WORKSTATION, DeviceClass.LAPTOP, entity="Rare")
    text = client().get("/metrics").text
    assert of(text, "veilleuse_hosts", population="workstation") == [9]
    shown = {name for (name, labels), _ in samples(text).items() if ("population", "workstation") in labels}
    assert shown == {"veilleuse_hosts"}


@pytest.mark.promise("P14")
@pytest.mark.parametrize("population", [Population.WORKSTATION, Population.CLASSROOM])
def test_no_scrape_tells_when_a_pc_called(data, client, population, figure, monkeypatch):
    """P14: a PC's push and another's enrolment change no line of their population on /metrics that day."""
    monkeypatch.setattr(snapshot, "KEEP_SECONDS", -1.0)  # each look reads
    hosts = [data.add_host(population, DeviceClass.LAPTOP) for _ in range(12)]
    http = client()

    def of_population() -> list[str]:
        text = http.get("/metrics").text
        return [line for line in text.splitlines() if f'population="{population}"' in line]

    day = reporting_day() - timedelta(days=4)
    gap = ((GapReason.SENSOR_LOST, "linux_rapl", 5_000),)
    before: list[str] = []
    moved: set[str] = set()
    health = pb.Health(agent_version="0.1.0", spool_records=900, spool_bytes=1 << 20).SerializeToString()
    for host in hosts[:2]:  # repeated where midnight came between: a new day has a new first look
        today, before = reporting_day(), of_population()
        assert before
        data.push(host, [(civil(day), [cell(State.ASLEEP, 1_000, Band.NIGHT)])], sensor_gaps=gap)
        now = unix_milliseconds() + 2 * 86_400_000
        data.store.registry.record_hello(host, facts_wire=None, health_wire=health, now_unix_milliseconds=now)
        data.add_host(population, DeviceClass.LAPTOP)
        data.derive()
        moved = set(of_population()) ^ set(before)
        if reporting_day() == today:
            break
    figure(f"{len(moved)} of {len(before)} lines of /metrics changed by a {population}'s call")
    assert moved == set()


def test_hostile_names_add_no_series_beyond_the_bound(data, client):
    """S11: 200 servers with invented sources and versions stay within the bound of series."""
    for number in range(200):
        invented = [(f"source_{number}_{i}", 1, 0, None) for i in range(20)]
        data.add_host(sources=invented, agent_version=f"9.9.{number}")
    http = client()
    text = http.get("/metrics").text
    assert {labels for (name, labels) in samples(text) if name == "veilleuse_source_success"} == {
        frozenset({("source", "other"), ("outcome", outcome)}) for outcome in ("success", "failure")
    }
    assert len(of(text, "veilleuse_agent_version_hosts")) == 6
    ours = [key for key in samples(text) if key[0].startswith("veilleuse_")]
    reader = data.reader()
    settings = CollectorSettings(data_dir=data.directory)
    assert len(ours) <= series_bound(SnapshotCache(reader, settings).take_snapshot().fleet)
    reader.close()


class Tags(HTMLParser):
    """Elements and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


@pytest.mark.parametrize("language", ["fr", "en"])
def test_hostile_names_are_text(data, client, language):
    """S16: an entity and a site with markup are shown as text, without script, inline style or handler."""
    data.add_site(HOSTILE)
    first, _ = last_month(reporting_day())
    for _ in range(12):
        host = data.add_host(Population.CLASSROOM, DeviceClass.TOWER, entity=HOSTILE, site=HOSTILE)
        hour = (clock(midday(first), 3_600_000), [cell(State.ON_IDLE, 3_600_000, busy_ratio=0.01)])
        data.push(host, [hour])
    data.add_host(entity=HOSTILE, site=HOSTILE)
    data.derive()
    publish_months(data, reporting_day())
    indicators = monthly_figures(data)
    indicators.refresh()
    with Reading(data) as reading:
        for path in (f"/bilan?by=entity&year={first.year}&", "/serveurs?"):
            text = reading.get(f"{path}lang={language}").text
            page = Tags(text)
            assert "script" not in page.tags
            assert "style" not in page.tags
            assert not [name for name, _ in page.attributes if name.startswith("on") or name == "style"]
            assert "&lt;script&gt;alert(1)" in text
    metrics = samples(client(month=indicators.month).get("/metrics").text)
    assert any(("entity", HOSTILE) in labels for _, labels in metrics)


def midday(day: date) -> int:
    """Return Unix milliseconds of 12:00 UTC."""
    return round(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp() * 1000)


def test_page_says_what_is_provisional(data):
    """The factor is provisional, in plain French, for a reader whose browser asks for it."""
    a_server_and_a_virtual_machine(data)
    with Reading(data) as reading:
        html, home = (reading.get(path, accept_language="fr-FR").text for path in ("/methode", "/"))
    assert "Provisoire\u00a0: le facteur de" in html
    assert "L’absence de mesure n’est jamais comptée comme zéro." in html
    assert "Le service de réception ne répond pas" in home


def test_empty_fleet_says_what_to_do(data):
    """An empty fleet shows how to begin, and no chart."""
    with Reading(data) as reading:
        for path, said in (("/", "No machine is enrolled"), ("/serveurs", "No server is enrolled")):
            html = reading.get(f"{path}?lang=en").text
            assert said in html
            assert '<svg class="chart"' not in html


def test_simulated_data_says_so(tmp_path):
    """Page and metrics of a simulated directory say so."""
    with Filled(tmp_path / "s", simulated=True) as data:
        settings = CollectorSettings(data_dir=data.directory)
        reader = data.reader()
        app = make_app(SnapshotCache(reader, settings), settings, MetricsAuth("127.0.0.1", 1, None), "0.1.0")
        http = Site(app)
        assert "Simulated data" in http.get("/methode?lang=en").text
        assert 'simulated="true"' in http.get("/metrics").text
        reader.close()


ROUTES = {"/methode": 200, "/metrics": 200, "/metrics/hosts": 200}
"""Every route that needs the token, but for pages: tests of pages try each."""
OPEN = {"/healthz": 200, "/static/veilleuse.css": 200, "/connexion": 200, "/deconnexion": 405}
"""Routes that answer anyone."""


@pytest.mark.parametrize("route", [*ROUTES, *OPEN, "/nothing"])
@pytest.mark.parametrize("authorization", [None, "Bearer wrong", f"Bearer {TOKEN}"])
def test_matrix_of_roles(client, route, authorization):
    """S13: without the token, only the sign-in, its style and /healthz are served."""
    http = client(TOKEN, "192.0.2.1", hosts_metrics=True)
    headers = {"authorization": authorization} if authorization else {}
    response = http.get(route, headers=headers)
    if route in OPEN:
        assert response.status_code == OPEN[route]
    elif authorization == f"Bearer {TOKEN}":
        assert response.status_code == ROUTES.get(route, 404)
    else:
        assert response.status_code == 401
        assert "Bearer" in response.headers.get_list("www-authenticate")
        assert "veilleuse_" not in response.text


def test_the_matrix_knows_every_route(client):
    """A new route without a row in ROUTES fails."""
    app = client(hosts_metrics=True).app
    known = {route.replace("veilleuse.css", "{name}") for route in (*ROUTES, *OPEN)}
    known |= {page.path for page in PAGES}
    assert app._routes == known


@pytest.mark.parametrize(
    "route", ["/", "/metrics", "/nothing", "/static/veilleuse.css", "/static/..%2Fapp.py"]
)
def test_security_headers_everywhere(client, route):
    """Pages and errors have a strict policy, and /static serves no other file."""
    response = client().get(route)
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "same-origin"
    assert "import" not in response.text or route == "/"


def test_clean_errors(client):
    """404, 405 with Allow and 400 for a foreign host are short pages."""
    http = client()
    missing = http.get("/nothing?lang=en")
    assert missing.status_code == 404
    assert "This page does not exist." in missing.text
    posted = http.get("/metrics", method="POST")
    assert (posted.status_code, set(posted.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})
    assert posted.headers["content-type"].startswith("text/plain")
    assert http.get("/", headers={"host": "evil.example"}).status_code == 400


def test_unreadable_store_is_503(data, client, monkeypatch):
    """An overwritten database gives 503 in plain words, on /healthz too."""
    monkeypatch.setattr(snapshot, "KEEP_SECONDS", -1.0)  # each look reads
    http = client()
    assert http.get("/healthz").status_code == 200
    data.add_host()
    data.store.data.checkpoint()  # the reader must read the file again
    (data.directory / "data.db").write_bytes(b"not a database" * 20_000)
    response = http.get("/methode?lang=en")
    assert response.status_code == 503
    assert "cannot be read" in response.text
    assert "Traceback" not in response.text
    assert http.get("/healthz").status_code == 503


def test_hosts_metrics_are_opt_in_and_by_agent_id(data, client):
    """The route is 404 by default; when enabled, hosts have the id of `veilleuse hosts`, not their row."""
    a_server_and_a_virtual_machine(data)
    assert client().get("/metrics/hosts").status_code == 404
    text = client(hosts_metrics=True).get("/metrics/hosts").text
    server = data.store.registry.hosts()[0].agent_id.hex()
    assert of(text, "veilleuse_host_power_watts", host=server[:12]) == [180.0]


def test_the_scraper_chooses_the_format(data, client):
    """OpenMetrics and text have the same samples; a version that cannot be compared gives text."""
    a_server_and_a_virtual_machine(data)
    http, versions = client(), ("1.0.0", "1.0.0;escaping=allow-utf-8;q=0.6", "1.x", '9.0.0.x"')
    asked = ["*/*", *(f"application/openmetrics-text;version={one},text/plain;q=0.3" for one in versions)]
    plain, first, second, *others = (http.get("/metrics", {"accept": one}) for one in asked)
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert all(one.headers["content-type"] == plain.headers["content-type"] for one in others)
    energy = {one for one in samples(plain.text).items() if "joules" in one[0][0]}
    assert energy
    for answer, escaping in ((first, "underscores"), (second, "allow-utf-8")):
        openmetrics = f"application/openmetrics-text; version=1.0.0; charset=utf-8; escaping={escaping}"
        assert answer.headers["content-type"] == openmetrics
        assert samples(answer.text, parse_openmetrics).items() >= energy


def test_durations_are_labelled_by_our_routes_only(client):
    """Made-up paths make one series."""
    http = client()
    for number in range(20):
        http.get(f"/made/up/{number}")
    text = http.get("/metrics").text
    assert of(text, "veilleuse_web_request_seconds_count", code="404") == [20.0]


def test_emissions_of_a_part_are_not_those_of_all(data):
    """With one of two zones without a factor, the day has no emissions, and the page says why."""
    data.push(data.add_host(), minutes_of_server(20, 15, 180.0), METER)
    data.add_site("ailleurs", zone="ZZ")
    data.push(data.add_host(site="ailleurs"), minutes_of_server(20, 15, 180.0), METER)
    data.derive()
    with Reading(data) as reading:
        page = reading.get("/?lang=fr").text
    assert "Aucun facteur d’émission n’est connu pour la zone ZZ\u00a0: ses émissions manquent" in page
    with closing(data.reader()) as reader:
        settings = CollectorSettings(data_dir=data.directory)
        energy, grams = energy_today(SnapshotCache(reader, settings).take_snapshot(), virtual=False)
    assert (energy, grams) == (2 * 180 * 900 * 1000, None)
