# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the public page about privacy: complete, the same everywhere, with messages as of agents."""

from __future__ import annotations

import base64
import html
import json
import re
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import pytest

from tests.support.filled import METER, Filled, minutes_of_server
from tests.support.reading import DOOR_TOKEN, Reading
from veilleuse.collector.documents.text import words
from veilleuse.collector.model.records import HostId
from veilleuse.collector.settings import ReportingSettings
from veilleuse.collector.simulate.example import example_json
from veilleuse.collector.validate import MachineLimits, check_push
from veilleuse.collector.web.pages.privacy.messages import SENT, messages_sent
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import DeviceClass, Population

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
EXAMPLE = files("veilleuse.collector").joinpath("data", "simulated_messages.json")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Give the page in both languages as a stranger gets it, from a collector that wants a token."""
    with (
        Filled(tmp_path_factory.mktemp("privacy") / "data", clock=NOW.timestamp) as data,
        Reading(data, door_token=DOOR_TOKEN, clock=NOW.timestamp) as reading,
    ):
        records = [f"en&records={one.value}" for one in Population]
        return {one: reading.get(f"/confidentialite?lang={one}").text for one in ("fr", "en", *records)}


def test_the_messages_are_all_that_an_agent_may_send():
    """P1: they are the requests of the services, and the record that a Push carries as bytes."""
    services = pb.DESCRIPTOR.services_by_name.values()
    requests = {method.input_type.name for service in services for method in service.methods}
    assert {message.DESCRIPTOR.name for message in SENT} == requests | {"Record"}


@pytest.mark.promise("P1")
@pytest.mark.parametrize("language", ["fr", "en"])
def test_every_field_is_on_the_page_with_its_text(page: dict[str, str], language: str, figure: Any):
    """P1: each field that an agent may send stands on the page with what it is for, and each of its words."""
    w, text = words(language), html.unescape(page[language])
    rows = {
        (name, meaning) for name, meaning in re.findall(r'<th scope="row">(\w+)</th><td>([^<]*)</td>', text)
    }
    missing = []
    for message in messages_sent():
        for field in message.fields:
            key = f"fields.{message.name}.{field.name}"
            if not w.has(key) or (field.name, w(key)) not in rows:
                missing.append(key)
            values = [] if field.enum_type is None else field.enum_type.values
            missing += [one.name for one in values if one.number and not w.has(f"values.{one.name}")]
    figure(f"{len(missing)} fields without a text on the page in {language}")
    assert missing == [], "say in documents/locale/fields.*.toml what these are for"


def test_the_example_is_what_the_simulator_makes():
    """The file of messages is generated and up to date."""
    assert EXAMPLE.read_text("utf-8") == example_json(), "run `make docs`"


def test_a_collector_accepts_the_example():
    """The simulated messages are ones that a collector takes from such a machine."""
    classes = {
        Population.WORKSTATION: DeviceClass.LAPTOP,
        Population.CLASSROOM: DeviceClass.SFF,
        Population.SERVER: DeviceClass.SERVER,
    }
    found = json.loads(EXAMPLE.read_text("utf-8"))
    assert found.keys() == {one.value for one in classes}
    for population, device_class in classes.items():
        push = pb.PushRequest.FromString(base64.b64decode(found[population.value]["messages"][1]["wire"]))
        machine = MachineLimits(population, device_class, allow_fake=False)
        checked = check_push(push, HostId(1), machine, round(NOW.timestamp() * 1000))
        assert not isinstance(checked, tuple), checked


@pytest.mark.parametrize("population", ["workstation", "classroom", "server"])
def test_every_byte_of_the_example_is_on_the_page(page: dict[str, str], population: str):
    """Each energy of each record of the day stands on the page, in a table or in a line one link away."""
    text = html.unescape(page["en"] + page[f"en&records={population}"])
    (message,) = (one for one in json.loads(EXAMPLE.read_text("utf-8"))[population]["messages"][1:])
    push = pb.PushRequest.FromString(base64.b64decode(message["wire"]))
    energies = [
        energy.energy_millijoules
        for record in push.records
        for cell in pb.Record.FromString(record).measurement.cells
        for energy in cell.energies
    ]
    assert energies
    for energy in energies:
        assert f"energy_millijoules: {energy}" in text or f">{energy:,}\u00a0mJ" in text, energy


def test_a_workstation_has_no_time_of_day():
    """P1: the example of a workstation has days and weeks, and no field with a clock."""
    messages = json.loads(EXAMPLE.read_text("utf-8"))["workstation"]["messages"]
    push = pb.PushRequest.FromString(base64.b64decode(messages[1]["wire"]))
    kinds = {pb.Record.FromString(one).measurement.period.WhichOneof("kind") for one in push.records}
    assert kinds == {"date", "week"}


def test_it_says_nothing_about_this_fleet(page: dict[str, str], tmp_path):
    """S13: with other machines and another k, a stranger reads the same bytes; it needs no store."""
    with Filled(tmp_path / "data", clock=NOW.timestamp) as data:
        data.push(data.add_host(entity="A"), minutes_of_server(20, 15, 180.0, at=NOW), METER)
        data.derive()
        with Reading(data, door_token=DOOR_TOKEN, clock=NOW.timestamp) as reading:
            object.__setattr__(reading.settings, "reporting", ReportingSettings(k_anonymity=50))
            assert reading.get("/confidentialite?lang=fr").text == page["fr"]
            own = reading.get("/confidentialite?lang=fr", reading.account()).text
    assert own != page["fr"], "who signed in keeps the menu"
    assert (
        own[own.index("<main") : own.index("<footer")]
        == page["fr"][page["fr"].index("<main") : page["fr"].index("<footer")]
    )
