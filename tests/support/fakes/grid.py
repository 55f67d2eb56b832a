# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Answer as ODRÉ and Electricity Maps do, as a handler of tests/support/fakes/devices.py.
tests/fixtures/intensity/PROVENANCE.md."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.fakes.devices import Asked, Reply, reply

_WHERE = re.compile(r"(\w+) IN \[date'([^']+)' TO date'([^']+)'\[")
_PATH = re.compile(r"/api/explore/v2\.1/catalog/datasets/([\w-]+)/(records|exports/json)")
TOKEN = "t0ken-of-a-test"


class FakeGrid:
    """A handler; `rows`: dataset → [(published instant, published value)], in any order. Both `rows` and
    `history` may be changed at any time."""

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[str, Any]]] = {
            "part-enr-intensite-ges-conso-tr": [],
            "eco2mix-national-tr": [],
            "eco2mix-national-cons-def": [],
        }
        self.history: list[dict[str, Any]] = []
        self.failing: dict[str, Reply] = {}
        """Part of the path → reply that replaces the answer."""

    def __call__(self, asked: Asked) -> Reply:
        for word, answer in self.failing.items():
            if word in asked.path:
                return answer
        parts = urlsplit(asked.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path.startswith("/v3/carbon-intensity/"):
            return self._electricity_maps(asked, parts.path, query)
        match = _PATH.fullmatch(parts.path)
        if match is None or match[1] not in self.rows:
            return reply(404, {"error_code": "ODSQLError", "message": "Unknown dataset"})
        return self._odre(match[1], match[2], query)

    def _odre(self, dataset: str, what: str, query: dict[str, str]) -> Reply:
        where = _WHERE.fullmatch(query.get("where", ""))
        limit, offset = int(query.get("limit", 10)), int(query.get("offset", 0))
        if where is None or query.get("timezone") != "UTC":
            return reply(400, {"error_code": "ODSQLError", "message": "ODSQL query is malformed"})
        if what == "records" and (limit > 100 or offset + limit > 10_000):
            return reply(
                400, {"error_code": "InvalidRESTParameterError", "message": "limit: <= 100 is expected"}
            )
        time_field, value_field = query["select"].split(",")
        start, end = (datetime.fromisoformat(text) for text in where.groups()[1:])
        found = [
            {time_field: instant, value_field: value}
            for instant, value in sorted(self.rows[dataset], key=lambda row: row[0])
            if start <= datetime.fromisoformat(instant) < end
        ]
        if what == "records":
            return reply(200, {"total_count": len(found), "results": found[offset : offset + limit]})
        return reply(200, found)

    def _electricity_maps(self, asked: Asked, path: str, query: dict[str, str]) -> Reply:
        if asked.headers.get("auth-token") != TOKEN:
            return reply(401, {"error": "Invalid auth-token"})
        if path.endswith("/history"):
            return reply(200, {"zone": query["zone"], "history": self.history})
        return reply(200, self.history[-1])
