# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests that each metric is listed once, in base units, with labels of our own registry only."""

from __future__ import annotations

import re

import pytest

from veilleuse.collector.exposition import catalogue
from veilleuse.collector.exposition.catalogue import BY_NAME, CATALOGUE, Metric, MetricType
from veilleuse.collector.exposition.document import LABEL_TEXT, markdown
from veilleuse.collector.indicators import TABLE

RESERVED = {"le", "quantile", "job", "instance"}


def test_every_metric_is_defined_once():
    """Each constant of the catalogue is another metric, and none is written twice."""
    defined = [value for value in vars(catalogue).values() if isinstance(value, Metric)]
    assert {m.name for m in defined} == set(BY_NAME)
    assert len(defined) == len(BY_NAME) == len(CATALOGUE)


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_metric_is_well_named(metric):
    """A metric has a prefix, snake case, _total on counters only, a sentence as help, documented labels."""
    assert re.fullmatch(r"veilleuse_[a-z0-9]+(_[a-z0-9]+)*", metric.name)
    assert (metric.kind is MetricType.COUNTER) == metric.name.endswith("_total")
    assert metric.help.endswith(".")
    assert metric.unit
    assert len(set(metric.labels)) == len(metric.labels)
    assert not RESERVED & set(metric.labels)
    assert set(metric.labels) <= set(LABEL_TEXT)


def test_only_two_metrics_know_single_hosts():
    """Per-host series are for servers, on a separate route."""
    assert {m.name for m in CATALOGUE if "host" in m.labels} == {m.name for m in catalogue.PER_HOST}


def test_gauges_of_the_table_of_indicators():
    """The help of a gauge in the table of indicators begins with the indicator's id; no other gauge's help
    does."""
    table = {gauge: identifier for identifier, line in TABLE.items() for gauge in line.gauges}
    said = {m.name: m.help.partition(":")[0] for m in CATALOGUE if re.match(r"I\d+: ", m.help)}
    differing = sorted(dict(table.items() ^ said.items()))
    assert not differing, (
        "in exposition/fleet_metrics.py the help of each gauge in TABLE begins with the indicator's id, as 'I1: ', "
        f"and no other help does: {differing}"
    )


def test_document_names_everything():
    """docs/metrics.md has every metric, and every documented label is used."""
    text = markdown()
    for metric in CATALOGUE:
        assert f"### `{metric.name}`" in text
    used = {label for metric in CATALOGUE for label in metric.labels}
    assert used == set(LABEL_TEXT)
