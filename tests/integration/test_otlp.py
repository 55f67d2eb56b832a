# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Send metrics of a real `veilleuse serve` to a real VictoriaMetrics, which reads /metrics too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support import clock
from tests.support.databases import VictoriaMetrics, ask
from tests.support.peers import peer
from tests.support.stack import Stack, get
from tests.support.waiting import comes, until
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.settings import OtlpSettings
from veilleuse.collector.web.metrics.otlp import OtlpEndpoint

pytestmark = pytest.mark.machine_date  # of VictoriaMetrics
SCRAPE_SECONDS: Final = 5.0
RESOURCE: Final = {
    "service.name",
    "service.instance.id",
    "service_name",
    "service_instance_id",
    "job",
    "instance",
}
"""Labels that the receiver makes of the resource, or of the scrape's target."""
MOVING: Final = (
    "process_",
    "python_",
    "veilleuse_web_",
    "veilleuse_exposition_",
    "veilleuse_otlp_",
    "veilleuse_store_",
    c.CONTACT_AGE.name,
)
"""Starts of names whose values are of the moment."""
Series = frozenset[tuple[str, str]]


def series(url: str, matcher: str) -> dict[Series, float]:
    """Return the newest value of each series by its name and labels, without those of the resource."""
    found = {}
    for row in ask(url, f"{{{matcher}}}"):
        labels: Mapping[str, str] = row["metric"]
        if labels["__name__"] == "up" or labels["__name__"].startswith("scrape_"):
            continue
        # 1.0 is a bound in the text format, 1 in what receivers write of OTLP's number.
        own = {
            name: str(float(value)) if name == "le" else value
            for name, value in labels.items()
            if name not in RESOURCE
        }
        found[frozenset(own.items())] = float(row["value"][1])
    return found


def lasting(found: Mapping[Series, float]) -> dict[Series, float]:
    """Return the series whose values stay while nothing happens."""
    return {one: value for one, value in found.items() if not dict(one)["__name__"].startswith(MOVING)}


@dataclass
class Sending:
    """A collector that sends to a database, which reads its /metrics too."""

    stack: Stack
    database: VictoriaMetrics

    def exposed(self, name: str) -> float | None:
        """Return a value of /metrics without labels, or None."""
        lines = get(f"{self.stack.url}metrics").splitlines()
        values = [float(line.split()[1]) for line in lines if line.startswith(f"{name} ")]
        return values[0] if values else None


@pytest.fixture(scope="module")
def sending(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sending]:
    """Simulate a fleet of 20 machines; start the collector, and a VictoriaMetrics that also scrapes it."""
    folder = tmp_path_factory.mktemp("otlp")
    peer("victoria-metrics")
    with Stack(folder) as stack:
        scraped = stack.url.removeprefix("http://").rstrip("/")
        (folder / "scrape.yml").write_text(
            "scrape_configs:\n  - job_name: scraped\n    scrape_interval: 1s\n"
            f"    static_configs: [{{targets: ['{scraped}']}}]\n"
        )
        with VictoriaMetrics(folder, f"-promscrape.config={folder}/scrape.yml") as database:
            stack.must("veilleuse", "init", "--simulated")
            stack.must("veilleuse", "simulate", "--from", "2026-01-05", "--hosts", "20", "--days", "10")
            stack.environment |= {
                "VEILLEUSE__OTLP__ENDPOINT": f"{database.url}opentelemetry/v1/metrics",
                "VEILLEUSE__OTLP__INTERVAL_SECONDS": "1",
                "VEILLEUSE__OTLP__INSTANCE": "collector-1",
            }
            stack.start_collector()
            yield Sending(stack, database)


def test_each_series_is_that_of_a_scrape(sending):
    """Names, labels and values that were sent are those that the same database read from /metrics."""
    url = sending.database.url

    def both() -> tuple[dict[Series, float], dict[Series, float]]:
        sending.database.flush()
        return series(url, 'service.name="veilleuse"'), series(url, 'job="scraped"')

    assert comes(lambda: len(both()[0]) > 100 and both()[0].keys() == both()[1].keys())
    assert comes(lambda: lasting(both()[0]) == lasting(both()[1]))
    sent, scraped = both()
    assert {dict(one)["__name__"] for one in sent} >= {c.ENERGY.name, c.CONDITION_LEVEL.name, c.DIRTY.name}
    assert len(lasting(scraped)) > 100
    (row,) = ask(url, f'{c.OTLP_FAILURES.name}{{service.name="veilleuse"}}')
    assert row["metric"]["service.instance.id"] == "collector-1"


@pytest.mark.long
def test_an_outage_delays_no_scrape_and_is_told_once(sending):
    """While VictoriaMetrics is down, /metrics answers and counts failures; afterwards the series go on."""
    until(lambda: sending.exposed(c.OTLP_SENT.name) is not None, "nothing is sent")
    sending.database.stop()
    until(lambda: (sending.exposed(c.OTLP_FAILURES.name) or 0) >= 2, "no failure is counted")
    get(f"{sending.stack.url}metrics", SCRAPE_SECONDS)
    done = sending.stack.run("veilleuse", "doctor")
    assert "otlp" in done.stdout
    assert "metrics are not sent: cannot reach 127.0.0.1" in done.stdout
    lost = sending.exposed(c.OTLP_SENT.name)
    sending.database.start()
    until(lambda: sending.exposed(c.OTLP_FAILURES.name) == 0, "nothing is sent again")
    assert (sending.exposed(c.OTLP_SENT.name) or 0) > (lost or 0)
    assert comes(
        lambda: ask(sending.database.url, f'{c.OTLP_SENT.name}{{service.name="veilleuse"}} > {lost}') != []
    )
    said = sending.stack.log("veilleuse")
    assert said.count("metrics not sent") == 1
    assert said.count("metrics sent again") == 1


def test_receivers_that_name_by_unit_keep_our_names(sending, tmp_path):
    """VictoriaMetrics with Prometheus' naming appends units and `_total` where they lack: ours have them."""
    families = list(text_string_to_metric_families(get(f"{sending.stack.url}metrics")))
    names = {sample.name for family in families for sample in family.samples}
    assert len(names) > 40
    with VictoriaMetrics(tmp_path, "-opentelemetry.usePrometheusNaming") as database:
        endpoint = OtlpEndpoint(OtlpSettings(endpoint=f"{database.url}opentelemetry/v1/metrics"))
        endpoint.send(families, clock.unix_seconds())
        database.flush()
        assert comes(lambda: {dict(one)["__name__"] for one in series(database.url, '__name__!=""')} == names)
