# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of GLPI's REST API with a fake of it: sessions, pages, faults, TLS, and no token in a message."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakes.glpi import APP_TOKEN, USER_TOKEN, FakeGlpi, computer, fake_glpi
from veilleuse.collector.errors import UsageError
from veilleuse.collector.inventory import finished
from veilleuse.collector.inventory.glpi_api import (
    PAGE,
    Credentials,
    Glpi,
    GlpiError,
    Wire,
    pull,
    read_credentials,
)
from veilleuse.collector.inventory.mapping import InventoryMapping
from veilleuse.collector.inventory.rows import InventoryReading

WORDS = InventoryMapping(sites=frozenset({"Lyon"}))


@pytest.fixture
def glpi() -> Iterator[FakeGlpi]:
    """Run a fake with 450 computers."""
    with fake_glpi() as fake:
        fake.items["Computer"] = [computer(number) for number in range(1, 451)]
        yield fake


def pulled(fake: FakeGlpi, items: tuple[str, ...] = ("computer",), **wire: Any) -> InventoryReading:
    """Return the reading of everything."""
    waits: list[float] = wire.pop("waits", [])
    who = Credentials(
        fake.url,
        wire.pop("user_token", USER_TOKEN),
        wire.pop("app_token", APP_TOKEN),
        wire.pop("ca_file", ""),
    )
    reading = InventoryReading("glpi")
    with Glpi(Wire(who, sleep=waits.append, **wire), who.user_token) as session:
        pull(reading, WORDS, session, items)
    return finished(reading, WORDS)


def test_pages_the_tree_the_days_and_the_screens(glpi):
    """Pages, entities, days of service and monitors are read, and the session is ended."""
    glpi.items["Infocom"] = [
        {"id": 1, "itemtype": "Computer", "items_id": 7, "use_date": "2021-09-01", "decommission_date": None},
        {"id": 2, "itemtype": "Monitor", "items_id": 7, "use_date": "1999-01-01", "decommission_date": None},
    ]
    glpi.items["Computer_Item"] = [
        {"id": n, "itemtype": kind, "items_id": n, "computers_id": 7, "is_deleted": gone}
        for n, kind, gone in ((1, "Monitor", 0), (2, "Monitor", 0), (3, "Printer", 0), (4, "Monitor", 1))
    ]
    reading = pulled(glpi)
    assert (len(reading.assets), reading.refused, glpi.alive) == (450, [], set())
    seventh = reading.assets[6]
    assert (seventh.key, seventh.values["entity"], seventh.values["site"]) == (
        "Computer:7",
        "Métropole > Collèges",
        "Lyon",
    )
    assert (str(seventh.values["in_service_on"]), seventh.values["displays"]) == ("2021-09-01", 2)
    assert (seventh.values["device_class"], reading.assets[7].values["displays"]) == ("tower", 0)
    assert {row.name for row in reading.entities} == {"Métropole", "Métropole > Collèges"}
    ranges = [query["range"] for path, query in glpi.requests if path == "Computer"]
    assert ranges == ["0-199", "200-399", "400-599"]


def test_people_are_not_read(glpi):
    """Users and contacts are not read."""
    reading = pulled(glpi)
    assert "dupont" not in repr(reading)
    assert "Martin" not in repr(reading)


@pytest.mark.parametrize("totals", [True, False])
@pytest.mark.parametrize("number", [0, 1, PAGE, 2 * PAGE, 2 * PAGE + 1])
def test_the_end_of_a_list(glpi, number, totals):
    """Lists of any length are read completely, with or without a total."""
    glpi.items["Computer"] = glpi.items["Computer"][:number]
    glpi.tells_totals = totals
    reading = pulled(glpi)
    assert len(reading.assets) == number


def test_a_range_beyond_the_end_is_the_end(glpi):
    """An item that disappears after the first page gives ERROR_RANGE_EXCEED_TOTAL; the list is read again."""
    glpi.items["Computer"] = glpi.items["Computer"][: PAGE + 1]
    ask, calls = glpi.answer, []

    def answer(path: str, query: dict[str, str], headers: dict[str, str]) -> Any:
        if path == "Computer":
            calls.append(query["range"])
            if len(calls) == 2:
                glpi.items["Computer"].pop()
        return ask(path, query, headers)

    glpi.answer = answer
    assert len(pulled(glpi).assets) == PAGE
    assert calls == ["0-199", "200-399", "0-199"]


def test_a_list_that_changes_is_read_again_then_refused(glpi):
    """A list with an item twice is read once more; when that repeats, nothing is imported."""
    twice = glpi.items["Computer"][:PAGE] + glpi.items["Computer"][PAGE - 1 :]
    good, calls = glpi.items["Computer"], []
    ask = glpi.answer

    def answer(path: str, query: dict[str, str], headers: dict[str, str]) -> Any:
        if path == "Computer":
            calls.append(path)
            glpi.items["Computer"] = twice if len(calls) <= 3 else good
        return ask(path, query, headers)

    glpi.answer = answer
    assert len(pulled(glpi).assets) == 450
    calls.clear()
    good = twice
    with pytest.raises(GlpiError, match="changes while it is read"):
        pulled(glpi)


def test_an_ended_session_is_begun_again(glpi):
    """A page of an ended session is requested again in a new session, and nothing is missing."""
    glpi.lives = 4
    assert len(pulled(glpi).assets) == 450
    assert glpi.session > 1


def test_a_session_that_never_lasts_is_told(glpi):
    """After three ended sessions the import fails."""
    glpi.faults = [("Computer", 401, {}, b'["ERROR_SESSION_TOKEN_INVALID","x"]')] * 3
    with pytest.raises(GlpiError, match="ended the session"):
        pulled(glpi)


def test_busy_and_broken_are_waited_for(glpi):
    """429 waits as long as GLPI asks, 5xx increasingly longer; then all is read."""
    waits: list[float] = []
    glpi.faults = [
        ("Computer", 429, {"Retry-After": "7"}, b""),
        ("Computer", 502, {}, b"<html>bad gateway</html>"),
        ("Computer", 503, {}, b""),
    ]
    assert len(pulled(glpi, waits=waits).assets) == 450
    assert waits == [7.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("faults", "why"),
    [
        ([("Computer", 503, {}, b"")] * 4, "has a fault .503, 4 times"),
        ([("Computer", 429, {}, b"")] * 4, "asked too often .429, 4 times"),
        ([("Computer", 429, {"Retry-After": "3600"}, b"")], "come back in 3600 s"),
        ([("initSession", 401, {}, b'["ERROR_GLPI_LOGIN_USER_TOKEN","x"]')], "does not know the user_token"),
        ([("initSession", 400, {}, b'["ERROR_APP_TOKEN_PARAMETERS_MISSING","x"]')], "wants an App-Token"),
        (
            [("initSession", 403, {}, b'["ERROR_NOT_ALLOWED_IP","x"]')],
            "does not serve this machine's address",
        ),
        ([("initSession", 200, {}, b"<html>login</html>")], "no GLPI"),
        ([("initSession", 302, {"Location": "http://127.0.0.1:1/"}, b"")], "no GLPI .302"),
        ([("Computer", 403, {}, b'["ERROR_RIGHT_MISSING","x"]')], "give it read rights"),
        ([("Computer", 500, {}, b'["ERROR_SQL","x"]')], "says ERROR_SQL"),
        ([("Computer", 200, {}, b'{"session": {}}')], "no list of Computer"),
        ([("Computer", 200, {}, b"[" * 100_000)], "no list of Computer"),
    ],
)
def test_what_goes_wrong_is_told(glpi, faults, why):
    """The error says what to do, without a token."""
    glpi.faults = list(faults)
    with pytest.raises(GlpiError, match=why) as failed:
        pulled(glpi)
    assert USER_TOKEN not in str(failed.value)
    assert APP_TOKEN not in str(failed.value)


def test_what_a_profile_may_not_read_is_left_out_and_told(glpi):
    """Without the right to days and screens the computers are still read."""
    glpi.faults = [("Infocom", 403, {}, b'["ERROR_RIGHT_MISSING","x"]')]
    del glpi.items["Computer_Item"]
    reading = pulled(glpi)
    assert len(reading.assets) == 450
    assert set(reading.unknown["not readable in GLPI"]) == {"Infocom", "Glpi\\Asset\\Asset_PeripheralAsset"}
    assert "displays" not in reading.assets[0].values


def test_screens_of_glpi_11(glpi):
    """GLPI 11 has a successor of Computer_Item with other field names."""
    del glpi.items["Computer_Item"]
    glpi.items["Glpi\\Asset\\Asset_PeripheralAsset"] = [
        {
            "id": 1,
            "itemtype_asset": "Computer",
            "items_id_asset": 3,
            "itemtype_peripheral": "Monitor",
            "is_deleted": 0,
        },
        {
            "id": 2,
            "itemtype_asset": "Phone",
            "items_id_asset": 3,
            "itemtype_peripheral": "Monitor",
            "is_deleted": 0,
        },
    ]
    assert pulled(glpi).assets[2].values["displays"] == 1


def test_deleted_ones_and_templates_are_none(glpi):
    """GLPI lists deleted items and templates too."""
    glpi.items["Computer"] = [computer(1), computer(2, is_deleted=1), computer(3, is_template=1)]
    assert [row.key for row in pulled(glpi).assets] == ["Computer:1"]


def test_too_slow_and_too_large(glpi):
    """A silent GLPI times out, an answer above 32 MiB is refused, and a whole pull is bounded in time."""
    glpi.slow_seconds = 0.6
    with pytest.raises(GlpiError, match=r"within 0.2 s"):
        pulled(glpi, timeout_seconds=0.2)
    glpi.slow_seconds = 0.0
    glpi.faults = [("Computer", 200, {}, b" " * (33 * 1024 * 1024))]
    with pytest.raises(GlpiError, match="longer than"):
        pulled(glpi)
    with pytest.raises(GlpiError, match="too slow"):
        pulled(glpi, whole_seconds=-1.0)


def test_nobody_there():
    """A port without listener is one line."""
    with fake_glpi() as fake:
        url = fake.url
    with pytest.raises(GlpiError, match="GLPI: cannot reach"), Glpi(Wire(Credentials(url, "x")), "x"):
        pass


def test_tls_is_verified(tmp_path):
    """A certificate of an unknown authority is refused before any request; with its ca_file GLPI is read."""
    with fake_glpi(tmp_path) as fake:
        fake.items["Computer"] = [computer(1)]
        with pytest.raises(GlpiError, match=r"not trusted.*ca_file"):
            pulled(fake)
        assert fake.requests == []
        assert len(pulled(fake, ca_file=str(tmp_path / "glpi.pem")).assets) == 1
        with pytest.raises(UsageError, match="holds no certificate in PEM"):
            pulled(fake, ca_file=str(tmp_path / "glpi.key"))


@pytest.mark.parametrize(
    "url",
    [
        "http://glpi.example.org/apirest.php",
        "ftp://127.0.0.1/",
        "https://user@glpi/",
        "https://glpi:99999/",
        "glpi",
        "https://[::1/apirest.php",
    ],
)
def test_urls_that_would_give_the_tokens_away(url):
    """Plain HTTP beyond this machine and invalid addresses are refused."""
    with pytest.raises(UsageError):
        Wire(Credentials(url, "x"))


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a file of credentials with a text and a mode."""

    def write(text: str, mode: int = 0o600) -> Path:
        file = tmp_path / "glpi.toml"
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)
        return file

    return write


GOOD = f'url = "https://glpi/apirest.php"\nuser_token = "{USER_TOKEN}"\napp_token = "{APP_TOKEN}"\n'


def test_credentials_of_their_owner_alone(written):
    """Credentials are read at 0600, refused when others may read them, and never shown."""
    read = read_credentials(written(GOOD))
    assert (read.user_token, read.app_token) == (USER_TOKEN, APP_TOKEN)
    assert USER_TOKEN not in repr(read)
    for mode in (0o640, 0o604, 0o666):
        with pytest.raises(UsageError, match="chmod 600"):
            read_credentials(written(GOOD, mode))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("url = ", "no TOML"),
        ('url = "https://glpi/"', "user_token are needed"),
        (GOOD + "password = 1", "unknown 'password'"),
        (GOOD.replace(f'"{APP_TOKEN}"', "1"), "a text in quotes"),
        ('url = "https://glpi/"\nuser_token = "a\\r\\nX-Evil: 1"', "a token is"),
    ],
)
def test_credentials_that_are_none(written, text, why):
    """The refusal is one line; a token with a line break cannot become a header."""
    with pytest.raises(UsageError, match=why):
        read_credentials(written(text))


def test_credentials_that_cannot_be_opened(tmp_path):
    """A missing file, a folder and a pipe are refused without hanging."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for path in (tmp_path / "none", tmp_path, pipe):
        with pytest.raises(UsageError):
            read_credentials(path)
