# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test what is sent over OTLP, and what happens when the endpoint does not take it."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary

from tests.support.fakes.devices import Asked, FakeDevice, reply
from veilleuse.collector.errors import ConfigurationError
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.http_client import FetchError
from veilleuse.collector.settings import OtlpSettings
from veilleuse.collector.web.metrics import otlp
from veilleuse.collector.web.metrics.otlp import LONGEST_WAIT_SECONDS, OtlpEndpoint, OtlpSender, read_headers

TOKEN = "t0ken-of-a-test"


class Receiver:
    """A fake endpoint: it keeps the requests, and answers what `answer` is at that time."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answer = reply(200)
        self.device = FakeDevice(self._answer)

    def _answer(self, asked: Asked) -> bytes:
        self.asked.append(asked)
        return self.answer

    def settings(self, **more: Any) -> OtlpSettings:
        """Return settings that send here, each minute."""
        return OtlpSettings(endpoint=f"http://{self.device.address}/v1/metrics", **more)

    def request(self) -> ExportMetricsServiceRequest:
        """Return the last request."""
        return ExportMetricsServiceRequest.FromString(gzip.decompress(self.asked[-1].body))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Give a running fake endpoint."""
    made = Receiver()
    with made.device:
        yield made


def test_each_kind_of_metric_keeps_its_numbers(receiver):
    """A counter is a sum under its sample's name; each bucket counts its own values, not those below."""
    registry = CollectorRegistry()
    Counter("joules", "of it", ["state"], registry=registry).labels("on").inc(2.5)
    Gauge(c.STORE_FREE.name, "free", registry=registry).set(7)
    histogram = Histogram("commit_seconds", "time", buckets=(0.1, 1.0), registry=registry)
    for seconds in (0.05, 0.5, 0.6, 3.0):
        histogram.observe(seconds)
    Summary("web_seconds", "time", ["route"], registry=registry).labels("/").observe(0.25)
    OtlpEndpoint(receiver.settings(instance="c1")).send(registry.collect(), 1_796_000_000.5)
    (group,) = receiver.request().resource_metrics
    resource = {one.key: one.value.string_value for one in group.resource.attributes}
    assert resource == {"service.name": "veilleuse", "service.instance.id": "c1"}
    found = {metric.name: metric for metric in group.scope_metrics[0].metrics}
    (joules,) = found["joules_total"].sum.data_points
    assert (joules.as_double, joules.attributes[0].key, joules.time_unix_nano) == (
        2.5,
        "state",
        1796000000500000000,
    )
    assert found["joules_total"].sum.is_monotonic
    assert found[c.STORE_FREE.name].gauge.data_points[0].as_double == 7
    assert found[c.STORE_FREE.name].unit == "By"
    (commits,) = found["commit_seconds"].histogram.data_points
    assert (list(commits.bucket_counts), list(commits.explicit_bounds)) == ([1, 2, 1], [0.1, 1.0])
    assert (commits.count, commits.sum) == (4, 4.15)
    (web,) = found["web_seconds"].summary.data_points
    assert (web.count, web.sum, web.attributes[0].value.string_value) == (1, 0.25, "/")


def test_failures_wait_longer_and_are_logged_once(receiver, caplog):
    """Each failure doubles the wait up to five minutes; one line tells the first, one the end."""
    caplog.set_level(logging.INFO)
    sender = OtlpSender(receiver.settings(interval_seconds=60), tuple, lambda: 1_796_000_000.0)
    receiver.answer = reply(503)
    assert [sender.send() for _ in range(4)] == [120, 240, LONGEST_WAIT_SECONDS, LONGEST_WAIT_SECONDS]
    assert (sender.failures, sender.sent_unix_seconds) == (4, None)
    receiver.answer = reply(401)  # another reason is another line
    sender.send()
    receiver.answer = reply(200)
    assert sender.send() == 60
    assert (sender.failures, sender.sent_unix_seconds) == (0, 1_796_000_000.0)
    said = [record.getMessage() for record in caplog.records if record.name == otlp.__name__]
    assert said == ["metrics not sent", "metrics not sent", "metrics sent again"]


def test_a_long_interval_stays(receiver):
    """An hourly sending is not sent more often after a failure."""
    receiver.answer = reply(503)
    assert OtlpSender(receiver.settings(interval_seconds=3_600), tuple).send() == 3_600


def test_points_that_were_left_out_are_a_failure(receiver):
    """An answer 200 that rejects points, or that is no OTLP, is no success."""
    endpoint = OtlpEndpoint(receiver.settings())
    answer = ExportMetricsServiceResponse()
    answer.partial_success.rejected_data_points = 3
    answer.partial_success.error_message = "too many\nlabels"
    receiver.answer = reply(200, text=answer.SerializeToString())
    with pytest.raises(FetchError, match="did not take 3 points: too manylabels"):
        endpoint.send((), 1.0)
    receiver.answer = reply(200, text=b"<html>please sign in</html>")
    with pytest.raises(FetchError, match="speaks no OTLP"):
        endpoint.send((), 1.0)


def test_headers_come_from_a_file_that_may_change(receiver, tmp_path):
    """The token is read for each sending and is in no error; the headers of the content stay ours."""
    file = private(tmp_path / "headers", f"Authorization: Bearer {TOKEN}\n\nX-Scope-OrgID: lyon\n")
    endpoint = OtlpEndpoint(receiver.settings(headers_file=str(file)))
    endpoint.send((), 1.0)
    sent = receiver.asked[-1].headers
    assert (sent["authorization"], sent["x-scope-orgid"]) == (f"Bearer {TOKEN}", "lyon")
    assert (sent["content-type"], sent["content-encoding"]) == ("application/x-protobuf", "gzip")
    file.write_text(f"Authorization: Bearer {TOKEN}-2")
    endpoint.send((), 1.0)
    assert receiver.asked[-1].headers["authorization"] == f"Bearer {TOKEN}-2"
    receiver.answer = reply(403)
    with pytest.raises(FetchError) as failed:
        endpoint.send((), 1.0)
    assert TOKEN not in str(failed.value)


def private(file: Path, text: str) -> Path:
    """Write a file that only its owner can read."""
    file.touch(0o600)
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    "text", [f"Bearer {TOKEN}", f": {TOKEN}", f"a b: {TOKEN}", f"Content-Type: {TOKEN}", f"x: \0{TOKEN}"]
)
def test_a_line_that_is_no_header_is_refused(tmp_path, text):
    """The error names the line, and never its text: it may be a token."""
    with pytest.raises(FetchError, match=r"line 2 of .* is no header") as failed:
        read_headers(str(private(tmp_path / "headers", f"A: b\n{text}\n")))
    assert TOKEN not in str(failed.value)


def test_a_file_that_others_can_read_is_refused(tmp_path):
    """The file holds a secret, as every token file: mode 0600."""
    file = private(tmp_path / "headers", "A: b")
    file.chmod(0o640)
    with pytest.raises(FetchError, match="mode 0640"):
        read_headers(str(file))


def test_settings_that_cannot_be_used_are_refused_at_the_start(monkeypatch):
    """Plain HTTP leaves this machine for nobody; without the extra, the error says what to install."""
    with pytest.raises(FetchError, match="http only to this machine"):
        OtlpEndpoint(OtlpSettings(endpoint="http://otel.example.org/v1/metrics"))
    monkeypatch.setattr(otlp, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"install veilleuse\[collector,otlp\]"):
        OtlpEndpoint(OtlpSettings(endpoint="https://otel.example.org/v1/metrics"))
