# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the forecasts of `doctor`, and `show --quarantine`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakes.agent import Agent, energies, record
from tests.support.fakes.collector import FakeCollector
from veilleuse.agent.commands.main import main
from veilleuse.agent.ports import ControlKey
from veilleuse.agent.remote_config import RemoteConfig, Trial
from veilleuse.wire.configuration import Configuration
from veilleuse.wire.version import VERSION

Doctor = Callable[..., dict[str, Any]]


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    """Return an agent of a server with two waiting records and one refused record."""
    with FakeCollector() as collector:
        collector.refuse = lambda one: "energy_out_of_range" if 1_003 in energies([one]) else ""
        made = Agent(tmp_path / "state", **{"measure.population": "server"})
        made.enrol(collector)
        made.measure(*(record(index) for index in range(6)))
        assert made.send()
        made.measure(record(6), record(7))
        yield made


@pytest.fixture
def doctor(agent: Agent, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Return a function that runs doctor under more settings and returns its JSON, with its text."""

    def ask(**more: str) -> dict[str, Any]:
        config = agent.state.parent / "agent.toml"
        sections = {"paths": f'state = "{agent.state}"', "measure": 'population = "server"', **more}
        config.write_text("".join(f"[{name}]\n{lines}\n" for name, lines in sections.items()))
        main(["doctor", "--json", "--config", str(config)])
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        main(["doctor", "--config", str(config)])
        result["text"] = capsys.readouterr().out
        return result

    return ask


def test_the_room_that_is_left(doctor):
    """Days offline = unsent bytes left / (rows per day × bytes per row); longer periods give more days."""
    room = doctor()["room"]
    left = 64 * 1024 * 1024 * 13 / 16 - room["unsent_bytes"]
    assert room["rows_per_day"] == 288
    assert room["days_left"] == pytest.approx(left / 288 / room["bytes_per_row"], rel=0.01)
    assert doctor(measure='population = "classroom"')["room"]["days_left"] > 10 * room["days_left"]
    assert "offline, at 288 record(s) a day" in doctor()["text"]
    assert "more than 400 days offline" in doctor(measure='population = "workstation"')["text"]


def test_a_disk_at_its_reserve_is_a_warning(doctor):
    """Doctor warns if less disk is free than the reserve: the smaller of 5 % of the disk and the setting."""
    found = doctor(spool=f"disk_reserve_bytes = {2**62}")
    assert found["room"]["disk_reserve_bytes"] < found["room"]["disk_free_bytes"] or found["warnings"]


MAJOR, MINOR, _ = map(int, VERSION.split("."))


@pytest.mark.parametrize(
    ("collector", "skew", "warned"),
    [
        (VERSION, 0, False),
        (f"{MAJOR}.{MINOR - 1}.0", 1, False),
        (f"{MAJOR}.{MINOR + 7}.0", -7, True),
        (f"{MAJOR + 2}.0.0", None, True),
    ],
)
def test_versions_that_are_too_far_apart(agent, doctor, collector, skew, warned):
    """A skew of one minor release gives no warning; a larger skew does."""
    agent.with_outbox(lambda outbox: outbox.set_control({ControlKey.COLLECTOR_VERSION: collector}))
    found = doctor()
    assert found["versions"] == {"agent": VERSION, "collector": collector, "skew": skew}
    assert any("more than one release apart" in one for one in found["warnings"]) is warned


def test_how_the_configuration_stands(agent, doctor):
    """Doctor gives each state: none, pulled, applied, confirmed, failed, refused by the local file."""
    remote = RemoteConfig("ab" * 32, Configuration(period_milliseconds=600_000))

    def stands(**control: str | None) -> tuple[str, dict[str, int]]:
        keys = dict.fromkeys(
            (
                ControlKey.CONFIGURATION,
                ControlKey.CONFIGURATION_CANDIDATE,
                ControlKey.CONFIGURATION_TRIAL,
                ControlKey.CONFIGURATION_FAILED,
            )
        )
        agent.with_outbox(lambda outbox: outbox.set_control(keys | control))
        found = doctor()["configuration"]
        return found["state"], found["in_use"]

    values = {"period_milliseconds": 600_000}
    assert stands() == ("none", {})
    assert stands(configuration_candidate=remote.to_json()) == ("pulled, not tried yet", {})
    assert stands(configuration_trial=Trial(remote, "boot", 1).to_json()) == ("applied", values)
    assert stands(configuration=remote.to_json()) == ("confirmed", values)
    assert doctor()["room"]["rows_per_day"] == 144
    assert stands(configuration=remote.to_json(), configuration_failed="cd" * 32) == ("failed", values)
    found = doctor(collector="accept_configuration = false")
    assert found["configuration"]["state"] == "refused by the local file"
    assert found["room"]["rows_per_day"] == 288


def test_the_certificate_says_when_it_renews(doctor):
    """Renewal begins between two thirds and four fifths of the certificate's life."""
    found = doctor()["identity"]
    renews, ends = (
        found["certificate_renews_unix_milliseconds"],
        found["certificate_not_after_unix_milliseconds"],
    )
    assert 0.2 * 86_400_000 < ends - renews < 86_400_000 / 3
    assert "renewed at a contact from" in doctor()["text"]


def test_the_quarantine_can_be_read(agent, doctor, capsys):
    """`show --quarantine` prints each refused record with its reason; doctor names that command."""
    assert any("show --quarantine" in one for one in doctor()["warnings"])
    config = str(agent.state.parent / "agent.toml")
    assert main(["show", "--quarantine", "--config", config]) == 0
    said = capsys.readouterr().out
    assert "Record 4 of stream" in said
    assert "refused: energy_out_of_range" in said
    assert "1.003 J" in said
    assert main(["show", "--quarantine", "--json", "--config", config]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["seq"], one["reason"]) == (4, "energy_out_of_range")
    assert one["record"]["measurement"]["cells"]


def test_an_empty_quarantine_says_so(tmp_path, capsys):
    """`show --quarantine` says that it is empty, even where no measurement exists."""
    config = tmp_path / "agent.toml"
    config.write_text(f'[paths]\nstate = "{tmp_path}"\n')
    assert main(["show", "--quarantine", "--config", str(config)]) == 0
    assert "Nothing in quarantine" in capsys.readouterr().out
