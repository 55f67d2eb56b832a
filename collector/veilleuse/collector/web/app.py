# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the Starlette application: routes, security headers, error pages.

It only reads, on one thread and connection. The Host header and access are checked before every route.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from prometheus_client import Summary
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from veilleuse.collector.documents.text import Words, words
from veilleuse.collector.errors import CollectorError
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.exposition.prometheus import CONTENT_TYPE
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.web.access import (
    GUARDS,
    NO_ROUTE_GUARD,
    STATE,
    UNLISTED_GUARD,
    AccessControl,
    Guard,
    MetricsAuth,
)
from veilleuse.collector.web.api.description import api_page
from veilleuse.collector.web.api.handlers import ApiContext
from veilleuse.collector.web.metrics.samples import hosts_exposition
from veilleuse.collector.web.metrics.scrape import MetricsWriter
from veilleuse.collector.web.metrics.snapshot import Snapshot, SnapshotCache
from veilleuse.collector.web.pages.first_page import first_page, no_month
from veilleuse.collector.web.pages.indicators import indicator_part
from veilleuse.collector.web.problems import problem_of_status, words_of

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


STATIC: Final = {"veilleuse.css": "text/css", "favicon.svg": "image/svg+xml"}


@dataclass(slots=True)
class HandlerContext:
    """Objects that the handlers share."""

    snapshots: SnapshotCache
    settings: CollectorSettings
    version: str
    reading: Executor
    templates: Environment
    metrics: MetricsWriter

    async def take_snapshot(self) -> Snapshot:
        """Take a snapshot in the reading thread."""
        return await asyncio.get_running_loop().run_in_executor(self.reading, self.snapshots.take_snapshot)


def make_app(
    snapshots: SnapshotCache,
    settings: CollectorSettings,
    metrics_auth: MetricsAuth,
    version: str,
    api_context: ApiContext | None = None,
    access_control: AccessControl | None = None,
) -> ASGIApp:
    """Build the application. Without `api_context` it has no /api; without `access_control`, no accounts."""
    context = HandlerContext(
        snapshots,
        settings,
        version,
        ThreadPoolExecutor(1, "reading"),
        _templates(),
        MetricsWriter(snapshots, version, settings.reporting.k_anonymity),
    )
    routes = [
        Route("/", _first(context)),
        Route("/metrics", _metrics(context)),
        Route("/healthz", _healthz(context)),
        Route("/static/{name}", _static),
    ]
    if settings.http.hosts_metrics:
        routes.append(Route("/metrics/hosts", _hosts_metrics(context)))
    if api_context is not None:
        routes += [Route("/api", _api(context)), *api_context.routes()]
    app = Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: _http_error(context),
            CollectorError: _unreadable(context),
            Exception: _failed(context),
        },
    )
    app.router.redirect_slashes = False  # behind a proxy a redirect would leave TLS, with the token
    return SecurityMiddleware(
        app, metrics_auth, context.metrics.durations, _error_page(context), access_control
    )


Handler = Callable[[Request], Awaitable[Response]]


def _first(context: HandlerContext) -> Handler:
    async def first(request: Request) -> Response:
        """Answer the first page: the day's energy and states."""
        snapshot = await context.take_snapshot()
        w = words_of(request)
        return _html(
            context,
            "first.html",
            w,
            page=first_page(snapshot, w),
            no_month=no_month(snapshot, w, context.settings.reporting.k_anonymity),
            sobriety=indicator_part(snapshot.machine_figures, w, context.settings),
            k=context.settings.reporting.k_anonymity,
            zone=context.settings.reporting.time_zone,
        )

    return first


def _api(context: HandlerContext) -> Handler:
    async def api(request: Request) -> Response:
        """Answer the page /api, which describes the API for people."""
        w = words_of(request)
        return _html(
            context, "api.html", w, page=api_page(w), here="/api", k=context.settings.reporting.k_anonymity
        )

    return api


def _metrics(context: HandlerContext) -> Handler:
    async def metrics(request: Request) -> Response:
        """Answer the catalogue's metrics, then those of this process."""
        accept, began = request.headers.get("accept", ""), time.perf_counter()
        loop = asyncio.get_running_loop()
        text, content_type = await loop.run_in_executor(context.reading, context.metrics.write, accept, began)
        return Response(text, media_type=content_type, headers={"vary": "Accept"})

    return metrics


def _hosts_metrics(context: HandlerContext) -> Handler:
    async def hosts_metrics(_request: Request) -> Response:
        """Answer the metrics of single servers."""
        loop = asyncio.get_running_loop()
        out = await loop.run_in_executor(context.reading, hosts_exposition, context.snapshots)
        return Response(out.text(c.PER_HOST), media_type=CONTENT_TYPE)

    return hosts_metrics


def _healthz(context: HandlerContext) -> Handler:
    async def healthz(_request: Request) -> Response:
        """Answer 200 when the store can be read."""
        try:
            await context.take_snapshot()
        except CollectorError as error:
            log.warning("store unreadable", extra={"reason": str(error)})
            return PlainTextResponse("unreadable\n", 503)
        return PlainTextResponse("ok\n")

    return healthz


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in STATIC:
        raise HTTPException(404)
    body = files("veilleuse.collector.web").joinpath("static", name).read_bytes()
    return Response(body, media_type=STATIC[name], headers={"cache-control": "max-age=3600"})


def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("veilleuse.collector.web", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _html(context: HandlerContext, template: str, w: Words, code: int = 200, **values: object) -> Response:
    body = context.templates.get_template(template).render(w=w, version=context.version, code=code, **values)
    headers = {
        "content-language": w("lang"),
        "vary": "Accept-Language",
        "cache-control": "no-store",
    }
    return HTMLResponse(body, code, headers)


def _error_page(context: HandlerContext) -> ErrorPage:
    def page(request: Request, code: int) -> Response:
        w = words_of(request)
        if request.url.path.startswith("/api/"):
            return problem_of_status(code).response(request)
        key = next((key for key in (f"error.{code}", f"api.error_{code}") if w.has(key)), "error.400")
        if request.url.path.startswith("/metrics"):
            return PlainTextResponse(words("en")(key) + "\n", code)
        return _html(context, "error.html", w, code, text=w(key))

    return page


def _http_error(context: HandlerContext) -> Callable[[Request, Exception], Response]:
    page = _error_page(context)

    def handle(request: Request, error: Exception) -> Response:
        code = error.status_code if isinstance(error, HTTPException) else 500
        response = page(request, code)
        if isinstance(error, HTTPException) and error.headers:
            response.headers.update(error.headers)  # Allow, for 405
        return response

    return handle


def _unreadable(context: HandlerContext) -> Callable[[Request, Exception], Response]:
    page = _error_page(context)

    def handle(request: Request, error: Exception) -> Response:
        log.error("store unreadable", extra={"reason": str(error)})
        return page(request, 503)

    return handle


def _failed(context: HandlerContext) -> Callable[[Request, Exception], Response]:
    page = _error_page(context)

    def handle(request: Request, error: Exception) -> Response:
        log.error("request failed", exc_info=error, extra={"path": request.url.path})
        return page(request, 500)

    return handle
