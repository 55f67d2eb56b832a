# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the pages of servers: all pages say the same of a silent one, and the list has the day's hours."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.filled import METER, Filled, cell, clock, minutes_of_server
from tests.support.reading import DOOR_TOKEN, Reading
from veilleuse.collector.model.accounts import Role
from veilleuse.collector.web.metrics import snapshot
from veilleuse.wire.vocabulary import DeviceClass, Population, State

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
HOUR = 3_600_000
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
        data.push(host, minutes_of_server(20, 15, 180.0, at=NOW), METER)
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


def test_identities_with_one_pseudonym_are_counted(tmp_path: Path):
    """Parc counts the identities in use with one pseudonym, and names none."""
    with Filled(tmp_path / "data", clock=NOW.timestamp) as data:
        registry = data.store.registry
        hosts = [data.add_host(Population.WORKSTATION, DeviceClass.LAPTOP) for _ in range(3)]
        ids = [host.agent_id for host in registry.hosts() if host.host_id in hosts]
        for agent_id in ids[:2]:
            registry.put_pseudonyms(agent_id, b"\xaa" * 32, b"")
        with Reading(data, clock=NOW.timestamp) as reading:
            assert "numéro de série" not in plain(reading.get("/parc?lang=fr").text)
        registry.mark_shared_pseudonyms()
        with Reading(data, clock=NOW.timestamp) as reading:
            page = reading.get("/parc?lang=fr").text
    assert "2 identités en service ont le numéro de série ou l’UUID d’une autre" in plain(page)
    assert not any(agent_id.hex()[:12] in page for agent_id in ids)


def test_hours_of_all_servers_are_those_of_the_day(tmp_path: Path):
    """The hours sum to the day's energy of physical servers; an owner of some of them does not see them."""
    with Filled(tmp_path / "data", clock=NOW.timestamp) as data:
        start = round(NOW.timestamp() * 1000) - 2 * HOUR
        for entity, watts in (("DSI", 180), ("Culture", 90)):
            on = cell(State.ON_ACTIVE, HOUR, energy_millijoules=watts * HOUR, busy_ratio=0.5)
            records = [(clock(start + number * HOUR, HOUR), [on]) for number in range(2)]
            data.push(data.add_host(entity=entity), records, METER)
        virtual = data.add_host(device_class=DeviceClass.VIRTUAL_MACHINE)
        data.push(virtual, [(clock(start, HOUR), [cell(State.ON_ACTIVE, HOUR, busy_ratio=0.5)])])
        data.derive()
        with Reading(data, door_token=DOOR_TOKEN, clock=NOW.timestamp) as reading:
            home, page = (
                plain(reading.get(f"{path}?lang=en", DOOR_TOKEN).text) for path in ("/", "/serveurs")
            )
            owner = plain(reading.get("/serveurs?lang=en", reading.account("o", Role.OWNER, "DSI")).text)
    assert "0.540 kWh since midnight" in home
    _, caption, table = page.rpartition("Energy of all physical servers by hour, in kWh")
    assert re.findall(r"(\d\d:00) ([\d.]+ kWh)", table) == [("11:00", "0.270 kWh"), ("12:00", "0.270 kWh")], (
        "in Paris"
    )
    assert caption
    assert caption not in owner
    assert "DSI" in owner


def plain(page: str) -> str:
    """Return the words of a page, with ordinary spaces."""
    text = html.unescape(re.sub(r"<[^>]+>", " ", page[page.index("<main") :]))
    return re.sub(r"\s+", " ", text.replace("\u202f", " ").replace("\u00a0", " "))
