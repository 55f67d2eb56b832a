# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of signing in: the cookie, forms of other sites, wrong tokens, and the header of a reverse proxy."""

from __future__ import annotations

import asyncio
import re

import httpx
import pytest

from tests.support.filled import Filled
from tests.support.reading import Reading
from veilleuse.collector.errors import ConfigurationError
from veilleuse.collector.model.accounts import Role, token_sha256
from veilleuse.collector.settings import CollectorSettings, Http, read_settings
from veilleuse.collector.web.access import COOKIE, read_metrics_auth
from veilleuse.collector.web.sessions import MOST_OF_TOKEN, MOST_SESSIONS, SESSION_SECONDS, Sessions
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


def cookie_of(answer: httpx.Response) -> dict[str, str]:
    """Return the header by which a browser sends the cookie of an answer back."""
    return {"cookie": answer.headers["set-cookie"].partition(";")[0]}


def test_the_cookie_is_not_the_token_and_signing_out_ends_it(reading):
    """A copied cookie opens nothing after its session was ended, while another browser's goes on."""
    token = reading.account()
    for secret in (token, TOKEN):
        mine, other = (cookie_of(sign_in(reading, secret)) for _ in range(2))
        assert mine != other
        assert secret not in mine["cookie"]
        assert [send(reading, "GET", "/", headers=one).status_code for one in (mine, other)] == [200, 200]
        assert send(reading, "POST", "/deconnexion", headers=mine).status_code == 303
        assert [send(reading, "GET", "/", headers=one).status_code for one in (mine, other)] == [401, 200]
        assert send(reading, "GET", "/", headers={"cookie": f"{COOKIE}={secret}"}).status_code == 401
        bearer = {"authorization": f"Bearer {other['cookie'].partition('=')[2]}"}
        assert send(reading, "GET", "/", headers=bearer).status_code == 401
        again = cookie_of(send(reading, "POST", "/connexion", data={"token": secret}, headers=other))
        assert [send(reading, "GET", "/", headers=one).status_code for one in (other, again)] == [401, 200]


def test_a_revoked_token_ends_its_sessions(reading):
    """The next request is refused as one without a session, and counts as no wrong token."""
    kept = cookie_of(sign_in(reading, reading.account("short")))
    assert send(reading, "GET", "/", headers=kept).status_code == 200
    (account,) = [one for one in reading.data.store.accounts.accounts() if one.name == "short"]
    reading.data.store.accounts.revoke_account(account.token_sha256, 1)
    assert {send(reading, "GET", "/", headers=kept).status_code for _ in range(20)} == {401}


def test_sessions_have_an_end_and_a_bound():
    """After twelve hours a session is over; the 33rd of a token ends its first; nobody else's goes for it."""
    now = [1_000.0]
    sessions = Sessions(lambda: now[0])
    mine, others = token_sha256("mine"), token_sha256("others")
    theirs, first, *rest = sessions.begin(others), *(sessions.begin(mine) for _ in range(MOST_OF_TOKEN))
    assert sessions.token_sha256(first) == mine
    sessions.begin(mine)
    assert [sessions.token_sha256(one) for one in (theirs, first, rest[0])] == [others, None, mine]
    now[0] += SESSION_SECONDS
    assert sessions.token_sha256(theirs) is None
    begun = [sessions.begin(token_sha256(str(number))) for number in range(MOST_SESSIONS + 1)]
    assert [sessions.token_sha256(one) for one in begun[:2]] == [None, token_sha256("1")]
    assert len(sessions) == MOST_SESSIONS


def test_a_client_that_hangs_up_is_no_error(reading, caplog):
    """One that leaves before its form is whole leaves no exception in the log."""

    async def ask() -> None:
        headers = [(b"host", HOST.encode()), (b"content-length", b"10")]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/connexion",
            "headers": headers,
            "query_string": b"",
        }

        async def receive() -> dict[str, str]:
            return {"type": "http.disconnect"}

        async def answer(message: object) -> None:
            pass

        await reading.app(scope, receive, answer)

    asyncio.run(ask())
    assert not caplog.records


SECRET = "fedcba9876543210fedcba9876543210"
BY_PROXY = {"x-veilleuse-proxy-secret": SECRET}


@pytest.fixture
def behind_proxy(tmp_path):
    """Give an application that leaves signing in to a reverse proxy with SECRET; `dsi` is an account."""
    with Filled(tmp_path / "data") as data:
        settings = CollectorSettings(
            data_dir=data.directory, http=Http(account_header=HEADER, hosts_metrics=True)
        )
        with Reading(
            data, door_token=TOKEN, proxy_secret=SECRET, settings=settings, impatient=True
        ) as opened:
            opened.account("dsi")
            yield opened


def test_a_reverse_proxy_names_the_account(behind_proxy):
    """With its secret, the name opens what the account may; without one, nothing is open and nothing asks."""
    answer = send(behind_proxy, "GET", "/?lang=fr", headers={HEADER: "dsi", **BY_PROXY})
    assert answer.status_code == 200
    assert "/connexion" not in answer.text  # the proxy signs people in and out
    assert "Compte «\u00a0dsi\u00a0»" in answer.text
    form = send(behind_proxy, "GET", "/connexion?next=/bilan", headers={HEADER: "dsi", **BY_PROXY})
    assert (form.status_code, form.headers.get("location")) == (303, "/bilan")
    assert "aucun compte" in send(behind_proxy, "GET", "/connexion?lang=fr", headers=BY_PROXY).text
    for name in ("nobody", "", "dsi, dsi"):
        nobody = send(behind_proxy, "GET", "/?lang=fr", headers={HEADER: name, **BY_PROXY})
        assert nobody.status_code == 401
        assert "aucun compte" in nobody.text
        assert 'name="token"' not in nobody.text
        assert "/connexion" not in nobody.text
    assert send(behind_proxy, "GET", "/", headers=BY_PROXY).status_code == 401
    twice = [*BY_PROXY.items(), (HEADER, "dsi"), (HEADER, "admin")]
    assert send(behind_proxy, "GET", "/", headers=twice).status_code == 401


def test_nobody_else_names_an_account(behind_proxy, caplog):
    """A name without the secret, with a wrong one or with two is a wrong token; the log says so once."""
    assert send(behind_proxy, "GET", "/", headers={HEADER: "dsi"}).status_code == 401
    assert [one.levelname for one in caplog.records] == ["WARNING"]
    for shown in ([SECRET[:-1]], [SECRET + "0"], [""], [SECRET, SECRET], [SECRET, "x"]):
        headers = [(HEADER, "dsi"), *(("x-veilleuse-proxy-secret", one) for one in shown)]
        assert send(behind_proxy, "GET", "/", headers=headers).status_code == 401
    token = behind_proxy.account("program")
    named = {HEADER: "dsi", "authorization": f"Bearer {token}"}
    assert send(behind_proxy, "GET", "/api/v1/factors?zone=FR", headers=named).status_code == 401
    codes = [send(behind_proxy, "GET", "/", headers={HEADER: "dsi"}).status_code for _ in range(20)]
    assert codes[-1] == 429
    assert len(caplog.records) == 1


def test_the_header_alone_decides(behind_proxy):
    """No page takes a cookie or a token, or gives one; the API takes tokens of requests without a name."""
    admin, factors = behind_proxy.account("all", Role.ADMIN), "/api/v1/factors?zone=FR"
    refused = sign_in(behind_proxy, admin)
    assert (refused.status_code, "set-cookie" in refused.headers) == (403, False)
    cookie = {"cookie": f"{COOKIE}={behind_proxy.access.sessions.begin(token_sha256(admin))}"}
    bearer = {"authorization": f"Bearer {admin}"}
    basic = {"authorization": httpx.BasicAuth("any", admin)._auth_header}
    for own in (cookie, bearer, basic):
        assert send(behind_proxy, "GET", "/", headers=own).status_code == 401
        assert send(behind_proxy, "GET", "/", headers={**own, **BY_PROXY}).status_code == 401
        assert (
            send(behind_proxy, "GET", "/parc", headers={**own, **BY_PROXY, HEADER: "dsi"}).status_code == 403
        )
        named = {**own, **BY_PROXY, HEADER: "dsi"}
        assert send(behind_proxy, "GET", "/metrics/hosts", headers=named).status_code == 403
    for own in (bearer, basic):
        for more in ({}, BY_PROXY, {HEADER: ""}):
            assert send(behind_proxy, "GET", factors, headers={**own, **more}).status_code == 200
    assert send(behind_proxy, "GET", "/api/v1/nothing", headers=bearer).status_code == 404
    assert (
        send(behind_proxy, "GET", "/metrics", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    )
    assert send(behind_proxy, "GET", factors, headers=cookie).status_code == 401


TAKEN = re.split(
    r"\s+",
    """Host Cookie Set-Cookie AUTHORIZATION Proxy-Authorization Origin Content-Length Transfer-Encoding Connection
    TE Upgrade Expect Forwarded Via X-Forwarded-For X-Forwarded-Proto X-Forwarded-Host X-Real-IP Sec-Fetch-Site
    Accept-Language User-Agent If-None-Match X-Veilleuse-Proxy-Secret X-Prometheus-Scrape-Timeout-Seconds""",
)
NO_NAMES = [
    "X Account",
    "X-Account:",
    "X_Account",
    "X--Account",
    "-Account",
    "Compte-é",
    "x" * 300,
    "²",
]


@pytest.mark.parametrize("name", [*TAKEN, *NO_NAMES])
def test_a_header_with_another_meaning_names_no_account(name):
    """It is refused with the settings, in one line that names the setting."""
    with pytest.raises(
        ConfigurationError, match=r"^'http\.account_header' on the command line is .*X-Veilleuse"
    ) as told:
        read_settings(None, {}, {"http.account_header": name})
    assert "\n" not in str(told.value)
    assert ("128 characters" in str(told.value)) is (len(name) > 128)


@pytest.mark.parametrize("name", ["X-Veilleuse-Account", "Remote-User", "X-Forwarded-User", "Auth-User"])
def test_headers_of_single_sign_on_are_taken(name):
    """What LemonLDAP::NG, oauth2-proxy and nginx use may name an account."""
    assert read_settings(None, {}, {"http.account_header": name}).http.account_header == name


def test_the_secret_is_needed_and_is_a_secret(tmp_path):
    """The header needs the secret's file, it needs the metrics token, and others may not read it."""
    token, secret = tmp_path / "token", tmp_path / "secret"
    token.write_text(TOKEN)
    secret.write_text(SECRET + "\n")
    token.chmod(0o640)
    secret.chmod(0o600)
    both = Http(metrics_token_file=str(token), proxy_secret_file=str(secret), account_header=HEADER)
    assert read_metrics_auth(both).proxy_secret == SECRET
    with pytest.raises(ConfigurationError, match=r"account_header needs http\.proxy_secret_file"):
        read_metrics_auth(Http(account_header=HEADER, metrics_token_file=str(token)))
    with pytest.raises(ConfigurationError, match=r"proxy_secret_file needs http\.metrics_token_file"):
        read_metrics_auth(Http(proxy_secret_file=str(secret)))
    secret.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        read_metrics_auth(both)
