# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Fake plugs for the suite of polled sources."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.conformance.polled import Device
from tests.support.fakes.devices import Asked, FakeDevice, Handler, Reply, dripping, endless, page, reply
from tests.support.metering import PATIENT_SECONDS
from veilleuse.agent.ports import MeterSpec, SourceContext
from veilleuse.wire.vocabulary import Boundary

FIXTURES = Path(__file__).parents[1] / "fixtures" / "plugs"
LIES = ("null", "-1", '"47"', "true", "1e30", "NaN", "[]", "{}")


def shelly_plug(folder: Path) -> AbstractContextManager[Device]:
    """Give a plug of the second generation."""

    def good(asked: Asked) -> Reply:
        name = "gen2_shelly" if asked.path == "/shelly" else "gen2_switch"
        return reply(200, text=(FIXTURES / f"{name}.json").read_bytes())

    return _device(
        "shelly_plug", good, '{"id": 0, "apower": LIE, "aenergy": {"total": LIE}}', "44444440.8 J, wall"
    )


def tasmota_plug(folder: Path) -> AbstractContextManager[Device]:
    """Give a plug with one channel."""
    good = page((FIXTURES / "tasmota_status8.json").read_bytes())
    return _device(
        "tasmota_plug",
        good,
        '{"StatusSNS": {"ENERGY": {"Total": LIE, "Power": LIE}}}',
        "1572429600.0 J, wall",
    )


@contextmanager
def _device(source: str, good: Handler, shape: str, expected: str) -> Iterator[Device]:
    meter = MeterSpec(
        "desk-12", source, "", "meter:desk-12", Boundary.WALL, 10, PATIENT_SECONDS, 3680.0, "", {"channel": 0}
    )
    with FakeDevice(good) as device:

        def says(handler: Handler) -> Callable[[], None]:
            return lambda: setattr(device, "handler", handler)

        def answer() -> None:
            device.handler = good
            device.answer()

        wrong: tuple[Handler, ...] = (
            *(page(shape.replace("LIE", lie).encode()) for lie in LIES),
            page(b""),
            page(b"<html>"),
            page(json.dumps([]).encode()),
            page(shape.partition("LIE")[0].encode()),
            lambda asked: reply(500),
            endless,
            dripping,
        )
        yield Device(
            context=SourceContext("", "", "none", meter=meter._replace(address=device.address)),
            refuse=device.refuse,
            answer=answer,
            expected={"plug desk-12": expected},
            nonsense=tuple(map(says, wrong)),
            hang=says(lambda asked: None),
        )
