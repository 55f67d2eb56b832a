# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Describes /api/v1 from the table that also defines the routes.

OpenAPI 3.1 is for programs; the page /api is for people, in two languages. Both are the same for everybody:
they reveal nothing about the fleet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from veilleuse.collector.documents.text import Words
from veilleuse.collector.model.query import Basis
from veilleuse.collector.web.api.resources import (
    DESCRIPTION,
    RESOURCES,
    Extent,
    Parameter,
    Resource,
    ResourceKind,
    Schema,
)
from veilleuse.collector.web.problems import MEDIA_TYPE, TITLES

Json = dict[str, Any]

_HEADERS: Final[Mapping[str, tuple[str, Schema]]] = {
    "Link": ("first, prev, next, last page: RFC 8288", {"type": "string"}),
    "X-Total-Count": ("rows of the whole answer", {"type": "integer", "minimum": 0}),
    "Cache-Control": ("private, no-store; of /factors private, no-cache", {"type": "string"}),
    "ETag": ("of /factors: send it back as If-None-Match", {"type": "string"}),
    "Retry-After": ("seconds after which to ask again", {"type": "integer", "minimum": 1}),
    "WWW-Authenticate": ("Basic and Bearer", {"type": "string"}),
}
_REFUSALS: Final[Mapping[int, tuple[str, tuple[str, ...]]]] = {
    400: ("The request is not one: an unknown or repeated parameter, a value that none has.", ()),
    401: ("No good token.", ("WWW-Authenticate",)),
    403: ("The account may not see that.", ()),
    406: ("Neither JSON nor CSV is accepted.", ()),
    422: (
        "There is no answer: the period is empty, too long or kept no more in parts, the page or the zone is not there.",
        (),
    ),
    429: ("Too many requests, or wrong tokens; one question at a time per account.", ("Retry-After",)),
    503: ("Too slow, too busy, or the access could not be noted.", ("Retry-After",)),
}
_WHY_WITHHELD: Final = {
    "period": "no whole calendar month, or one that is not published: released_on says from when it may be",
    "grouping": "a grouping that is not the release's",
    "too_few": "of /indicators: fewer than k machines, or one almost alone",
    "no_data": "of /indicators: no machine has measurements of the month, or they are deleted",
    "older_rule": "of /indicators: released in an older format: 'veilleuse published take-back FROM TO --why TEXT' has it computed anew",
    "merged": "of /indicators: all of it is in merged rows of branches above the account's entities, or was silent",
}

_WITHHELD: Final[Schema] = {
    "type": "object",
    "description": "What the answer lacks, and why: periods; of /indicators also populations, and entities or classes of these.",
    "properties": {
        "period_from": {"type": "string"},
        "period_to": {"type": "string"},
        "population": {"type": "string", "description": "Of /indicators."},
        "reason": {
            "type": "string",
            "description": "; ".join(f"{k}: {v}" for k, v in _WHY_WITHHELD.items()),
        },
        "indicators": {
            "type": "string",
            "description": "Of /indicators: those that the answer lacks, such as 'I1, I2'.",
        },
        "released_on": {
            "type": "string",
            "description": "First day on which more of the period may be released: three days after a month's end.",
        },
    },
}
_WHICH_FIGURE: Final[Schema] = {
    "type": "string",
    "enum": [extent.value for extent in Extent],
    "description": "fleet: of all machines, with what was imputed and extrapolated; observed: what was seen of machines with an agent,"
    " lower wherever the coverage is below 1: of /indicators, and of the others with basis=observed, then with `basis` observed in each row."
    " Never compare one with the other. Not of /factors.",
}
_BASIS: Final[Schema] = {
    "type": "string",
    "enum": list(Basis),
    "description": "What the figures are made of: as the parameter `basis`. Not of /factors, and absent for a closed year.",
}
_RELEASED_FROM: Final[Schema] = {
    "type": "string",
    "description": "First day of the first released month with a device. Absent where the period does not begin before it.",
}
_RELEASED_UNTIL: Final[Schema] = {
    "type": "string",
    "description": "Day after the last released month in the answer. Absent where `basis` is unreleased.",
}


def description(version: str) -> Json:
    """Return the description; `version` is the product's."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Veilleuse",
            "version": version,
            "summary": "Energy, emissions and sobriety of a computer fleet",
            "description": "Every answer is noted in the access journal under the account's name. Absent is never zero: "
            "what does not exist is not in a row. Figures are those of `veilleuse report`, unrounded.",
            "license": {"name": "EUPL-1.2", "identifier": "EUPL-1.2"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"basic": []}],
        "paths": {
            **{resource.path: {"get": _operation(resource)} for resource in RESOURCES},
            DESCRIPTION: {"get": _itself()},
        },
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "`veilleuse account create`"},
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "the token as password, any name",
                },
            },
            "headers": {
                name: {"description": doc, "schema": dict(schema)} for name, (doc, schema) in _HEADERS.items()
            },
            "schemas": _schemas(),
        },
    }


def _operation(resource: Resource) -> Json:
    headers = ["Link", "X-Total-Count", "Cache-Control"]
    answers: Json = {
        "200": {
            "description": resource.doc,
            "headers": _headers([*headers, "ETag"] if resource.kind is ResourceKind.FACTORS else headers),
            "content": {
                "application/json": {"schema": {"$ref": f"#/components/schemas/{resource.kind.value}"}},
                "text/csv": {"schema": {"type": "string"}},
            },
        },
    }
    if resource.kind is ResourceKind.FACTORS:
        answers["304"] = {"description": "Not changed.", "headers": _headers(["ETag"])}
    return {
        "operationId": resource.kind.value,
        "summary": resource.summary,
        "description": resource.doc,
        "parameters": [_parameter(one) for one in resource.parameters],
        "responses": answers | {str(status): _refusal(status) for status in _REFUSALS},
    }


def _itself() -> Json:
    return {
        "operationId": "openapi",
        "summary": "This description",
        "responses": {
            "200": {
                "description": "OpenAPI 3.1.",
                "headers": _headers(["ETag", "Cache-Control"]),
                "content": {"application/json": {"schema": {"type": "object", "required": ["openapi"]}}},
            },
            "304": {"description": "Not changed.", "headers": _headers(["ETag"])},
            **{str(status): _refusal(status) for status in (401, 429, 503)},
        },
    }


def _parameter(parameter: Parameter) -> Json:
    return {
        "name": parameter.name,
        "in": "query",
        "required": parameter.required,
        "description": parameter.doc,
        "schema": dict(parameter.schema),
        "example": parameter.example,
    }


def _refusal(status: int) -> Json:
    doc, headers = _REFUSALS[status]
    return {
        "description": doc,
        "headers": _headers(headers),
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/problem"}}},
    }


def _headers(names: list[str] | tuple[str, ...]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _schemas() -> Json:
    schemas: Json = {
        "problem": {
            "type": "object",
            "description": "RFC 9457.",
            "required": ["type", "title", "status", "detail", "instance"],
            "properties": {
                "type": {"type": "string", "enum": [f"/api#{kind}" for kind in TITLES]},
                "title": {"type": "string"},
                "status": {"type": "integer", "minimum": 400, "maximum": 599},
                "detail": {"type": "string", "description": "what"},
                "instance": {"type": "string"},
                "where": {"type": "string"},
                "remedy": {"type": "string", "description": "what to do"},
            },
        },
        "report": {
            "type": "object",
            "description": "What was asked, of what, when, and which page this is.",
            "required": ["kind", "page", "pages", "limit", "total_rows"],
            "properties": {
                "kind": {"type": "string", "enum": [kind.value for kind in ResourceKind]},
                "figures": dict(_WHICH_FIGURE),
                "basis": dict(_BASIS),
                "released_from": dict(_RELEASED_FROM),
                "released_until": dict(_RELEASED_UNTIL),
                **{
                    name: {"type": "integer", "minimum": 0}
                    for name in ("page", "pages", "limit", "total_rows")
                },
            },
        },
        "withheld": _WITHHELD,
    }
    for resource in RESOURCES:
        schemas[f"{resource.kind.value}_row"] = {
            "type": "object",
            "properties": {name: dict(schema) for name, schema in resource.columns.items()},
        }
        schemas[resource.kind.value] = _answer(resource)
    return schemas


def _answer(resource: Resource) -> Json:
    rows = {"type": "array", "items": {"$ref": f"#/components/schemas/{resource.kind.value}_row"}}
    special = {
        "withheld": {"type": "array", "items": {"$ref": "#/components/schemas/withheld"}},
        **{
            name: {"type": "array", "items": {"type": "object"}}
            for name in ("own_use", "factors", "items", "contracts", "home_shares")
        },
    }
    return {
        "type": "object",
        "required": ["report", *(table for table in resource.tables if table not in ("year", "own_use"))],
        "properties": {
            "report": {"$ref": "#/components/schemas/report"},
            **{table: special.get(table, rows) for table in resource.tables},
            "assumptions": {"type": "array", "items": {"type": "string"}},
        },
    }


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
    """Build the page /api in the language of `w`."""
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
