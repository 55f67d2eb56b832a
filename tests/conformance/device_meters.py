# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A fake NUT server and a fake SNMP agent for the suite of polled sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conformance.polled import Device
from tests.support.fakes.snmp_agent import Value, fake_agent
from tests.support.fakes.upsd import fake_upsd
from tests.support.metering import context_of

NOT_WATTS = ("", "-1", "NaN", "1e9", "12,5", "99999999", "a lot", "\x00\x01")
OUTLET_POWER = "1.3.6.1.4.1.318.1.1.26.9.4.3.1.7.1"
NOT_INTEGERS: tuple[Value, ...] = (
    None,
    -1,
    "",
    "96",
    10**8,
    ("Counter64", 2**64 - 1),
    ("TimeTicks", 96),
)


@contextmanager
def nut_ups(folder: Path) -> Iterator[Device]:
    """Give a UPS with a load of 187.5 W."""
    with fake_upsd({"ups.realpower": "187.5"}) as upsd:
        lies = [f'VAR rack ups.realpower "{text}"\n'.encode() for text in NOT_WATTS]
        lies += [b"ERR DATA-STALE\n", b"VAR rack ups.realpower\n", b"\n", b"x" * 100_000, b"OK\n"]
        yield Device(
            context=context_of("nut_ups", upsd.address, subject="meter:rack-a"),
            refuse=upsd.refuse,
            answer=upsd.listen,
            expected={"ups rack-a": "187.5 W, wall"},
            nonsense=tuple(upsd.says(lie) for lie in lies),
            hang=upsd.hang,
        )


@contextmanager
def snmp_meter(folder: Path) -> Iterator[Device]:
    """Give an APC outlet with a load of 96 W."""
    with fake_agent({OUTLET_POWER: 96}) as agent:

        def says(value: Value) -> Callable[[], None]:
            return lambda: agent.values.update({OUTLET_POWER: value})

        def garbles(how: Callable[[bytes], bytes]) -> Callable[[], None]:
            return lambda: setattr(agent, "garble", how)

        def answer() -> None:
            agent.listen()
            agent.values[OUTLET_POWER] = 96

        yield Device(
            context=context_of(
                "snmp_meter", agent.address, subject="meter:rack-a", profile="apc_rpdu2", outlet=1
            ),
            refuse=agent.refuse,
            answer=answer,
            expected={"pdu rack-a": "96.0 W, wall"},
            nonsense=(
                *map(says, NOT_INTEGERS),
                garbles(lambda _: b""),
                garbles(lambda response: response[:-5]),
                garbles(lambda _: b"\xff" * 1_000),
                lambda: setattr(agent, "status", 5),
                lambda: setattr(agent, "rename", lambda _: f"{OUTLET_POWER}.1"),
            ),
            hang=agent.hang,
        )
