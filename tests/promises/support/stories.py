# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Stories of machines over months: the leaks that an attacker found, and events of an inventory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Final

from tests.promises.support.hours import NIGHT, OFF, OFFICE, Hours
from tests.promises.support.read_together import Watched
from tests.support.inventories import Listed
from veilleuse.collector.model.records import HostId
from veilleuse.wire.vocabulary import DeviceClass, Population, State

JUL, AUG, SEP, OCT = (date(2026, month, 1) for month in (7, 8, 9, 10))
IN_OCTOBER: Final = date(2026, 10, 5)
IDLE_AT_NIGHT: Final = Hours({State.ON_IDLE: 9}, {State.OFF: 20})
BUSY: Final = Hours({State.ON_IDLE: 9, State.ON_ACTIVE: 1}, {State.ON_ACTIVE: 20, State.ON_IDLE: 8})
"""On during all known time."""
LONG: Final = Hours({State.ON_IDLE: 9}, {State.ON_ACTIVE: 20, State.ON_IDLE: 8}, beyond=4)
"""Idle at night, and in long runs by day."""
DAY: Final = Hours({State.OFF: 12}, {State.ON_ACTIVE: 20, State.ON_IDLE: 8})


def withheld(data: Watched) -> None:
    """One of twelve machines is in use: I2 is withheld, as its denominator is that machine's time on."""
    hosts, others = data.machines(12), data.machines(12, "B")
    data.month(SEP, [(hosts[0], NIGHT), *((host, OFF) for host in hosts[1:])])
    data.month(SEP, [(host, NIGHT) for host in others])
    data.look(IN_OCTOBER, [SEP])


def constants(data: Watched) -> None:
    """Eleven are off at half a watt, one is on for 15 minutes: a sum less eleven constants reveals it."""
    hosts, others = data.machines(12), data.machines(12, "B")
    data.month(SEP, [(host, NIGHT) for host in others])
    brief = Hours({State.OFF: 12, State.ON_IDLE: 0.25}, {State.OFF: 40})
    data.month(SEP, [(hosts[0], brief), *((host, OFF) for host in hosts[1:])])
    data.look(IN_OCTOBER, [SEP])


def methods(data: Watched) -> None:
    """One of twelve is not metered: methods are withheld, but the interval's width gives their share."""
    hosts = data.machines(12)
    data.month(SEP, [(host, BUSY) for host in hosts], unmetered=hosts[:1])
    data.look(IN_OCTOBER, [SEP])


def zones(data: Watched) -> None:
    """Nine in France and three in Germany are in one `autres`: joules and grams solve two unknowns."""
    hosts = data.machines(9) + data.machines(3, site="köln") + data.machines(12, "B")
    data.month(SEP, [(host, NIGHT) for host in hosts])
    data.look(date(2026, 9, 14))
    data.look(IN_OCTOBER, [SEP])


def days(data: Watched) -> None:
    """One machine has a Sunday that no gauge shows: the month less its days and weeks would reveal it."""
    hosts = data.machines(12)
    data.month(SEP, [(host, NIGHT) for host in hosts])
    data.day(date(2026, 9, 20), [(hosts[0], {State.ON_IDLE: 5})])
    for day in (14, 18, 24):
        data.look(date(2026, 9, day))
    data.look(IN_OCTOBER, [SEP])


def weeks(data: Watched) -> None:
    """Laptops and two towers appear by entity and class, by site and day, and by population and week."""
    hosts = (
        data.machines(8) + data.machines(3, site="nancy") + data.machines(2, device_class=DeviceClass.TOWER)
    )
    data.month(SEP, [(host, NIGHT if number % 2 else BUSY) for number, host in enumerate(hosts)])
    data.look(date(2026, 9, 14))
    data.look(date(2026, 9, 18))
    data.look(IN_OCTOBER, [SEP])


def late(data: Watched) -> None:
    """A machine's day arrives between two looks, with a restart between them."""
    hosts = data.machines(14)
    data.month(SEP, [(host, NIGHT) for host in hosts[:13]])
    data.look(date(2026, 9, 14))
    data.month(SEP, [(hosts[13], NIGHT)])
    data.look(date(2026, 9, 14))
    data.look(IN_OCTOBER, [SEP])


def screens(data: Watched) -> None:
    """Two of eleven have a screen, beside eleven of another class that all have one."""
    hosts = data.machines(11) + data.machines(11, device_class=DeviceClass.TOWER)
    data.month(SEP, [(host, NIGHT) for host in hosts], screens=hosts[:2] + hosts[11:])
    data.look(IN_OCTOBER, [SEP])


def entities(data: Watched) -> None:
    """Two entities of A merge below it, beside A's own: the whole fleet has a reader, and so have A and B."""
    sizes = {"A": 11, "A > 1": 7, "A > 2": 6, "B": 4, "B > 1": 13}
    hosts = [host for entity, number in sizes.items() for host in data.machines(number, entity)]
    data.month(SEP, [(host, NIGHT) for host in hosts])
    data.look(IN_OCTOBER, [SEP])


def watts(data: Watched) -> list[HostId]:
    """One laptop is among eleven towers: idle energy less the towers' model watts is the laptop's."""
    tower = DeviceClass.TOWER
    hosts = data.machines(1) + data.machines(11, device_class=tower) + data.machines(12, "B", tower)
    data.month(SEP, [(host, OFFICE) for host in hosts], unmetered=hosts)
    data.look(IN_OCTOBER, [SEP])
    return hosts[:1]


def one_power(data: Watched) -> None:
    """Twelve laptops and four towers with screens idle at night at their models' watts: I4 subtracted 0.8 W
    from all of them, and this equation solved the towers' idle time."""
    hosts = data.machines(12) + data.machines(4, device_class=DeviceClass.TOWER)
    data.month(SEP, [(host, NIGHT) for host in hosts], unmetered=hosts, screens=hosts)
    data.look(IN_OCTOBER, [SEP])


def rest_of_a_row(data: Watched) -> None:
    """A tower is among ten metered laptops: the energy that I4 left was at rest, at two powers."""
    hosts = [
        *data.machines(12),
        *data.machines(12, device_class=DeviceClass.TOWER),
        *data.machines(10, "B"),
        *data.machines(1, "B", DeviceClass.TOWER),
    ]
    data.month(SEP, [(host, IDLE_AT_NIGHT) for host in hosts])
    data.look(IN_OCTOBER, [SEP])


def reinstalled(data: Watched) -> None:
    """Nine machines of A, of which one was installed again, counted as ten."""
    hosts, others = data.machines(10), data.machines(12, "B")
    data.month(SEP, [(host, NIGHT) for host in hosts[1:] + others])
    data.day(date(2026, 9, 3), [(hosts[0], {State.ON_IDLE: 5})])
    devices = [(host,) for host in hosts[2:]] + [(hosts[0], hosts[1])]
    data.list_devices(
        [*(Listed(one, "A") for one in devices), *(Listed((host,), "B") for host in others)], IN_OCTOBER
    )
    data.look(IN_OCTOBER, [SEP])


def around_k(data: Watched) -> None:
    """Entities have 1, 9, 10 and 11 machines; C has devices that nobody measures."""
    sizes = {"A > 1": 1, "A > 2": 9, "A > 3": 10, "B": 11}
    inside = {entity: data.machines(number, entity) for entity, number in sizes.items()}
    data.nights(SEP, [host for hosts in inside.values() for host in hosts])
    listed = [Listed((host,), entity) for entity, hosts in inside.items() for host in hosts]
    data.list_devices([*listed, *[Listed((), "C")] * 5, *[Listed((), "A > 1")] * 4], IN_OCTOBER)
    data.look(IN_OCTOBER, [SEP])


def corrected(data: Watched) -> None:
    """The inventory is corrected between two looks: a machine was in B, and one leaves. The fleet is computed
    again, and the month is not."""
    hosts, others = data.machines(12), data.machines(12, "B")
    data.nights(SEP, hosts + others)
    listed = [*(Listed((host,), "A") for host in hosts), *(Listed((host,), "B") for host in others)]
    data.list_devices(listed, IN_OCTOBER)
    data.look(IN_OCTOBER, [SEP])
    listed[0] = Listed((hosts[0],), "B")
    data.list_devices([*listed, *[Listed((), "C")] * 3], date(2026, 10, 6))
    data.forget(hosts[1])
    data.look(date(2026, 10, 7), [SEP])
    data.look(date(2026, 10, 20), [SEP])
    assert len({months[part].rows for months in data.fleets for part in months}) > len(data.fleets[0])


def moved(data: Watched) -> None:
    """A machine is in A until September, and in B from October on."""
    hosts, others = data.machines(12), data.machines(12, "B")
    for month in (SEP, OCT):
        data.nights(month, hosts + others)
    listed = [
        *(Listed((host,), "A", moved=((OCT, "B"),) if host == hosts[0] else ()) for host in hosts),
        *(Listed((host,), "B") for host in others),
    ]
    data.list_devices(listed, IN_OCTOBER)
    data.look(IN_OCTOBER, [SEP])
    data.look(date(2026, 11, 5), [SEP, OCT])


def plans(data: Watched) -> None:
    """Power plans of few. In France one of A does not comply, and all of B do not: the counts of both less
    those of the cells left that one. So did those of two entities of D, of which the inventory tells how many
    each has. In Germany three plans are known. Of classroom PCs three are not known: the half-width of the
    share told how many."""
    hosts, others, known = data.machines(12), data.machines(12, "B"), data.machines(23, "C", site="köln")
    room = Population.CLASSROOM
    pupils = data.machines(25, "D", population=room)
    first, second = (data.machines(12, f"D > {number}", site="köln", population=room) for number in (1, 2))
    data.plan([*hosts[:11], *known[:3], *pupils[:12], *first[:11]], complies=True)
    data.plan([hosts[11], *others, *pupils[12:22], first[11], *second], complies=False)
    data.month(SEP, [(host, NIGHT) for host in hosts + others + known + pupils])
    data.month(SEP, [(host, OFF if number % 2 else NIGHT) for number, host in enumerate(first + second)])
    data.look(IN_OCTOBER, [SEP])


def stopped(data: Watched) -> None:
    """The collector stops between a month and its indicators. Until it runs again a machine comes late, one
    is forgotten, and one sends a Sunday. Another was never known to be on or off."""
    first, second, third = (data.machines(13, entity) for entity in "ABC")
    data.plan(first + third, complies=True)
    data.plan(second, complies=False)
    data.month(SEP, [(host, LONG) for host in first[2:] + second + third])
    data.month(SEP, [(first[0], Hours({State.UNKNOWN: 9}))])
    data.release(IN_OCTOBER, [SEP])
    data.month(SEP, [(first[1], LONG)])
    data.forget(second[0])
    data.forget(second[1])
    data.day(date(2026, 9, 20), [(third[0], {State.ON_IDLE: 5})])
    data.look(date(2026, 10, 6), [SEP])


def causes(data: Watched) -> None:
    """Causes of few. In France one row has two lower powers, and B has one machine with an update window. In
    Germany one machine of two entities idles at night: the half-width of I1 told for how long."""
    laptops, flat = data.machines(11), data.machines(3, device_class=DeviceClass.SFF)
    others = data.machines(12, "B")
    abroad = data.machines(13, site="köln") + data.machines(13, "B", site="köln")
    data.month(SEP, [(host, LONG) for host in laptops + flat + others[1:]], unmetered=flat)
    data.month(SEP, [(others[0], replace(LONG, window=3))])
    data.month(SEP, [(abroad[0], NIGHT), *((host, DAY) for host in abroad[1:])])
    data.look(IN_OCTOBER, [SEP])


def assumed_load(data: Watched) -> list[HostId]:
    """No load is reported of twelve laptops and a tower, so that their active watts are public: energy less
    watts × time of each part left the tower's hours."""
    hosts = data.machines(12) + data.machines(1, device_class=DeviceClass.TOWER) + data.machines(12, "B")
    data.month(SEP, [(host, NIGHT) for host in hosts], unmetered=hosts[:13])
    data.look(IN_OCTOBER, [SEP])
    return hosts[12:13]


def steady_load(data: Watched) -> list[HostId]:
    """All load of twelve laptops is in one step of the scale, and that of one in another."""
    hosts, others = data.machines(13), data.machines(12, "B")
    steps = dict.fromkeys(hosts, 4) | {hosts[0]: 7}
    data.month(SEP, [(host, BUSY) for host in hosts + others], unmetered=hosts, steps=steps)
    data.look(IN_OCTOBER, [SEP])
    return hosts[:1]


def lit_screens(data: Watched) -> list[HostId]:
    """Eleven PCs have one screen that is on as long as they are, one has none: the screens' time less the
    PCs' left that one."""
    hosts, others = data.machines(12), data.machines(12, "B")
    data.month(
        SEP,
        [(host, NIGHT) for host in hosts + others],
        screens=others,
        lit=dict.fromkeys(hosts[1:], (2,)),
    )
    data.look(IN_OCTOBER, [SEP])
    return hosts[:1]


def mixed_screens(data: Watched) -> list[HostId]:
    """The laptops of A have a small and a large screen, its towers have two usual ones, but one tower has a
    large one beside: energies of screens less watts × both times left that one."""
    hosts, others = data.machines(12), data.machines(12, device_class=DeviceClass.TOWER)
    more = data.machines(12, "B")
    lit = dict.fromkeys(hosts, (1, 3)) | dict.fromkeys(others, (2, 2)) | {others[0]: (2, 2, 3)}
    data.month(SEP, [(host, NIGHT) for host in hosts + others + more], screens=more, lit=lit)
    data.look(IN_OCTOBER, [SEP])
    return others[:1]


def shared_row_of_screens(data: Watched) -> list[HostId]:
    """All PCs of two entities have one screen each. Few of B are on, and share their parts with A: the
    screens of A told the time on of A, and so that of B."""
    hosts, few = data.machines(12), data.machines(4, "B")
    lit = dict.fromkeys(hosts, (2,))
    data.month(SEP, [(host, NIGHT) for host in hosts + few], lit=lit)
    data.look(IN_OCTOBER, [SEP])
    return few


ATTACKED: Final = (watts, assumed_load, steady_load, lit_screens, mixed_screens, shared_row_of_screens)
"""Stories that return the machines that public watts isolated."""
STORIES: Final = (
    *(withheld, constants, methods, zones, days, weeks, late, screens, entities),
    *(one_power, rest_of_a_row, reinstalled, around_k, corrected, moved),
    *(plans, stopped, causes),
    *ATTACKED,
)
READERS: Final[dict[Callable[[Watched], object], tuple[str, ...]]] = {
    entities: ("A", "B"),
    around_k: ("A", "A > 1"),
    corrected: ("A",),
    causes: ("A", "B"),
}
"""Stories in which entities have their own readers."""


def late_install(data: Watched) -> None:
    """One of fourteen machines of A is there since August: the month counts it in `autres`, the year in A."""
    hosts, others = data.machines(14), data.machines(14, "B")
    data.month(AUG, [(host, NIGHT) for host in (hosts[0], *others)])
    for month in (SEP, OCT):
        data.month(month, [(host, NIGHT) for host in hosts + others])
    data.look(date(2026, 11, 5), [AUG, SEP, OCT])


def one_sunday(data: Watched) -> None:
    """Every month keeps its groups, and one machine has a Sunday: closed days are apart in the file."""
    hosts, others = data.machines(14), data.machines(14, "B")
    for month in (AUG, SEP):
        data.month(month, [(host, NIGHT) for host in hosts + others])
    data.day(date(2026, 9, 20), [(hosts[0], {State.ON_IDLE: 5})])
    data.look(IN_OCTOBER, [AUG, SEP])


def untold_month(data: Watched) -> None:
    """August has one known machine: that month publishes nothing."""
    hosts = data.machines(14)
    data.month(AUG, [(hosts[0], NIGHT)])
    data.month(SEP, [(host, NIGHT) for host in hosts])
    data.look(IN_OCTOBER, [AUG, SEP])


YEARS: Final = {late_install: "late start", one_sunday: "one Sunday", untold_month: "withheld month"}
