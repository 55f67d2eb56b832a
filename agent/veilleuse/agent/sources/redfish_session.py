# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Talking to one Redfish service: who we are, how it says no, and when to leave it in peace. Source: DMTF DSP0266.

One session is held and given back: controllers have few (16 at some makers), and each login costs them a second. A service
without sessions gets Basic authentication. Resources are never asked for with If-None-Match: a controller whose entity
tags stand still would show an old power for ever.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from veilleuse.agent.errors import ReadFailed
from veilleuse.agent.sources.http_json import Answer, Endpoint, Exchange, basic, document_of, refusal
from veilleuse.agent.sources.readings import inside

ROOT: Final = "/redfish/v1/"
_SESSIONS: Final = "/redfish/v1/SessionService/Sessions"
_REFUSED_SECONDS: Final = 300
"""After refused credentials: a controller locks the account of who insists."""
_LONGEST_RETRY_SECONDS: Final = 300
_USUAL_RETRY_SECONDS: Final = 60
_LOGOUT_SECONDS: Final = 2.0


class Service:
    """One service, its session and its moods."""

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: tuple[str, str] | None,
        *,
        sessions: bool,
        timeout_seconds: float,
    ) -> None:
        """Without `sessions` Basic authentication only; without `credentials` none at all."""
        self._endpoint = endpoint
        self._credentials = credentials
        self._sessions = sessions
        self._timeout_seconds = timeout_seconds
        self._token = ""
        self._session = ""
        self._sessions_path = _SESSIONS
        self._not_before = 0.0
        self._why_not = ""

    @property
    def resting(self) -> bool:
        """Whether the service is to be left in peace for now."""
        return time.monotonic() < self._not_before

    def exchange(self) -> Exchange:
        """For all the questions of one read. Raises ReadFailed when the service is to be left in peace for now."""
        if self.resting:
            raise ReadFailed(self._why_not)
        return Exchange(self._endpoint, self._timeout_seconds)

    def get(self, exchange: Exchange, path: str) -> dict[str, Any] | None:
        """The resource; None when there is none. Raises ReadFailed."""
        if path == ROOT:  # free for all; tells where sessions are made
            root = document_of(exchange, self._heeded(exchange.get(path)))
            listed = inside(root, "Links", "Sessions", "@odata.id")
            self._sessions_path = listed if isinstance(listed, str) else _SESSIONS
            return root
        answer = exchange.get(path, self._headers(exchange))
        if answer.status == 401 and self._token:  # the session has run out, or the controller was restarted
            self._token = self._session = ""
            answer = exchange.get(path, self._headers(exchange))
        if answer.status in (401, 403):
            raise self._refused()
        if answer.status == 404:
            return None
        return document_of(exchange, self._heeded(answer))

    def close(self) -> None:
        """Give the session back, if the service lets us; may be called twice."""
        if self._token and self._session:
            with (
                suppress(ReadFailed),
                Exchange(self._endpoint, min(_LOGOUT_SECONDS, self._timeout_seconds)) as exchange,
            ):
                exchange.send("DELETE", self._session, None, {"X-Auth-Token": self._token})
        self._token = self._session = ""

    def _headers(self, exchange: Exchange) -> dict[str, str]:
        if self._credentials is None:
            return {}
        if self._sessions and not self._token:
            self._login(exchange, *self._credentials)
        return {"X-Auth-Token": self._token} if self._token else basic(*self._credentials)

    def _login(self, exchange: Exchange, name: str, secret: str) -> None:
        answer = self._heeded(
            exchange.send("POST", self._sessions_path, {"UserName": name, "Password": secret})
        )
        if answer.status in (400, 401, 403):
            raise self._refused()
        self._token = answer.headers.get("X-Auth-Token", "")
        self._session = urlsplit(answer.headers.get("Location", "")).path
        self._sessions = bool(self._token)  # else it knows none: Basic from now on

    def _refused(self) -> ReadFailed:
        why = refusal(self._endpoint, credentials=self._credentials is not None)
        self._rest(
            _REFUSED_SECONDS, f"{why}: not tried again for 5 minutes, so that the account is not locked"
        )
        return ReadFailed(why)

    def _heeded(self, answer: Answer) -> Answer:
        if answer.status in (429, 503):
            asked = answer.headers.get("Retry-After", "").strip()
            seconds = (
                int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 6 else _USUAL_RETRY_SECONDS
            )
            why = f"{self._endpoint} is busy (HTTP status {answer.status})"
            self._rest(min(seconds, _LONGEST_RETRY_SECONDS), f"{why} and asked to be left in peace")
            raise ReadFailed(why)
        return answer

    def _rest(self, seconds: float, why: str) -> None:
        self._not_before, self._why_not = time.monotonic() + seconds, why
