# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of signing in: the cookie, forms of other sites, wrong tokens, and the header of a reverse proxy."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.support.filled import Filled
from tests.support.reading import Reading
from veilleuse.collector.errors import ConfigurationError
from veilleuse.collector.model.accounts import Role
from veilleuse.collector.settings import Http
from veilleuse.collector.web.access import COOKIE, read_metrics_auth
from veilleuse.collector.web.sign_in import FORM_BYTES, local_path

TOKEN = "0123456789abcdef0123456789abcdef"
HOST = "veilleuse.example.org"
HEADER = "X-Veilleuse-Account"


@pytest.fixture
def reading(tmp_path):
    """Give an application off loopback, whose token is TOKEN."""
    with Filled(tmp_path / "data") as data, Reading(data, door_token=TOKEN, impatient=True) as opened:
        yield opened


def send(reading: Reading, method: str, path: str, **options: object) -> httpx.Response:
    """Return the answer to one request of a browser."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(reading.app)
        async with httpx.AsyncClient(transport=transport, base_url=f"https://{HOST}") as client:
            return await client.request(method, path, **options)  # type: ignore[arg-type]

    return asyncio.run(ask())


def sign_in(reading: Reading, token: str, after: str = "/", **headers: str) -> httpx.Response:
    """Send the form."""
    return send(reading, "POST", "/connexion", data={"token": token, "next": after}, headers=headers)


def test_a_person_signs_in_and_out(reading):
    """The page asks for a token in place of itself; the cookie is for this browser session, HTTP and site."""
    asked = send(reading, "GET", "/?lang=fr")
    assert asked.status_code == 401
    assert 'name="next" value="/?lang=fr"' in asked.text
    assert "Basic" not in str(asked.headers)
    answer = sign_in(reading, reading.account(), "/?lang=fr")
    assert (answer.status_code, answer.headers["location"]) == (303, "/?lang=fr")
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Secure"} <= set(cookie.split("; "))
    assert "expires" not in cookie.lower()
    assert "max-age" not in cookie.lower()
    kept = {"cookie": cookie.partition(";")[0]}
    page = send(reading, "GET", "/?lang=fr", headers=kept)
    assert page.status_code == 200
    assert "Déconnecter «\u00a0grafana\u00a0»" in page.text
    assert page.headers["cache-control"] == "no-store"
    gone = send(reading, "POST", "/deconnexion", headers=kept)
    assert (gone.status_code, gone.headers["location"]) == (303, "/connexion")
    assert f'{COOKIE}=""' in gone.headers["set-cookie"]


def test_a_wrong_token_opens_nothing_and_the_tries_are_counted(reading):
    """The form says what is wrong; after many tries of one address it asks to wait. A good token passes."""
    good = reading.account()
    assert sign_in(reading, "").status_code == 401
    codes = [sign_in(reading, f"veilleuse_{number}").status_code for number in range(40)]
    assert codes[0] == 401
    assert codes[-1] == 429
    assert sign_in(reading, good).status_code == 303
    assert "set-cookie" not in sign_in(reading, "veilleuse_x").headers


def test_another_site_signs_nobody_in(reading):
    """A form of another origin, or one that the browser says to be of another site, is refused."""
    token = reading.account()
    assert sign_in(reading, token, origin="https://evil.example").status_code == 403
    assert sign_in(reading, token, **{"sec-fetch-site": "cross-site"}).status_code == 403
    assert sign_in(reading, token, origin=f"https://{HOST}").status_code == 303
    behind_proxy = {"origin": "https://veilleuse.example", "sec-fetch-site": "same-origin"}
    assert sign_in(reading, token, **behind_proxy).status_code == 303
    crossed = {"origin": "https://evil.example"}
    assert send(reading, "POST", "/deconnexion", headers=crossed).status_code == 403


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ("/bilan?year=2025&lang=fr", "/bilan?year=2025&lang=fr"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example/", "/"),
        ("/\r\nset-cookie: a=b", "/"),
        ("javascript:alert(1)", "/"),
        ("", "/"),
    ],
)
def test_the_way_on_stays_here(asked, path):
    """After signing in, no address leads to another site or into a header."""
    assert local_path(asked) == path


@pytest.mark.parametrize("body", [b"token=" + b"a" * FORM_BYTES, b"token=\xff", b"&".join([b"a=b"] * 20)])
def test_forms_are_bounded(reading, body):
    """A long or unreadable form is refused before it is read whole."""
    assert send(reading, "POST", "/connexion", content=body).status_code in (400, 413)


def test_a_reverse_proxy_names_the_account(tmp_path):
    """With http.account_header, the proxy's name opens what the account may; without it nothing is open."""
    with Filled(tmp_path / "data") as data, Reading(data, door_token=TOKEN, account_header=HEADER) as reading:
        reading.account("dsi", Role.READER)
        assert send(reading, "GET", "/").status_code == 401
        assert send(reading, "GET", "/", headers={"x-veilleuse-account": "nobody"}).status_code == 401
        twice = [("x-veilleuse-account", "dsi"), ("x-veilleuse-account", "admin")]
        assert send(reading, "GET", "/", headers=twice).status_code == 401
        answer = send(reading, "GET", "/?lang=fr", headers={"x-veilleuse-account": "dsi"})
        assert answer.status_code == 200
        assert "Connexion" not in answer.text  # the proxy signs people in and out
    with pytest.raises(ConfigurationError, match=r"needs http\.metrics_token_file"):
        read_metrics_auth(Http(account_header=HEADER))
