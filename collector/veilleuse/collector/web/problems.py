# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds error answers of /api (RFC 9457, application/problem+json): the error, its place and the remedy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

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

    def response(self, path: str) -> Response:
        """Return the HTTP response."""
        body: dict[str, Any] = {
            "type": f"/api#{self.kind}",
            "title": TITLES[self.kind],
            "status": self.status,
            "detail": str(self),
            "instance": path,
        }
        body |= {name: text for name, text in (("where", self.where), ("remedy", self.remedy)) if text}
        headers = {"cache-control": "no-store"}
        if self.retry_after_seconds is not None:
            headers["retry-after"] = str(self.retry_after_seconds)
        text = json.dumps(body, ensure_ascii=False, indent=1) + "\n"
        return Response(text.encode(), self.status, headers, media_type=MEDIA_TYPE)


def problem_of_status(status: int) -> Problem:
    """Return the problem of a plain status code."""
    kind, what, remedy = _OF_A_STATUS.get(
        status, ("failed", "the service failed", "try again; its log says what happened")
    )
    return Problem(status, kind, what, remedy=remedy)
