# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests that all pages say the same of a silent server, in local times."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.filled import METER, Filled, minutes_of_server
from tests.support.reading import Reading
from veilleuse.collector.web.metrics import snapshot

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
JUDGED, WAITING = "est silencieux", "n’est pas encore jugé"


@pytest.mark.parametrize(("minutes", "is_judged"), [(10, False), (600, True)])
def test_pages_agree_on_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: int, is_judged: bool
):
    """A server without a contact is silent on each page, or on none: the list once counted it while Parc
    said that nothing is silent. `minutes`: since the start of the service."""
    started = round((NOW - timedelta(minutes=minutes)).timestamp() * 1000)
    monkeypatch.setattr(snapshot, "ask", lambda *_, **__: {"listening_unix_milliseconds": started})
    with Filled(tmp_path / "data", clock=NOW.timestamp) as data:
        host = data.add_host()
        data.push(host, minutes_of_server(20, 15, 180.0), METER)
        contact = round((NOW - timedelta(hours=5)).timestamp() * 1000)
        data.store.registry.record_hello(
            host, facts_wire=None, health_wire=None, now_unix_milliseconds=contact
        )
        data.derive()
        with Reading(data, clock=NOW.timestamp) as reading:
            texts = {path: plain(reading.get(f"{path}?lang=fr").text) for path in ("/", "/parc", "/serveurs")}
            (one,) = set(re.findall(r"id=([0-9a-f]{12})", reading.get("/serveurs?lang=fr").text))
            texts["/serveur"] = plain(reading.get(f"/serveur?lang=fr&id={one}").text)
    wanted, unwanted = (JUDGED, WAITING) if is_judged else (WAITING, JUDGED)
    for path, text in texts.items():
        if path != "/serveurs":
            assert wanted in text, path
        assert unwanted not in text, path
        assert "Rien à signaler" not in text
        assert "Aucune population" not in text
    assert f"silencieux ({int(is_judged)})" in texts["/serveurs"]
    assert (WAITING in texts["/serveurs"]) is not is_judged
    assert "10 novembre 2026, 08:00" in texts["/serveurs"], "07:00 UTC"
    assert "Heures locales (Europe/Paris)" in texts["/serveur"]


def plain(page: str) -> str:
    """Return the words of a page, with ordinary spaces."""
    text = html.unescape(re.sub(r"<[^>]+>", " ", page[page.index("<main") :]))
    return re.sub(r"\s+", " ", text.replace("\u202f", " ").replace("\u00a0", " "))
