# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Checks the Host header and access before every route; adds security headers and durations after it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from prometheus_client import Summary
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from veilleuse.collector.errors import CollectorError
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.web.access import (
    GUARDS,
    NO_ROUTE_GUARD,
    STATE,
    UNLISTED_GUARD,
    AccessControl,
    Guard,
    MetricsAuth,
)

log = logging.getLogger(__name__)

HEADERS: Final = (
    (
        b"content-security-policy",
        (
            b"default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
            b"frame-ancestors 'none'"
        ),
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)

ErrorPage = Callable[[Request, int], Response]
"""Builds the page of a status code, in the reader's language."""


class SecurityMiddleware:
    """Checks requests before every route, then adds the security headers and observes the duration."""

    def __init__(
        self,
        app: Starlette,
        metrics_auth: MetricsAuth,
        durations: Summary,
        page: ErrorPage,
        access_control: AccessControl | None = None,
    ) -> None:
        """Take the access rules; without `access_control` there are no accounts."""
        self._app = app
        self._metrics_auth = metrics_auth
        self._access_control = access_control or AccessControl(metrics_auth)
        self._durations = durations
        self._page = page
        self._routes = {route.path for route in app.routes if isinstance(route, Route)}

    @property
    def application(self) -> Starlette:
        """Return the wrapped application."""
        return self._app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI request."""
        if scope["type"] != "http":
            return
        began, status = time.perf_counter(), 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        try:
            refused = await self._refuse(Request(scope))
            await (refused or self._app)(scope, receive, send_with_headers)
        finally:
            route = self._route(scope["path"])
            self._durations.labels(route, str(status)).observe(time.perf_counter() - began)

    async def _refuse(self, request: Request) -> Response | None:
        """Return the error page of a refused request; None when it may pass."""
        if not self._metrics_auth.knows_host(request.headers.get("host", "")):
            return self._page(request, 400)
        route = self._route(request.scope["path"])  # the router's path, whatever the Host header is
        guard = NO_ROUTE_GUARD if route == c.OTHER else GUARDS.get(route, UNLISTED_GUARD)
        if guard is Guard.OPEN:
            return None
        try:
            caller = await self._access_control.caller(request)
        except CollectorError as error:
            log.error("accounts unreadable", extra={"reason": str(error)})
            return self._page(request, 503)
        request.scope.setdefault("state", {})[STATE] = caller
        if caller.may(guard):
            return None
        if caller.account is not None:
            return self._page(request, 403)
        if caller.wrong_token and not self._access_control.has_tries_left(request):
            response = self._page(request, 429)
            response.headers["retry-after"] = "60"
            return response
        response = self._page(request, 401)
        for challenge in ('Basic realm="veilleuse", charset="UTF-8"', "Bearer"):
            response.headers.append("www-authenticate", challenge)
        return response

    def _route(self, path: str) -> str:
        """Return the route's label, from our own closed list whatever the path is."""
        if path.startswith("/static/"):
            return "/static/{name}"
        return path if path in self._routes else c.OTHER
