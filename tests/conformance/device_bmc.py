# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Management controllers for the suite of polled sources: a fake ipmitool, a fake Redfish service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from tests.conformance.polled import Device
from tests.support.fakes.authority import TestAuthority
from tests.support.fakes.devices import FakeDevice, Handler, endless, page, reply
from tests.support.fakes.ipmi_tools import FakeTool
from tests.support.fakes.redfish import Service, context, credentials_file, saved, tls
from tests.support.metering import PATIENT_SECONDS
from veilleuse.agent.ports import MeterSpec, SourceContext
from veilleuse.agent.sources.ipmi_dcmi import IpmiDcmi
from veilleuse.agent.sources.redfish import Redfish
from veilleuse.wire.vocabulary import Boundary

_METRICS = "/redfish/v1/Chassis/1U/EnvironmentMetrics"


@contextmanager
def ipmi_dcmi(folder: Path) -> Iterator[Device]:
    """Give this machine's controller, read with a fake ipmitool; its /dev and /usr/bin are test folders."""
    tool = FakeTool(folder / "bin", "ipmitool")
    (folder / "dev").mkdir()
    (folder / "dev" / "ipmi0").touch()
    meter = MeterSpec("bmc", "ipmi_dcmi", "", "machine", Boundary.WALL, 30, PATIENT_SECONDS, 4000.0, "", {})
    good = "Instantaneous power reading: {} Watts\nPower reading state is: activated\n"
    texts = [
        "",
        "nonsense",
        "\x00",
        *(good.format(lie) for lie in ("-5", "nan", "65535", "9" * 400, "214 214")),
    ]
    names = ("deactivated", "zero", "not_now", "busy", "invalid_command")
    with mock.patch.multiple(
        IpmiDcmi,
        TOOL_FOLDERS=(str(folder / "bin"),),
        PAUSE_SECONDS=0.0,  # otherwise the suite would wait half a minute
    ):
        yield Device(
            context=SourceContext(f"{folder}/sys", f"{folder}/proc", "none", meter=meter),
            refuse=lambda: tool.says("Could not open device at /dev/ipmi0", "fail"),
            answer=lambda: tool.prints("activated"),
            expected={"bmc bmc": "214.0 W, wall"},
            nonsense=(
                *(_calling(tool.prints, name) for name in names),
                *(_calling(tool.says, text) for text in texts),
                lambda: tool.says("", "flood"),
            ),
            hang=lambda: tool.says("", "hang"),
        )


@contextmanager
def redfish(folder: Path) -> Iterator[Device]:
    """Give a Redfish service with sessions over TLS."""
    authority = TestAuthority()
    service = Service(saved("environment"))
    with FakeDevice(service, tls(folder, authority, authority.server)) as device:

        def answer() -> None:
            service.resources = saved("environment")
            device.handler = service
            device.answer()

        def reading(value: object) -> Callable[[], None]:
            return lambda: service.resources[_METRICS]["PowerWatts"].update(Reading=value)

        def says(handler: Handler) -> Callable[[], None]:
            return lambda: setattr(device, "handler", handler)

        wrong: tuple[Handler, ...] = (
            page(b""),
            page(b"<html>"),
            page(b"{}"),
            page(b'{"PowerWatts": {"Reading": 37'),
            page(b'{"PowerWatts": {"Reading": NaN}}'),
            endless,
            lambda asked: reply(401),
            lambda asked: reply(500),
            lambda asked: reply(503, headers={"Retry-After": "-1"}),
        )
        values: tuple[object, ...] = (None, -1, 0, "374", True, 1e9, 1e300, [], {})
        with mock.patch.object(Redfish, "PAUSE_SECONDS", 0.0):
            yield Device(
                context=context(device, credentials_file(folder), {"ca_file": str(folder / "root.pem")}),
                refuse=device.refuse,
                answer=answer,
                expected={"bmc bmc-3": "374.2 W, wall"},
                nonsense=(*map(reading, values), *map(says, wrong)),
                hang=says(lambda asked: None),
            )


def _calling(function: Callable[[str], None], text: str) -> Callable[[], None]:
    return lambda: function(text)
