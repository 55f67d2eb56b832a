# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Parses a request's query and headers into an ApiQuery, and cuts its page from a Document (pure).

Both raise a Problem when there is no answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from difflib import get_close_matches
from typing import Any, Final
from urllib.parse import urlencode

from veilleuse.collector.documents.document import Document, Row
from veilleuse.collector.model.query import DEFAULT_DIMENSIONS, Basis, Query
from veilleuse.collector.web.api.resources import (
    DEFAULT_LIMIT,
    FORMATS,
    MAX_DAYS,
    Parameter,
    Resource,
    ResourceKind,
)
from veilleuse.collector.web.problems import Problem
from veilleuse.wire.values import parse_day

_MEDIA: Final = {"application/json": "json", "text/csv": "csv"}
_MOST_RANGES: Final = 20
"""Most media ranges of an Accept header that are read."""


@dataclass(frozen=True, slots=True)
class ApiQuery:
    """A checked query."""

    kind: ResourceKind
    page: int
    limit: int
    form: str
    """One of FORMATS."""
    asked: Query | None = None
    """Period and grouping; None: a query for factors."""
    zone: str | None = None
    year: int | None = None

    @property
    def without_page(self) -> tuple[Any, ...]:
        """Return the query without page and format: the pages of one answer share it."""
        return (self.kind, self.asked, self.zone, self.year)

    def query_string(self, page: int | None = None) -> str:
        """Return the query string in a fixed order, defaults included; of another page when given."""
        words: dict[str, str | int] = {}
        if self.asked is None:
            words |= {} if self.zone is None else {"zone": self.zone}
            words |= {} if self.year is None else {"year": self.year}
        else:
            words = {
                "from": self.asked.first.isoformat(),
                "to": self.asked.end.isoformat(),
                "group_by": ",".join(self.asked.dimensions),
                **({"level": self.asked.level} if self.asked.level else {}),
                **({"entity": ",".join(self.asked.entities)} if self.asked.entities else {}),
                **({"basis": self.asked.basis.value} if self.asked.basis is not Basis.RELEASED else {}),
            }
        words |= {"page": self.page if page is None else page, "limit": self.limit, "format": self.form}
        return urlencode(words, safe=",")


def parse_query(resource: Resource, query: Sequence[tuple[str, str]], accept: str | None) -> ApiQuery:
    """Parse a request.

    Raises Problem: 400 for parameters that the description forbids, 406 for Accept, 422 for a query without
    an answer.
    """
    values = _values(resource, query)
    form = str(values.get("format") or _negotiate_format(accept))
    page, limit = int(values.get("page", 1)), int(values.get("limit", DEFAULT_LIMIT))
    if resource.kind is ResourceKind.FACTORS:
        year = values.get("year")
        zone = values.get("zone")
        return ApiQuery(
            resource.kind,
            page,
            limit,
            form,
            zone=zone and zone.upper(),
            year=None if year is None else int(year),
        )
    first, end = _day("from", values["from"]), _day("to", values["to"])
    if first >= end:
        raise _unanswerable("to", f"from {first} must be before to {end}, which is exclusive")
    if (end - first).days > MAX_DAYS:
        raise _unanswerable("to", f"the period has {(end - first).days} days: ask for at most {MAX_DAYS}")
    words = values.get("group_by", ",".join(DEFAULT_DIMENSIONS)).split(",")
    level = int(values["level"]) if "level" in values else None
    if level and "entity" not in words:
        raise _wrong("level", "level needs rows by entity", "add entity to group_by, or leave out level")
    basis = Basis(values.get("basis", Basis.RELEASED))
    asked = Query(first, end, tuple(dict.fromkeys(words)), level=level, basis=basis)
    return ApiQuery(resource.kind, page, limit, form, asked)


def _values(resource: Resource, query: Sequence[tuple[str, str]]) -> Mapping[str, str]:
    known = {parameter.name: parameter for parameter in resource.parameters}
    found: dict[str, str] = {}
    for name, value in query:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"use {', '.join(known)}"
            raise _wrong(name, f"there is no parameter '{name[:64]}'", hint)
        if name in found:
            raise _wrong(
                name, f"'{name}' is given twice", "give it once; words of group_by are separated by commas"
            )
        _check(known[name], value)
        found[name] = value
    for parameter in resource.parameters:
        if parameter.required and parameter.name not in found:
            raise _wrong(parameter.name, f"'{parameter.name}' is missing", parameter.doc)
    return found


def _check(parameter: Parameter, value: str) -> None:
    """Check a value against the parts of JSON Schema that the parameters use. Raises Problem."""
    schema = parameter.schema
    good = True
    if schema["type"] == "integer":
        good = re.fullmatch("[0-9]{1,9}", value) is not None and (
            schema["minimum"] <= int(value) <= schema["maximum"]
        )
        doc = f"give a whole number from {schema['minimum']} to {schema['maximum']}"
    elif "enum" in schema:
        good, doc = value in schema["enum"], f"give one of {', '.join(schema['enum'])}"
    else:
        good, doc = re.fullmatch(schema["pattern"][1:-1], value) is not None, parameter.doc
    if not good:
        raise _wrong(parameter.name, f"'{value[:64]}' is no value of '{parameter.name}'", doc)


def _day(name: str, text: str) -> date:
    try:
        return parse_day(text)
    except ValueError as error:  # e.g. 2026-02-30
        raise _unanswerable(name, f"there is no day {text}") from error


def _negotiate_format(accept: str | None) -> str:
    """Return the format of the best media range; JSON when any is accepted. Raises Problem."""
    best, best_quality = "", 0.0
    for position, part in enumerate((accept or "*/*").split(",")[:_MOST_RANGES]):
        media, *parameters = (word.strip().lower() for word in part.split(";"))
        form = _MEDIA.get(media) or {"*/*": "json", "application/*": "json", "text/*": "csv"}.get(media)
        quality = _quality(parameters) - position * 1e-6  # equal quality: the first range wins
        if form is not None and quality > best_quality:
            best, best_quality = form, quality
    if best not in FORMATS:
        raise Problem(
            406,
            "not_acceptable",
            f"nothing of Accept '{(accept or '')[:128]}' can be given",
            where="header Accept",
            remedy=f"accept {' or '.join(_MEDIA)}, or add format={' or format='.join(FORMATS)}",
        )
    return best


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        if match := re.fullmatch(r"q\s*=\s*(0(\.[0-9]{0,3})?|1(\.0{0,3})?)", parameter):
            return float(match[1])
    return 1.0


def _wrong(name: str, what: str, remedy: str) -> Problem:
    return Problem(400, "malformed", what, where=f"query parameter {name[:64]}", remedy=remedy)


def _unanswerable(name: str, what: str) -> Problem:
    return Problem(
        422, "unanswerable", what, where=f"query parameter {name}", remedy="ask for another period"
    )


@dataclass(frozen=True, slots=True)
class Page:
    """One page of an answer."""

    document: Document
    """Its tabular tables hold this page's rows; all other tables are complete on every page."""
    rows: int
    """Rows on this page."""
    total: int
    """Rows of the whole answer, over all tabular tables."""
    pages: int
    """At least 1."""

    def links(self, query: ApiQuery, path: str) -> str:
        """Return the header Link (RFC 8288): first, prev, next and last, where they exist."""
        wanted = {
            "first": 1,
            "prev": query.page - 1 if query.page > 1 else None,
            "next": query.page + 1 if query.page < self.pages else None,
            "last": self.pages,
        }
        return ", ".join(
            f'<{path}?{query.query_string(page)}>; rel="{word}"'
            for word, page in wanted.items()
            if page is not None
        )


def page_of(document: Document, query: ApiQuery) -> Page:
    """Return the page of the query, with its number in the head. Raises Problem when it does not exist."""
    lines: list[tuple[str, Row]] = [
        (table, row) for table in document.tabular for row in document.tables[table]
    ]
    pages = max(1, -(-len(lines) // query.limit))
    if query.page > pages:
        raise Problem(
            422,
            "unanswerable",
            f"there is no page {query.page}: the answer has {len(lines)} row{'s' * (len(lines) != 1)}, {pages} page{'s' * (pages != 1)} of {query.limit}",
            where="query parameter page",
            remedy="follow the links of the header Link",
        )
    here = lines[(query.page - 1) * query.limit : query.page * query.limit]
    tables = {
        table: [row for name, row in here if name == table] if table in document.tabular else rows
        for table, rows in document.tables.items()
    }
    head = {
        **document.head,
        "page": query.page,
        "pages": pages,
        "limit": query.limit,
        "total_rows": len(lines),
    }
    return Page(replace(document, head=head, tables=tables), len(here), len(lines), pages)
