# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the power plan, which holds only settings that no user can change, against systemd and dconf."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.peers import peer
from tests.support.processes import ran
from veilleuse.agent.host.power_plan import idle_action, locked_gnome, may_sleep, power_plan, span_seconds

POWER = "org/gnome/settings-daemon/plugins/power"
KEYS = f"[{POWER}]\nsleep-inactive-ac-type='suspend'\nsleep-inactive-ac-timeout=1200\n[org/gnome/desktop/session]\nidle-delay=uint32 600\n"
LOCKS = f"/{POWER}/sleep-inactive-ac-type\n/{POWER}/sleep-inactive-ac-timeout\n/org/gnome/desktop/session/idle-delay\n"


def write(root: Path, files: dict[str, str]) -> Path:
    """Write files below a root and return the root."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def gnome(
    keys: str = KEYS, locks: str = LOCKS, profile: str = "user-db:user\nsystem-db:local\n"
) -> dict[str, str]:
    """Return the files of a GNOME that an administrator has configured."""
    return {
        "etc/dconf/profile/user": profile,
        "etc/dconf/db/local": "compiled",
        "etc/dconf/db/local.d/00-power": keys,
        "etc/dconf/db/local.d/locks/power": locks,
    }


def logind(text: str) -> dict[str, str]:
    """Return logind.conf."""
    return {"etc/systemd/logind.conf": f"[Login]\n{text}\n"}


def kde(text: str, name: str = "powerdevilrc") -> dict[str, str]:
    """Return Plasma's system file."""
    return {f"etc/xdg/{name}": text}


@pytest.mark.parametrize(
    ("files", "plan"),
    [
        ({}, (None, None)),
        (logind("#IdleAction=suspend"), (None, None)),
        (logind("IdleAction=suspend"), (None, 1800)),
        (logind("IdleAction=suspend\nIdleActionSec=20min"), (None, 1200)),
        (logind("IdleAction=poweroff\nIdleActionSec=1h 30min"), (None, 5400)),
        (logind("IdleAction=lock\nIdleActionSec=60"), (None, None)),
        (logind("IdleAction=suspend\nIdleActionSec=infinity"), (None, None)),
        (logind("IdleAction=suspend\nIdleActionSec=soon"), (None, 1800)),
        (gnome(), (600, 1200)),
        (gnome(locks=""), (None, None)),  # a default: any user may change it
        (gnome(profile="user-db:user\n"), (None, None)),  # no session reads the database
        ({**gnome(), "etc/dconf/profile/user": "user-db:user\nsystem-db:other\n"}, (None, None)),
        (gnome(KEYS.replace("'suspend'", "'nothing'")), (600, 0)),
        (gnome(KEYS.replace("1200", "0").replace("uint32 600", "uint32 0")), (0, 0)),
        (gnome(locks=f"/{POWER}/sleep-inactive-ac-timeout\n"), (None, None)),  # seconds until which action?
        ({**gnome(), **logind("IdleAction=suspend\nIdleActionSec=15min")}, (600, 900)),
        ({**gnome(KEYS.replace("'suspend'", "'nothing'")), **logind("IdleAction=suspend")}, (600, 1800)),
        (kde("[AC][SuspendAndShutdown]\nAutoSuspendAction=1\nAutoSuspendIdleTimeoutSec=900\n"), (None, None)),
        (
            kde(
                "[AC][SuspendAndShutdown][$i]\nAutoSuspendAction=1\nAutoSuspendIdleTimeoutSec=900\n[AC][Display]\nTurnOffDisplayIdleTimeoutSec[$i]=300\n"
            ),
            (300, 900),
        ),
        (
            kde(
                "[$i]\n[AC][SuspendAndShutdown]\nAutoSuspendAction=0\n[AC][Display]\nTurnOffDisplayWhenIdle=false\n"
            ),
            (0, 0),
        ),
        (
            kde(
                "[AC][SuspendSession][$i]\nidleTime=600000\nsuspendType=1\n[AC][DPMSControl][$i]\nidleTime=600\n",
                "powermanagementprofilesrc",
            ),
            (600, 600),
        ),
        (
            {**gnome(), **kde("[AC][Display][$i]\nTurnOffDisplayIdleTimeoutSec=300\n")},
            (None, 1200),
        ),  # which desktop runs?
        ({"etc/systemd/sleep.conf.d/no.conf": "[Sleep]\nAllowSuspend=no\nAllowHibernation=no\n"}, (None, 0)),
        ({"etc/systemd/sleep.conf": "[Sleep]\nAllowSuspend=no\n"}, (None, None)),
        (
            {
                "etc/systemd/sleep.conf": "[Sleep]\nAllowSuspend=no\nAllowHibernation=no\n",
                **logind("IdleAction=suspend"),
            },
            (None, 0),
        ),
    ],
)
def test_what_is_known(tmp_path, files, plan):
    """The plan holds only what no user can change; 0 is never; the earliest of several settings counts."""
    assert power_plan(write(tmp_path, files)) == plan


def test_masked_sleep_is_never(tmp_path):
    """With `systemctl mask sleep.target` the plan is never, whatever desktops say; logind may power off."""
    write(tmp_path, gnome())
    unit = tmp_path / "etc/systemd/system/sleep.target"
    unit.parent.mkdir(parents=True)
    unit.symlink_to("/dev/null")
    assert not may_sleep(tmp_path)
    assert power_plan(tmp_path) == (600, 0)
    write(tmp_path, logind("IdleAction=poweroff"))
    assert power_plan(tmp_path) == (600, 1800)


def test_drop_ins_are_read_in_the_order_of_systemd(tmp_path):
    """The order is that of `systemd-analyze cat-config`; the last assignment counts; an empty one resets."""
    write(
        tmp_path,
        {
            "usr/lib/systemd/logind.conf": "[Login]\nIdleAction=lock\nIdleActionSec=11\n",
            "usr/lib/systemd/logind.conf.d/50-vendor.conf": "[Login]\nIdleAction=suspend\nIdleActionSec=22\n",
            "etc/systemd/logind.conf.d/50-vendor.conf": "[Login]\nIdleActionSec=33\n",
            "run/systemd/logind.conf.d/60-run.conf": "[Login]\nIdleAction=hibernate\n[Other]\nIdleActionSec=1\n",
            "etc/systemd/logind.conf.d/40-early.conf": "[Login]\nIdleAction=poweroff\nIdleActionSec=44\n",
        },
    )
    said = ran(
        [peer("systemd-analyze"), f"--root={tmp_path}", "cat-config", "systemd/logind.conf"], check=True
    ).stdout
    login = re.sub(r"\[Other\][^\[#]*", "", said)
    last = {key: re.findall(rf"^{key}=(.*)$", login, re.M)[-1] for key in ("IdleAction", "IdleActionSec")}
    assert idle_action(tmp_path) == (last["IdleAction"], int(last["IdleActionSec"])) == ("hibernate", 33)
    write(tmp_path, {"etc/systemd/logind.conf.d/90-last.conf": "[Login]\nIdleAction=\nIdleActionSec=\n"})
    assert idle_action(tmp_path) == ("ignore", 1800)


def test_a_drop_in_that_is_hidden(tmp_path):
    """A link to /dev/null disables the vendor's file of the same name, as in systemd."""
    write(tmp_path, {"usr/lib/systemd/logind.conf.d/50-vendor.conf": "[Login]\nIdleAction=suspend\n"})
    assert idle_action(tmp_path)[0] == "suspend"
    hidden = tmp_path / "etc/systemd/logind.conf.d/50-vendor.conf"
    hidden.parent.mkdir(parents=True)
    hidden.symlink_to("/dev/null")
    assert idle_action(tmp_path)[0] == "ignore"


@pytest.mark.parametrize("text", ["90", "20min", "1h 30min", "2h30m", "1.5h", "1w", "90000ms", "infinity"])
def test_spans_are_those_of_systemd(text):
    """`systemd-analyze timespan` gives the same duration."""
    said = ran([peer("systemd-analyze"), "timespan", text], check=True).stdout
    found = re.search(r"μs: (\d+|infinity)", said)
    assert found, said
    assert span_seconds(text) == (0 if text == "infinity" else int(found[1]) // 1_000_000)


def test_locked_keys_are_those_of_dconf(tmp_path):
    """dconf compiles the folder and reads the same values and locks; of two files the later name wins."""
    write(tmp_path, gnome())
    write(tmp_path, {"etc/dconf/db/local.d/10-later": f"[{POWER}]\nsleep-inactive-ac-timeout=900\n"})
    (tmp_path / "etc/dconf/db/local").unlink()
    assert locked_gnome(tmp_path) == {}, "not compiled: not in force"
    subprocess.run([peer("dconf"), "update", tmp_path / "etc/dconf/db"], check=True, capture_output=True)
    profile = tmp_path / "profile"
    profile.write_text(f"user-db:veilleuse-test\nfile-db:{tmp_path}/etc/dconf/db/local\n")
    environment = {"DCONF_PROFILE": str(profile), "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}

    def said(*words: str) -> str:
        command = [str(peer("dconf")), *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return str(done.stdout.strip())

    found = locked_gnome(tmp_path)
    assert set(said("list-locks", "/").split()) == set(found) == set(LOCKS.split())
    for key, value in found.items():
        assert said("read", key) == value
    assert power_plan(tmp_path).sleep_ac_seconds == 900


@given(st.text(max_size=60))
def test_any_span_is_borne(text):
    """Any text gives None or a number of seconds."""
    seconds = span_seconds(text)
    assert seconds is None or 0 <= seconds < 2**32


@given(content=st.binary(max_size=400))
def test_any_file_is_borne(tmp_path_factory, content):
    """Any bytes in these files give delays that are possible, or none."""
    root = tmp_path_factory.mktemp("root")
    for name in ("etc/systemd/logind.conf", "etc/xdg/powerdevilrc", *gnome()):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert all(seconds is None or 0 <= seconds < 2**32 for seconds in power_plan(root))


def test_homes_are_never_read(tmp_path, monkeypatch):
    """No file or folder of a user's home is opened, and such a file does not change the plan."""
    home = write(
        tmp_path,
        {"home/someone/.config/powerdevilrc": "[$i]\n[AC][SuspendAndShutdown]\nAutoSuspendAction=0\n"},
    )
    monkeypatch.setenv("HOME", str(home / "home/someone"))
    opened, watching = [], [True]
    sys.addaudithook(
        lambda event, given: (
            opened.append(str(given[0]))
            if watching and event in ("open", "os.listdir", "os.scandir")
            else None
        )
    )
    assert power_plan(tmp_path) == (None, None)
    watching.clear()
    assert any("/etc/" in name for name in opened)
    assert [name for name in opened if name.startswith(str(tmp_path / "home"))] == []
