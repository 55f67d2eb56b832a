# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of both formats of /metrics and of the template of single hosts: the Prometheus client parses them,
whatever the labels hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric as Family
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.exposition.prometheus import Exposition

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
Write = Callable[[Exposition], bytes]
Parse = Callable[[str], Iterable[Family]]


def by_template(out: Exposition) -> bytes:
    """Write the exposition as /metrics/hosts does."""
    return out.text(c.CATALOGUE).encode()


FORMATS = [
    pytest.param(generate_latest, parse_text, id="text"),
    pytest.param(generate_openmetrics, parse_openmetrics, id="openmetrics"),
    pytest.param(by_template, parse_text, id="template"),
]


@pytest.mark.parametrize(("write", "parse"), FORMATS)
@given(TEXT, TEXT, st.floats(allow_nan=False, allow_infinity=False))
def test_labels_and_values_read_back(write: Write, parse: Parse, entity: str, site: str, value: float):
    """Quotes, backslashes, line feeds and any other character survive; the number is the same."""
    out = Exposition()
    out.add(c.POWER, (entity, site, "server", "server"), value)
    (family,) = parse(write(out).decode())
    (sample,) = family.samples
    assert sample.labels["entity"] == entity
    assert sample.labels["site"] == site
    assert sample.value == value


@pytest.mark.parametrize(
    ("write", "lines"), [(generate_latest, 4), (generate_openmetrics, 5), (by_template, 4)]
)
@given(st.text(max_size=30))
def test_hostile_label_stays_on_its_line(write: Write, lines: int, text: str):
    """No label value can start a new line, lone surrogates included."""
    out = Exposition()
    out.add(c.SILENT, (text,), 1)
    found = write(out).split(b"\n")
    assert len(found) == lines
    assert found[2].startswith(b"veilleuse_agents_silent{")


@pytest.mark.parametrize("write", [generate_latest, generate_openmetrics, by_template])
@given(st.integers(0, 2**53))
def test_integers_are_exact(write: Write, value: int):
    """Counts are exact up to 2^53, the limit of a Prometheus sample."""
    out = Exposition()
    out.add(c.GAP_RECORDS, ("server", "full"), value)
    (sample,) = [line for line in write(out).splitlines() if not line.startswith(b"#")]
    assert float(sample.split()[-1]) == value


def test_order_help_and_type_once():
    """Families come in the catalogue's order, each with one head; histogram buckets are cumulative, with
    count and sum."""
    out = Exposition()
    out.add_histogram(c.COMMIT, {0.1: 1, math.inf: 1, 0.05: 2}, 0.25)
    out.add(c.PUSHES, ("stored",), 2)
    out.add(c.PUSHES, ("conflict",), 1)
    samples = (
        'veilleuse_collector_pushes_total{outcome="stored"} 2.0\n'
        'veilleuse_collector_pushes_total{outcome="conflict"} 1.0\n'
        "# HELP veilleuse_collector_commit_seconds Time of durable commits, fsync included.\n"
        "# TYPE veilleuse_collector_commit_seconds histogram\n"
        'veilleuse_collector_commit_seconds_bucket{le="0.05"} 2.0\n'
        'veilleuse_collector_commit_seconds_bucket{le="0.1"} 3.0\n'
        'veilleuse_collector_commit_seconds_bucket{le="+Inf"} 4.0\n'
        "veilleuse_collector_commit_seconds_count 4.0\n"
        "veilleuse_collector_commit_seconds_sum 0.25\n"
    )
    assert generate_latest(out).decode() == (
        "# HELP veilleuse_collector_pushes_total Push calls answered, by outcome.\n"
        "# TYPE veilleuse_collector_pushes_total counter\n" + samples
    )
    assert generate_openmetrics(out).decode() == (
        "# HELP veilleuse_collector_pushes Push calls answered, by outcome.\n"
        "# TYPE veilleuse_collector_pushes counter\n" + samples + "# EOF\n"
    )
    assert out.series() == 7


def test_absent_metric_is_not_written():
    """A metric without sample gives no family."""
    assert generate_latest(Exposition()) == by_template(Exposition()) == b""


def test_wrong_number_of_labels_is_refused():
    """A missing label would shift all others."""
    with pytest.raises(ValueError, match="labels"):
        Exposition().add(c.POWER, ("DSI",), 1)
