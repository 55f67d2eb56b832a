# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The connector to a BoaviztAPI that the user runs, over a fake of it: what is taken, and what is not believed."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakes.authority import TestAuthority
from tests.support.fakes.boavizta import FakeBoavizta
from tests.support.fakes.devices import FakeDevice, dripping, endless, page, reply
from tests.support.waiting import in_time
from veilleuse.collector.cli.main import run
from veilleuse.collector.errors import UsageError
from veilleuse.collector.factors.boavizta import BoaviztaError, checked_url, other_criteria


@pytest.fixture
def api() -> FakeBoavizta:
    """One that knows France."""
    return FakeBoavizta()


@pytest.fixture
def device(api: FakeBoavizta) -> Iterator[FakeDevice]:
    """It, on a port of this machine."""
    with FakeDevice(api) as served:
        yield served


def ask(device: FakeDevice, country: str = "FRA", timeout_seconds: float = 5.0) -> dict[str, float]:
    """criterion → per kWh."""
    found = other_criteria(f"http://{device.address}", country, timeout_seconds=timeout_seconds)
    return {one.criterion: one.per_kwh for one in found.criteria}


def test_a_kwh_of_france(device: FakeDevice):
    """The unrounded factor of each criterion with unit, bounds and source; carbon is never asked for."""
    found = other_criteria(f"http://{device.address}/", "FRA")
    assert found.api_version == "2.5.0"
    assert {one.criterion: (one.per_kwh, one.unit, one.source) for one in found.criteria} == {
        "adpe": (3.0125e-08, "kgSbeq/kWh", "invented"),
        "primary_energy": (9.5, "MJ/kWh", "invented"),
        "water": (0.0020625, "m3eq/kWh", "invented"),
    }
    assert (found.criteria[1].lowest, found.criteria[1].highest) == (9.0, 10.0)
    assert "gwp" not in device.asked[-1].path


def test_another_place_never_stands_in(device: FakeDevice):
    """The real one answers for Europe when it does not know a country: refused."""
    with pytest.raises(BoaviztaError, match="no electricity of XKX"):
        ask(device, "XKX")


def test_a_criterion_that_is_not_there_is_absent(api: FakeBoavizta, device: FakeDevice):
    """As water of Zimbabwe: not zero."""
    del api.verbose["wu_factor"]
    assert set(ask(device)) == {"adpe", "primary_energy"}
    api.verbose.pop("pe_factor")
    api.verbose.pop("adp_factor")
    with pytest.raises(BoaviztaError, match="knows none of"):
        ask(device)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"unit": "g Sbeq/kWh"}, "not in kgSbeq/kWh"),
        ({"value": -1}, "out of range"),
        ({"value": 1e30}, "out of range"),
        ({"value": "3e-8"}, "no number"),
        ({"value": True}, "no number"),
        ({"value": None}, "no number"),
        ({"status": "DEFAULT"}, "another place's"),
        ({"source": ["a"]}, "something else"),
    ],
)
def test_what_is_no_factor_is_refused(
    api: FakeBoavizta, device: FakeDevice, change: dict[str, Any], why: str
):
    """Wrong unit, sign, size or type: one line, no figure."""
    api.verbose["adp_factor"] |= change
    with pytest.raises(BoaviztaError, match=why):
        ask(device)


def test_what_it_writes_cannot_move_the_cursor(api: FakeBoavizta, device: FakeDevice):
    """Control characters of its source are dropped, long texts cut."""
    api.verbose["pe_factor"]["source"] = "\x1b[2Jsource\n" + "x" * 500
    found = other_criteria(f"http://{device.address}", "FRA")
    source = next(one.source for one in found.criteria if one.criterion == "primary_energy")
    assert source.isprintable()
    assert len(source) == 200


@pytest.mark.parametrize(
    "handler",
    [
        page(b"<html>"),
        page(b"[" * 100_000),
        page(b'{"verbose": NaN}'),
        page(b'"text"'),
        page(b"{}"),
        lambda asked: reply(500),
        lambda asked: reply(302, headers={"Location": "http://example.org/"}),
        lambda asked: b"no HTTP at all\r\n\r\n",
        lambda asked: b"",
        endless,
    ],
)
def test_nonsense_is_one_line(handler: Callable[..., Any], api: FakeBoavizta):
    """HTML, depth, NaN, errors, a redirect (never followed), a body without end: BoaviztaFailed."""

    def version_first(asked: Any) -> Any:
        return api(asked) if asked.method == "GET" else handler(asked)

    with FakeDevice(version_first) as device:
        with pytest.raises(BoaviztaError) as refused:
            ask(device, timeout_seconds=5)
        assert "\n" not in str(refused.value)
        assert len(device.asked) == 2


@pytest.mark.parametrize("handler", [dripping, lambda asked: None])
def test_the_deadline_is_for_all_of_it(handler: Callable[..., Any]):
    """Letter by letter, or silent: over at the deadline, although no single wait is long."""
    with FakeDevice(handler) as device:

        def fails() -> None:
            with pytest.raises(BoaviztaError, match=r"in 0\.3 s|in time"):
                ask(device, timeout_seconds=0.3)

        in_time(2, fails)


def test_over_tls_the_certificate_is_checked(tmp_path: Path, api: FakeBoavizta):
    """Of the authority given: taken; of one nobody trusts, or for another name: refused before anything is said."""
    authority, stranger = TestAuthority(), TestAuthority("stranger")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.root.pem + authority.intermediate.pem)
    for signed, name, taken in (
        (authority.server, "127.0.0.1", True),
        (authority.new_server(name="other.example"), "127.0.0.1", False),
        (stranger.server, "127.0.0.1", False),
    ):
        chain = tmp_path / "chain.pem"
        chain.write_bytes(signed.pem + authority.intermediate.pem + signed.key_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        with FakeDevice(api, context) as device:
            url = f"https://{name}:{device.port}"
            if taken:
                assert other_criteria(url, "FRA", ca_file=ca).criteria
            else:
                with pytest.raises(BoaviztaError, match="not trusted"):
                    other_criteria(url, "FRA", ca_file=ca)
                assert not device.asked


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org",
        "http://10.0.0.1:5000",
        "ftp://127.0.0.1",
        "file:///etc/passwd",
        "127.0.0.1:5000",
        "https://user:word@example.org",
        "https://example.org/?a=b",
        "http://127.0.0.1:99999",
        "http://localhost.example.org",
        "",
    ],
)
def test_where_it_may_be(url: str):
    """TLS anywhere, plain on this machine alone, no credentials in an address."""
    with pytest.raises(UsageError):
        checked_url(url)
    for good in (
        "https://example.org/boavizta",
        "http://127.0.0.1:5000",
        "http://[::1]:5000",
        "http://localhost",
    ):
        assert checked_url(good).hostname


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/é", f"https://{'a' * 70}.example.org"])
def test_a_name_that_nobody_can_be_asked_for_is_one_line(url: str):
    """Too long a name, or an accent in a path: no silence until the deadline, and no traceback of a thread."""
    with pytest.raises(BoaviztaError, match="cannot ask"):
        other_criteria(url, "FRA", timeout_seconds=5)


def test_the_command_says_that_it_is_not_official(device: FakeDevice, capsys: pytest.CaptureFixture[str]):
    """The label stands first; JSON has official = false; Corsica is no country."""
    url = f"http://{device.address}"
    assert run(["factors", "boavizta", "--url", url, "--zone", "FR", "--kwh", "1000"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("other criteria, indicative: not part of the official figure")
    assert "9500 MJ" in out
    assert run(["factors", "boavizta", "--url", url, "--zone", "France", "--json", "--kwh", "2"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["official"], said["criteria"][1]["value"]) == (False, 19.0)
    assert run(["factors", "boavizta", "--url", url, "--zone", "Corse"]) == 1
    assert "'Corse' is no country of BoaviztAPI" in capsys.readouterr().err
