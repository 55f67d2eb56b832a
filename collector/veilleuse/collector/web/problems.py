# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds error answers of /api (RFC 9457, application/problem+json): the error, its place and the remedy.

In French, or in English by Accept-Language; rare details are English in both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from veilleuse.collector.documents.document import LANGUAGES
from veilleuse.collector.documents.text import Words, words
from veilleuse.wire.translations import Translations

MEDIA_TYPE: Final = "application/problem+json"
TITLES: Final[Mapping[str, str]] = {
    "malformed": "The request is not one",
    "no_token": "A good token is needed",
    "not_allowed": "This account may not do that",
    "not_found": "There is no such route",
    "method": "Only GET and HEAD are answered",
    "not_acceptable": "There is no such format",
    "unanswerable": "There is no answer to that question",
    "too_many_tries": "Too many wrong tokens",
    "too_many_requests": "Too many requests",
    "too_slow": "The question takes too long",
    "busy": "The service is busy",
    "no_journal": "The access cannot be noted",
    "unreadable": "The figures cannot be read",
    "failed": "The service failed",
}
"""Kind → title. Each kind has a paragraph on the page /api, and `type` links to it."""
_OF_A_STATUS: Final[Mapping[int, tuple[str, str, str]]] = {
    400: ("malformed", "the request is not one", "read the description at /api/v1/openapi.json"),
    401: (
        "no_token",
        "no good token came with the request",
        "send 'Authorization: Bearer TOKEN'; an administrator makes one with 'veilleuse account create'",
    ),
    403: (
        "not_allowed",
        "this account may not see that",
        "ask an administrator for an account of another role",
    ),
    404: ("not_found", "there is no such route", "see /api/v1/openapi.json for those there are"),
    405: ("method", "this method is not for this route", "use GET: nothing is changed over HTTP"),
    429: (
        "too_many_tries",
        "too many wrong tokens came from this address",
        "wait a minute; look at the token",
    ),
    503: (
        "unreadable",
        "the service cannot read its figures now",
        "try again; 'veilleuse doctor' says what is wrong",
    ),
}


class Problem(Exception):
    """Error answer of the API."""

    def __init__(
        self,
        status: int,
        kind: str,
        what: str,
        *,
        where: str = "",
        remedy: str = "",
        retry_after_seconds: int | None = None,
    ) -> None:
        """Take `kind`, one of TITLES, and `where`, a parameter or a header."""
        super().__init__(what)
        self.status = status
        self.kind = kind
        self.where = where
        self.remedy = remedy
        self.retry_after_seconds = retry_after_seconds

    def sentence(self, w: Words) -> str:
        """Return what is wrong and what to do, for a page."""
        text = w("error.joint").join(_translate(text, w) for text in (str(self), self.remedy) if text)
        return text[:1].upper() + text[1:]

    def response(self, request: Request) -> Response:
        """Return the HTTP response, in the reader's language."""
        w = words_of(request)
        body: dict[str, Any] = {
            "type": f"/api#{self.kind}",
            "title": _translate(TITLES[self.kind], w),
            "status": self.status,
            "detail": _translate(str(self), w),
            "instance": request.url.path,
        }
        remedy = _translate(self.remedy, w)
        body |= {name: text for name, text in (("where", self.where), ("remedy", remedy)) if text}
        headers = {
            "cache-control": "no-store",
            "content-language": w.language,
            "vary": "Accept-Language",
        }
        if self.retry_after_seconds is not None:
            headers["retry-after"] = str(self.retry_after_seconds)
        text = json.dumps(body, ensure_ascii=False, indent=1) + "\n"
        return Response(text.encode(), self.status, headers, media_type=MEDIA_TYPE)


def words_of(request: Request) -> Words:
    """Return the words of the language that the reader prefers."""
    accept = request.headers.get("accept-language", "")
    return words(choose_language(request.query_params.get("lang"), accept))


def choose_language(asked: str | None, accept_language: str) -> str:
    """Return the language of `?lang=` if known, else the best of Accept-Language, else French."""
    if asked in LANGUAGES:
        return asked
    best, best_quality = LANGUAGES[0], 0.0
    for part in accept_language.split(",")[:20]:
        tag, _, rest = part.strip().partition(";")
        language = tag.split("-")[0].lower()
        quality = _quality(rest)
        if language in LANGUAGES and quality > best_quality:
            best, best_quality = language, quality
    return best


def _quality(text: str) -> float:
    name, _, value = text.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return min(1.0, max(0.0, float(value)))
    except ValueError:
        return 0.0


def _translate(text: str, w: Words) -> str:
    """Return the text in the language of `w`; a text that it does not have stays English."""
    return _translations(w.language)(text)


@cache
def _translations(language: str) -> Translations:
    """Return the catalogue of the locale's api.notes."""
    notes: Mapping[str, str] = words(language).texts["api"].get("notes", {})
    return Translations(notes)


def problem_of_status(status: int) -> Problem:
    """Return the problem of a plain status code."""
    kind, what, remedy = _OF_A_STATUS.get(
        status, ("failed", "the service failed", "try again; its log says what happened")
    )
    return Problem(status, kind, what, remedy=remedy)
