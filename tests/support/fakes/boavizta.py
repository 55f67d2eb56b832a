# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A fake BoaviztAPI: the shape of 2.5.0's answers with invented numbers (tests/fixtures/boavizta/PROVENANCE.md)."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from tests.support.fakes.devices import Asked, Reply, reply

FIXTURE = Path(__file__).parents[2] / "fixtures" / "boavizta" / "monitor.json"


class FakeBoavizta:
    """Answers for the countries it knows, for others as the real one: Europe, with a warning; `verbose` may be changed."""

    def __init__(self, countries: tuple[str, ...] = ("FRA",)) -> None:
        self.document: dict[str, Any] = json.loads(FIXTURE.read_text(encoding="utf-8"))
        self.verbose: dict[str, Any] = self.document["verbose"]
        self._countries = countries

    def __call__(self, asked: Asked) -> Reply:
        path = asked.path.partition("?")[0]
        if path == "/v1/utils/version":
            return reply(200, text=b'"2.5.0"')
        if path != "/v1/peripheral/monitor" or asked.method != "POST":
            return reply(404, {"detail": "Not Found"})
        document = copy.deepcopy(self.document)
        location = document["verbose"]["usage_location"]
        location["value"] = json.loads(asked.body)["usage"]["usage_location"]
        if location["value"] not in self._countries:
            warning = "Location not found. Default value used."
            location |= {"value": "EEE", "status": "DEFAULT", "warnings": [warning]}
            for word in ("adp", "pe", "wu"):
                document["verbose"][f"{word}_factor"]["status"] = "DEFAULT"
        return reply(200, document)
