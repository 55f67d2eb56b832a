# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Cuts one page from a Document, and builds the headers that link to the other pages (pure)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from veilleuse.collector.documents.document import Document, Row
from veilleuse.collector.web.api.query import ApiQuery
from veilleuse.collector.web.problems import Problem

REASON_COLUMNS: Final = ("reason", "released_on")
"""Columns of a CSV that only rows of level `withheld` have."""


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


def with_withheld(document: Document) -> Document:
    """Add the withheld groups as rows of level `withheld`: a CSV has no other place for them."""
    lacks = [{**row, "level": "withheld"} for row in document.tables.get("withheld", ())]
    if not lacks:
        return document
    columns = [name for name in document.columns if name not in REASON_COLUMNS]
    at = columns.index("level") + 1
    columns[at:at] = REASON_COLUMNS
    tables = {**document.tables, "withheld": lacks}
    return replace(document, columns=tuple(columns), tables=tables, tabular=(*document.tabular, "withheld"))


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
