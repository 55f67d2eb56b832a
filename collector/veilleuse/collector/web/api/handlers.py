# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Handles the routes of /api/v1."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from veilleuse.collector.documents.document import MEDIA_TYPES, renderer, with_withheld
from veilleuse.collector.web.access import caller_of
from veilleuse.collector.web.api.description import description
from veilleuse.collector.web.api.query import ApiQuery, Page, page_of, parse_query
from veilleuse.collector.web.api.resources import DESCRIPTION, RESOURCES, Resource, ResourceKind
from veilleuse.collector.web.desk import Desk
from veilleuse.collector.web.problems import Problem, words_of

PRIVATE: Final = "private, no-store"
REVALIDATE: Final = "private, no-cache"
Handler = Callable[[Request], Awaitable[Response]]


class ApiContext:
    """State that the handlers of /api/v1 share."""

    def __init__(self, desk: Desk, version: str) -> None:
        """Take the desk that gives the figures."""
        self.desk = desk
        self._description = json.dumps(description(version), ensure_ascii=False, indent=1).encode()

    def routes(self) -> list[Route]:
        """Return all routes."""
        found = [Route(resource.path, self._handler(resource)) for resource in RESOURCES]
        return [*found, Route(DESCRIPTION, self._describe)]

    def _handler(self, resource: Resource) -> Handler:
        async def handle(request: Request) -> Response:
            """Answer one resource."""
            try:
                return await self._answer(resource, request)
            except Problem as problem:
                return problem.response(request)

        return handle

    async def _describe(self, request: Request) -> Response:
        """Answer the OpenAPI description."""
        return _with_tag(request, self._description, "application/json", {})

    async def _answer(self, resource: Resource, request: Request) -> Response:
        account = caller_of(request).account
        if account is None:  # the middleware refuses everybody else
            raise Problem(401, "no_token", "no good token came with the request")
        self.desk.count(account)
        query = parse_query(resource, request.query_params.multi_items(), request.headers.get("accept"))
        try:
            document = await self.desk.document(query, account)
            page = page_of(with_withheld(document) if query.form == "csv" else document, query)
            shown = words_of(request).translate(page.document)
            body = await self.desk.run(lambda: renderer(query.form)(shown))
        except Problem as problem:  # a missing answer reveals something too
            await self.desk.note(account, resource.path, query.query_string(), problem.status, 0)
            raise
        await self.desk.note(account, resource.path, query.query_string(), 200, page.rows)
        return self._response(request, query, page, body)

    @staticmethod
    def _response(request: Request, query: ApiQuery, page: Page, body: bytes) -> Response:
        headers = {
            "link": page.links(query, request.url.path),
            "x-total-count": str(page.total),
            "vary": "Accept, Accept-Language, Authorization",
        }
        if query.kind is ResourceKind.FACTORS:  # published tables, no personal data
            return _with_tag(request, body, MEDIA_TYPES[query.form], headers)
        headers["cache-control"] = PRIVATE
        return Response(body, 200, headers, media_type=MEDIA_TYPES[query.form])


def _with_tag(request: Request, body: bytes, media_type: str, headers: dict[str, str]) -> Response:
    """Build the response with a strong ETag; 304 when the client has this body already."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {**headers, "etag": tag, "cache-control": REVALIDATE}
    known = [word.strip().removeprefix("W/") for word in request.headers.get("if-none-match", "").split(",")]
    if tag in known or "*" in known:
        return Response(b"", 304, headers)
    return Response(body, 200, headers, media_type=media_type)
