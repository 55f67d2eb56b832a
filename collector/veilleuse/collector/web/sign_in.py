# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Signs people in: a form takes the token of their account, and a cookie keeps their session.

docs/decisions/0049-people-sign-in-with-a-token.md gives the reasons.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import parse_qs, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from veilleuse.collector.model.accounts import token_sha256
from veilleuse.collector.web.access import COOKIE, MAX_TOKEN_CHARACTERS, AccessControl, caller_of

SIGN_IN: Final = "/connexion"
SIGN_OUT: Final = "/deconnexion"
FORM_BYTES: Final = 4096
"""Largest form that is read."""
_SEE_OTHER: Final = 303
FormPage = Callable[[Request, int, str], Response]
"""Builds the page with the form: request, status, key of the error's text or empty."""


def sign_in_routes(access: AccessControl, form_page: FormPage) -> list[Route]:
    """Return the routes of signing in and out."""

    async def show(request: Request) -> Response:
        """Answer the form; where the reverse proxy named an account, the way to the pages."""
        if access.by_proxy and caller_of(request).account is not None:
            return RedirectResponse(local_path(request.query_params.get("next", "")), _SEE_OTHER)
        return form_page(request, 200, "")

    async def sign_in(request: Request) -> Response:
        """Take a token: answer the page that was asked for, with a new session, or the form again."""
        if access.by_proxy:
            return form_page(request, 403, "")
        if _is_of_another_site(request):
            return form_page(request, 403, "other_site")
        form = await _form(request)
        token = form.get("token", "").strip()[: MAX_TOKEN_CHARACTERS + 1]
        caller = await access.caller_with(token or None)
        if not token or caller.wrong_token:
            late = bool(token) and not access.has_tries_left(request)
            return form_page(request, 429 if late else 401, "many" if late else "wrong" if token else "empty")
        response = RedirectResponse(local_path(form.get("next", "")), _SEE_OTHER)
        access.sessions.end(request.cookies.get(COOKIE, ""))
        session = access.sessions.begin(token_sha256(token))
        response.set_cookie(
            COOKIE, session, httponly=True, samesite="strict", secure=access.needs_tls(request), path="/"
        )
        return response

    async def sign_out(request: Request) -> Response:
        """End the session, and let the browser forget its cookie."""
        if _is_of_another_site(request):
            return form_page(request, 403, "other_site")
        access.sessions.end(request.cookies.get(COOKIE, ""))
        response = RedirectResponse(SIGN_IN, _SEE_OTHER)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response

    return [
        Route(SIGN_IN, _by_method(show, sign_in), methods=["GET", "POST"]),
        Route(SIGN_OUT, sign_out, methods=["POST"]),
    ]


def local_path(text: str) -> str:
    """Return the path and query of a page here; the first page for anything else."""
    parts = urlsplit(text)
    is_here = not parts.scheme and not parts.netloc and text.startswith("/") and text.isprintable()
    return text if is_here and not text.startswith(("//", "/\\")) and text.isascii() else "/"


def _by_method(
    get: Callable[[Request], Awaitable[Response]], post: Callable[[Request], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        return await (post if request.method == "POST" else get)(request)

    return handle


def _is_of_another_site(request: Request) -> bool:
    """Tell whether another site made a browser send this form.

    Browsers say which site a form is of; older ones only its origin, which a proxy's Host may not match.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        return site not in ("same-origin", "none")
    return origin is not None and urlsplit(origin).netloc != request.headers.get("host", "")


async def _form(request: Request) -> dict[str, str]:
    """Read a urlencoded form; the last value of a name counts."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > FORM_BYTES:
            raise HTTPException(413)
    try:
        fields = parse_qs(body.decode("ascii"), max_num_fields=10)
    except ValueError as error:
        raise HTTPException(400) from error
    return {name: values[-1] for name, values in fields.items()}
