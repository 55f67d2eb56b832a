# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test CPU times of services and guests: no names of people, no decreasing sums, only on request."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.trees import put
from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.identity.clone import CloneDetector
from veilleuse.agent.model import UnitReading
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.resident.open_sources import open_sources, source_context
from veilleuse.agent.resident.unit_times import UnitTimes
from veilleuse.agent.settings import read_settings
from veilleuse.agent.sources import linux_units
from veilleuse.agent.sources.linux_units import LinuxUnits, people_of, pseudonym, siphash, unit_name
from veilleuse.wire.limits import UNIT_PATTERN

TREES = Path(__file__).parents[3] / "fixtures" / "cgroup"
ALICE = r"alice\x2ddesktop"
GUEST = r"machine-qemu\x2d{}\x2d" + f"{ALICE}.scope"
"""libvirt's group of a guest with that name, at its nth start."""
SALT = bytes(range(32))


def group(tree: Path, path: str, microseconds: int) -> Path:
    """Write a control group (v2) with this CPU time and return its folder."""
    return put(tree, f"fs/cgroup/{path}/cpu.stat", f"usage_usec {microseconds}\nuser_usec 0").parent


def aside(folder: Path) -> None:
    """End a group. It is moved, not removed: a test's file system may reuse an inode, cgroupfs does not."""
    folder.rename(folder.parent / f"{folder.name}-{os.urandom(4).hex()}")


def opened(tree: Path) -> LinuxUnits:
    """Return an opened source on the tree, which may contain a salt."""
    source = LinuxUnits(SourceContext(f"{tree}/sys", f"{tree}/proc", "none", salt=str(tree / "salt")))
    assert source.open() == ()
    return source


def open_files() -> int:
    """Return the number of open files of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def values(source: LinuxUnits) -> dict[str, int]:
    """Return name → CPU ms; each name must occur once and match the wire's alphabet."""
    readings = source.read()
    found = {one.name: one.cpu_milliseconds for one in readings if isinstance(one, UnitReading)}
    assert len(found) == len(readings)
    assert all(UNIT_PATTERN.fullmatch(name) for name in found)
    return found


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("nginx.service", "nginx"),
        ("getty@tty1.service", "getty"),
        ("openvpn-client@alice.service", "openvpn-client"),
        ("sshd@12-10.0.0.1:22-10.0.0.7:5122.service", "sshd"),
        ("user-runtime-dir@1000.service", "user-runtime-dir"),
        (r"foo\x2dbar.service", "foo-bar"),
        (r"g\x2b\x2b\x20cache.service", "g_ cache"),
        ("run-r0f3a9c21d7a64d5e8b1f2a3c4d5e6f70.service", "run"),
        ("run-u4711.service", "run"),
        ("run-p4711-i4712.service", "run"),
        ("runner.service", "runner"),
        ("dbus-:1.27-org.freedesktop.problems@0.service", "dbus-org.freedesktop.problems"),
        ("é€.service", "other"),
        ("x" * 200 + ".service", "x" * 58),
    ],
)
def test_a_name_is_the_services_alone(folder, name):
    """The name has no instance, no number that changes at each start, and only the wire's characters."""
    assert unit_name(folder) == f"unit:{name}"
    assert UNIT_PATTERN.fullmatch(unit_name(folder))


PASSWD = """\
root:x:0:0:root:/root:/bin/bash
postgres:x:115:120:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash
alice:x:1000:1000:Alice Marître-Dupont,room 12,,:/home/alice:/bin/bash
b.martin:x:1001:1001::/home/b.martin:/bin/bash
nobody:x:65534:65534:Nobody:/nonexistent:/usr/sbin/nologin
broken
odd:x:١٢٣٤:1:Odd:/:/bin/sh
"""


def test_words_of_people():
    """The words are logins and full names of accounts from 1000 on, without `nobody` and invalid lines."""
    assert people_of(PASSWD) == {"alice", "marître", "dupont", "b.martin", "martin"}
    assert people_of("") == people_of(":x:1000:1::/:\n\0\0:::::") == frozenset()


@pytest.mark.parametrize(
    "folder",
    [
        "alice.service",
        "backup-of-alice.service",
        "Backup_ALICE.service",
        "rclone.alice.drive.service",
        r"vnc\x2dalice.service",
        "vnc-alice@:1.service",
        "dupont-sync.service",
        "sync-b.martin.service",
        r"mail-zoe\x40example.org.service",
        r"home-zo\xc3\xa9-bin-tool.service",
        r"\x2fhome\x2fzoe.service",
        r"odd\x2.service",
        "\\",
        "zoé.service",
        "@alice.service",
        ".service",
        "containers.service",
        "user@1000",
        "65536.service",
        "5f2b9c0d1e3a5f2b9c0d1e3a.service",
        "10.31.4.5.service",
        "52:54:00:12:34:56.service",
    ],
)
def test_a_name_that_may_be_a_persons_is_not_told(folder):
    """The name is `other` or what remains without the person, however the person is written."""
    told = unit_name(folder, people_of(PASSWD))
    assert told in ("unit:other", "unit:user")
    assert UNIT_PATTERN.fullmatch(told)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("malice.service", "malice"),
        ("martinet.service", "martinet"),
        ("php8.2-fpm.service", "php8.2-fpm"),
        ("postgres.service", "postgres"),
        ("tunnel-10.31.4.5.service", "tunnel"),
        ("wake-52-54-00-ab-cd-ef.service", "wake"),
        ("5f2b9c0d1e3a5f2b9c0d1e3a-4f2a.service", "4f2a"),
        ("session-1000-keep.service", "session-_-keep"),
        ("job-e1042.service", "job-e"),
        ("deadbeef.service", "deadbeef"),
    ],
)
def test_numbers_of_somebody_go_and_the_service_stays(folder, name):
    """Ids, addresses and account numbers are removed; versions and words that only contain a name stay."""
    assert unit_name(folder, people_of(PASSWD)) == f"unit:{name}"


@given(
    st.text(st.sampled_from("alice-_.@\\x240:5d "), max_size=40),
    st.sampled_from(["alice", "dupont", "b.martin"]),
)
def test_no_account_is_ever_in_a_name(noise, person):
    """A login between other characters than letters and digits never appears in a name."""
    people = people_of(PASSWD)
    for folder in (f"{noise}-{person}.service", f"{person}.{noise}.service", f"x-{person}-{noise}.service"):
        told = unit_name(folder, people)
        assert UNIT_PATTERN.fullmatch(told)
        assert not {word for word in people if f"-{word}-" in f"-{told.partition(':')[2].lower()}-"}


def test_people_of_this_machine_are_withheld(tmp_path):
    """Names of this machine's accounts are withheld, also of new ones and after the list has vanished."""
    passwd = tmp_path / "etc/passwd"
    passwd.parent.mkdir()
    passwd.write_text(PASSWD)
    group(tmp_path, "system.slice", 0)
    group(tmp_path, "system.slice/nginx.service", 1_000)
    group(tmp_path, "system.slice/sync-alice.service", 2_000)
    source = opened(tmp_path)
    assert values(source) == {"unit:nginx": 1, "unit:other": 2}
    passwd.write_text(PASSWD + "carol:x:1002:1002::/home/carol:/bin/bash\n")
    group(tmp_path, "system.slice/sync-carol.service", 4_000)
    assert values(source) == {"unit:nginx": 1, "unit:other": 6}
    passwd.unlink()
    group(tmp_path, "system.slice/carol.service", 8_000)
    assert values(source) == {"unit:nginx": 1, "unit:other": 14}


def test_containers_are_one_part(tmp_path):
    """Containers of either cgroup driver are one sum without names; a user's own are never read."""
    group(tmp_path, "system.slice", 0)
    group(tmp_path, "system.slice/docker.service", 1_000)
    group(tmp_path, f"system.slice/docker-{'ab' * 32}.scope", 2_000)
    group(tmp_path, "system.slice/nerdctl-12.scope", 4_000)
    group(tmp_path, "system.slice/run-u12.scope", 500_000)
    group(tmp_path, "system.slice/session-docker-3.scope", 500_000)
    group(tmp_path, "machine.slice/libpod-0123.scope", 8_000)
    group(tmp_path, "machine.slice/libpod-conmon-0123.scope", 16_000)
    group(tmp_path, "machine.slice/machine-alice.scope", 32_000)
    group(tmp_path, "kubepods.slice", 64_000)
    group(tmp_path, "kubepods.slice/kubepods-pod1.slice/crio-1.scope", 60_000)
    group(tmp_path, "lxc.payload.alice", 128_000)
    group(tmp_path, "docker", 256_000)
    group(tmp_path, "user.slice/user-1000.slice/libpod-9.scope", 500_000)
    group(tmp_path, "dockerish", 500_000)
    source = opened(tmp_path)
    assert values(source) == {"unit:docker": 1, "unit:containers": 2 + 4 + 8 + 16 + 32 + 64 + 128 + 256}
    aside(tmp_path / "sys/fs/cgroup/kubepods.slice")
    group(tmp_path, f"system.slice/docker-{'cd' * 32}.scope", 1_000)
    assert values(source)["unit:containers"] == 511, "what ended stays, what is new joins"


def test_services_of_a_server(monkeypatch):
    """Instances are added up to whole ms; groups of sessions are never opened."""
    touched: list[str] = []

    def noting(true_call: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: str, *more: int) -> Any:
            touched.append(path)
            return true_call(path, *more)

        return call

    monkeypatch.setattr(os, "open", noting(os.open))
    monkeypatch.setattr(os, "scandir", noting(os.scandir))
    source = opened(TREES / "server_unified")
    assert values(source) == {
        "unit:nginx": 40_000,
        "unit:postgresql": 50_001,  # 30,000,500 + 19,000,400 + 1,000,300 µs
        "unit:veilleuse-agent": 1_234,
        "unit:ssh": 900,
        "unit:cron": 77,
        "unit:getty": 12,
    }
    source.close()
    assert touched
    assert not [path for path in touched if "user" in path or "init.scope" in path]


def test_the_legacy_hierarchy_counts_nanoseconds():
    """cgroup v1 is read where CPU accounting is on."""
    assert values(opened(TREES / "server_legacy")) == {"unit:nginx": 40_000, "unit:ssh": 900}


def test_the_hybrid_hierarchy(tmp_path):
    """systemd also keeps its tree below `unified`."""
    group(tmp_path, "unified/system.slice", 9)
    group(tmp_path, "unified/system.slice/nginx.service", 7_000)
    (tmp_path / "sys/fs/cgroup/systemd/system.slice").mkdir(parents=True)
    assert values(opened(tmp_path)) == {"unit:nginx": 7}


def test_without_accounting_there_is_a_remedy(tmp_path):
    """Legacy groups without CPU accounting have a remedy; a machine without systemd has none."""
    with pytest.raises(SourceUnavailable) as caught:
        opened(tmp_path)
    assert (caught.value.word, caught.value.remedy) == ("no_device", "")
    (tmp_path / "sys/fs/cgroup/systemd/system.slice").mkdir(parents=True)
    with pytest.raises(SourceUnavailable) as caught:
        opened(tmp_path)
    assert "DefaultCPUAccounting" in caught.value.remedy


def test_instances_come_and_go_and_their_sum_never_falls(tmp_path):
    """An ended instance's time stays in the sum; a restarted one begins at 0."""
    group(tmp_path, "system.slice", 0)
    one = group(tmp_path, "system.slice/job@1.service", 5_000)
    two = group(tmp_path, "system.slice/job@2.service", 3_000)
    source = opened(tmp_path)
    assert values(source) == {"unit:job": 8}
    aside(two)
    assert values(source) == {"unit:job": 8}
    group(tmp_path, "system.slice/job@1.service", 6_000)
    assert values(source) == {"unit:job": 9}
    aside(one)
    group(tmp_path, "system.slice/job@1.service", 500)
    group(tmp_path, "system.slice/cron.service", 500_000)
    assert values(source) == {"unit:job": 9, "unit:cron": 500}, "6 + 3 + 0.5"
    aside(tmp_path / "sys/fs/cgroup/system.slice/job@1.service")
    assert values(source) == {"unit:cron": 500}
    group(tmp_path, "system.slice/job@3.service", 500)
    assert values(source) == {"unit:job": 10, "unit:cron": 500}


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 9_000), st.sampled_from(["run", "run", "end"])),
        max_size=25,
    )
)
def test_what_is_told_is_what_was_used(tmp_path_factory, steps):
    """For any starts and ends of three instances, the agent reports exactly the time that they used."""
    tree = tmp_path_factory.mktemp("units")
    group(tree, "system.slice", 0)
    group(tree, "system.slice/quiet.service", 0)
    source, times, now = opened(tree), UnitTimes(), 0
    times.advance([UnitReading(*one) for one in values(source).items()], now, 10_000, 2)
    living: dict[str, int] = {}
    used = told = 0
    for name, microseconds, what in steps:
        if what == "run":
            living[name] = living.get(name, 0) + microseconds
            used += microseconds
            group(tree, f"system.slice/job@{name}.service", living[name])
        elif name in living:
            aside(tree / f"sys/fs/cgroup/system.slice/job@{name}.service")
            del living[name]
        now += 10_000
        readings = [UnitReading(*one) for one in values(source).items()]
        told += sum(spent for _, spent in times.advance(readings, now, 10_000, 2))
    assert told == used // 1_000
    source.close()


def test_a_read_that_fails_takes_nothing_away(tmp_path):
    """An unreadable group keeps its last value; without any readable group the read fails."""
    group(tmp_path, "system.slice", 0)
    folder = group(tmp_path, "system.slice/nginx.service", 5_000_000)
    group(tmp_path, "system.slice/ssh.service", 1_000)
    source = opened(tmp_path)
    assert values(source) == {"unit:nginx": 5_000, "unit:ssh": 1}
    for nonsense in ("", "usage_usec -5", "usage_usec 99999999999999999999", "usage_msec 5"):
        (folder / "cpu.stat").write_text(nonsense)
        assert values(source) == {"unit:nginx": 5_000, "unit:ssh": 1}
    (folder / "cpu.stat").write_text("usage_usec 4000000\n")
    assert values(source)["unit:nginx"] == 5_000, "a total does not fall"
    shutil.rmtree(tmp_path / "sys/fs/cgroup/system.slice")
    with pytest.raises(ReadFailed):
        source.read()


def test_guests_have_a_pseudonym(tmp_path):
    """A guest's pseudonym hides its name, survives a restart, and depends on guest and salt."""
    group(tmp_path, "system.slice", 0)
    group(tmp_path, "system.slice/libvirtd.service", 1_000)
    first = group(tmp_path, f"machine.slice/{GUEST.format(3)}", 70_000)
    group(tmp_path, "machine.slice/web.scope", 9_000)  # neither a guest nor a known container
    source = opened(tmp_path)
    assert values(source) == {"unit:libvirtd": 1}, "no salt yet: with the rest of the system"
    (tmp_path / "salt").write_bytes(SALT)
    alice = f"guest:{pseudonym(SALT[:16], ALICE)}"
    assert values(source) == {"unit:libvirtd": 1, alice: 70}
    assert "alice" not in alice
    aside(first)
    group(tmp_path, f"machine.slice/machine-prod.slice/{GUEST.format(4)}", 5_000)
    group(tmp_path, "qemu.slice/100.scope", 2_000)
    found = values(source)
    assert found.pop(alice) == 75
    assert found.pop("unit:libvirtd") == 1
    ((other, spent),) = found.items()
    assert (other.startswith("guest:"), spent) == (True, 2)
    (tmp_path / "salt").write_bytes(SALT[::-1])
    assert alice not in values(opened(tmp_path)), "another installation, another pseudonym"


def test_the_salt_is_the_one_beside_the_key(tmp_path):
    """The sender's salt file is the one that names the guests."""
    state = tmp_path / "state"
    settings = read_settings(None, {}, {"paths.state": str(state)})
    CloneDetector(state).keep({"machine-id": "0123"})
    assert len(Path(source_context(settings).salt).read_bytes()) == 32


def test_siphash():
    """SipHash gives the values of its paper and reference code for 15 bytes and for none."""
    key = bytes(range(16))
    assert siphash(key, bytes(range(15))) == 0xA129CA6149BE45E5
    assert siphash(key, b"") == 0x726FDB47DD0E0E31
    with pytest.raises(ValueError, match="15 bytes"):
        siphash(key[:15], b"")


def test_only_so_many_are_followed(tmp_path, monkeypatch):
    """Groups above the bound are not followed, files above theirs are reopened, and names are forgotten."""
    monkeypatch.setattr(linux_units, "MOST_GROUPS", 3)
    monkeypatch.setattr(linux_units, "KEPT_OPEN", 1)
    monkeypatch.setattr(linux_units, "MOST_NAMES", 2)
    group(tmp_path, "system.slice", 0)
    source = opened(tmp_path)
    for number in range(6):
        group(tmp_path, f"system.slice/job{number}.service", 1_000)
    before = open_files()
    assert len(values(source)) == 3
    assert open_files() == before + 1
    for folder in sorted((tmp_path / "sys/fs/cgroup/system.slice").glob("*.service")):
        aside(folder)
    group(tmp_path, "system.slice/last.service", 1_000)
    assert values(source) == {"unit:last": 1}
    assert len(source._ended) <= 2
    source.close()
    assert open_files() == before
    assert values(source) == {"unit:last": 1}, "opened again"


@pytest.mark.parametrize(
    ("given_settings", "there", "refused"),
    [
        ({}, False, False),
        ({"measure.units": "true"}, True, False),
        ({"measure.units": "true", "measure.sources": "linux_rapl"}, True, False),
        ({"measure.units": "true", "measure.population": "server"}, True, False),
        ({"measure.units": "true", "measure.population": "workstation"}, False, True),
        ({"measure.units": "true", "measure.population": "classroom"}, False, True),
        ({"measure.sources": "linux_units"}, False, True),
        ({"measure.sources": "linux_units", "measure.units": "true"}, True, False),
    ],
)
def test_nothing_unless_the_machines_own_file_asks(given_settings, there, refused):
    """Only `measure.units` enables the source, and never on a workstation or in a classroom."""
    tree = TREES / "server_unified"
    paths = {"paths.sysfs": f"{tree}/sys", "paths.procfs": f"{tree}/proc"}
    _, sources = open_sources(read_settings(None, {}, paths | given_settings))
    names = [one.source.name for one in sources.opened]
    assert names.count("linux_units") == there
    said = [one for one in sources.unavailable if one.name == "linux_units"]
    assert len(said) == refused
    assert all(one.word == "no_permission" and one.remedy for one in said)
