# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests that the description and the page, in both languages, match routes, parameters and columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.filled import Filled
from tests.support.reading import Reading
from veilleuse.collector.documents.document import UNDER_WAY_UNTIL
from veilleuse.collector.documents.text import words
from veilleuse.collector.model.figures import COLUMNS
from veilleuse.collector.web.api.description import description
from veilleuse.collector.web.api.resources import (
    COVERAGE_COLUMNS,
    ENERGY_COLUMNS,
    PREFIX,
    RESOURCES,
    ResourceKind,
)
from veilleuse.collector.web.problems import TITLES, problem_of_status

SPEC = description("0.1.0")


def references(node: Any) -> Iterator[str]:
    """Yield every $ref below a node."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolved(reference: str) -> Any:
    """Return the target of a reference."""
    node: Any = SPEC
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


def test_paths_are_the_routes(tmp_path):
    """The description has each route of the application below /api/v1, and no other."""
    with Filled(tmp_path / "data") as data, Reading(data) as reading:
        routes = reading.routes
    assert {path for path in routes if path.startswith(PREFIX)} == set(SPEC["paths"])


def test_every_reference_leads_somewhere():
    """Every reference resolves, and every schema is used."""
    found = set(references(SPEC))
    assert found
    assert all(resolved(reference) for reference in found)
    assert {f"#/components/schemas/{name}" for name in SPEC["components"]["schemas"]} == {
        reference for reference in found if "/schemas/" in reference
    }


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind.value)
def test_parameters(resource):
    """Parameters are in the table's order, marked as required where they are, with a sentence each."""
    described = SPEC["paths"][resource.path]["get"]["parameters"]
    assert [one["name"] for one in described] == [one.name for one in resource.parameters]
    assert [one["required"] for one in described] == [one.required for one in resource.parameters]
    assert all(one["description"].endswith(".") for one in described)


def test_columns_are_those_of_the_statement():
    """Columns cut out for a kind exist, and every column of the statement is described."""
    known = {*COLUMNS, UNDER_WAY_UNTIL}
    assert set(ENERGY_COLUMNS) <= known
    assert set(COVERAGE_COLUMNS) <= known
    described = SPEC["components"]["schemas"]["emissions_row"]["properties"]
    assert set(described) == known
    assert described["kwh_total"] == {"type": "number"}
    assert described["n"] == described["n_fleet"] == {"type": "integer"}
    assert described["provisional"] == {"type": "boolean"}
    assert described["method_mix"] == {"type": "object"}
    assert not [name for name in ENERGY_COLUMNS if "kgco2e" in name or name.startswith("factor")]


def test_problems_have_their_titles():
    """Every described status, and any other, has a title and a remedy."""
    for status in (400, 401, 403, 404, 405, 429, 500, 503, 599):
        problem = problem_of_status(status)
        assert problem.kind in TITLES
        assert problem.remedy


@pytest.mark.parametrize("language", ["fr", "en"])
def test_the_page_has_its_words(language):
    """The page has words for every route, parameter, problem and role."""
    w = words(language)
    for kind in ResourceKind:
        assert w(f"api.routes.{kind.value}")
    for resource in RESOURCES:
        for parameter in resource.parameters:
            assert w(f"api.parameters.{parameter.name}")
    for problem in TITLES:
        assert w(f"api.problems.{problem}")
    assert w("title")  # and those of every page
