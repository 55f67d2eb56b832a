# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Renders the page /api, which describes the API for people, in two languages.

It is the same for everybody: it reveals nothing about the fleet.
"""

from __future__ import annotations

from dataclasses import dataclass

from veilleuse.collector.documents.text import Words
from veilleuse.collector.web.api.resources import DESCRIPTION, RESOURCES
from veilleuse.collector.web.problems import TITLES


@dataclass(frozen=True, slots=True)
class ApiEntry:
    """A name with its sentence."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class ApiPage:
    """Content of the template."""

    description: str
    """Path of openapi.json."""
    routes: tuple[ApiEntry, ...]
    parameters: tuple[ApiEntry, ...]
    roles: tuple[ApiEntry, ...]
    answers: tuple[ApiEntry, ...]
    problems: tuple[ApiEntry, ...]
    examples: tuple[ApiEntry, ...]


def api_page(w: Words) -> ApiPage:
    """Build the page in the language of `w`."""
    names = dict.fromkeys(parameter.name for resource in RESOURCES for parameter in resource.parameters)
    return ApiPage(
        DESCRIPTION,
        tuple(ApiEntry(one.path, w(f"api.routes.{one.kind.value}")) for one in RESOURCES),
        tuple(ApiEntry(name, w(f"api.parameters.{name}")) for name in names),
        tuple(
            ApiEntry(w(f"api.roles.{role}_name"), w(f"api.roles.{role}"))
            for role in ("entities", "reader", "admin")
        ),
        tuple(ApiEntry(name, w(f"api.answers.{key}")) for name, key in _ANSWERS),
        tuple(ApiEntry(kind, w(f"api.problems.{kind}")) for kind in TITLES),
        tuple(
            ApiEntry(w(f"api.examples.{key}"), f'curl -H "Authorization: Bearer $TOKEN" "$VEILLEUSE{path}"')
            for key, path in _EXAMPLES
        ),
    )


_ANSWERS = (
    ("Link", "link"),
    ("X-Total-Count", "total"),
    ("ETag", "etag"),
    ("Cache-Control", "cache"),
    ("Retry-After", "retry"),
)
_EXAMPLES = (
    ("emissions", "/api/v1/emissions?from=2026-01-01&to=2027-01-01"),
    ("csv", "/api/v1/energy?from=2026-01-01&to=2026-07-01&group_by=entity,month&format=csv"),
    ("factors", "/api/v1/factors?zone=FR"),
)
