# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The text format: parsed back by the Prometheus client, whatever the labels hold."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.parser import text_string_to_metric_families

from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.exposition.prometheus import CONTENT_TYPE, Exposition, render_registry

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(TEXT, TEXT, st.floats(allow_nan=False, allow_infinity=False))
def test_labels_and_values_read_back(entity, site, value):
    """Quotes, backslashes, line feeds and any other character survive; the number is the same."""
    out = Exposition()
    out.add(c.POWER, (entity, site, "server", "server"), value)
    (family,) = text_string_to_metric_families(out.render())
    (sample,) = family.samples
    assert sample.labels["entity"] == entity
    assert sample.labels["site"] == site
    assert sample.value == value


@given(st.text(max_size=30))
def test_hostile_label_stays_on_its_line(text):
    """No label value can start a line of its own, lone surrogates included."""
    out = Exposition()
    out.add(c.SILENT, (text,), 1)
    lines = out.render().encode().split(b"\n")
    assert len(lines) == 4
    assert lines[2].startswith(b"veilleuse_agents_silent{")


@given(st.integers(0, 10**18))
def test_integers_are_exact(value):
    """Counters are integers as long as they can be."""
    out = Exposition()
    out.add(c.DIRTY, (), value)
    assert out.render().splitlines()[-1] == f"{c.DIRTY.name} {value}"


def test_order_help_and_type_once():
    """Families in the catalogue's order, each with its head once; a histogram cumulated, with sum and count."""
    out = Exposition()
    out.add_histogram(c.COMMIT, {0.1: 1, math.inf: 1, 0.05: 2}, 0.25)
    out.add(c.PUSHES, ("stored",), 2)
    out.add(c.PUSHES, ("conflict",), 1)
    assert out.render() == (
        "# HELP veilleuse_collector_pushes_total Push calls answered, by outcome.\n"
        "# TYPE veilleuse_collector_pushes_total counter\n"
        'veilleuse_collector_pushes_total{outcome="stored"} 2\n'
        'veilleuse_collector_pushes_total{outcome="conflict"} 1\n'
        "# HELP veilleuse_collector_commit_seconds Time of durable commits, fsync included.\n"
        "# TYPE veilleuse_collector_commit_seconds histogram\n"
        'veilleuse_collector_commit_seconds_bucket{le="0.05"} 2\n'
        'veilleuse_collector_commit_seconds_bucket{le="0.1"} 3\n'
        'veilleuse_collector_commit_seconds_bucket{le="+Inf"} 4\n'
        "veilleuse_collector_commit_seconds_sum 0.25\n"
        "veilleuse_collector_commit_seconds_count 4\n"
    )
    assert out.series() == 7


def test_absent_metric_is_not_rendered():
    """No sample, no family: absent is not zero."""
    assert Exposition().render() == ""


def test_wrong_number_of_labels_is_refused():
    """A forgotten label would shift all others."""
    with pytest.raises(ValueError, match="labels"):
        Exposition().add(c.POWER, ("DSI",), 1)


def test_client_registry_is_appended_in_the_same_format():
    """The web process's own registry, by the client that defines the content type."""
    registry = CollectorRegistry()
    Gauge("probe", "A probe.", registry=registry).set(math.pi)
    assert f"probe {math.pi}" in render_registry(registry)
    assert CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"
