# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""S20: only their owner can access the files on the disk, and the documented removal removes all of them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT
from tests.support.processes import ran
from tests.support.stack import Stack

README = ROOT / "deploy/systemd/README.md"
KEYS = ("key.pem", "root.key", "intermediate.key", "server.key", "fleet.key", "salt", "join.json")


def readable(*folders: Path) -> list[str]:
    """Return files and folders that others may read, write or enter, as `find -perm` finds them."""
    done = ran(["find", *map(str, folders), "!", "-type", "l", "-perm", "/077"], check=True)
    return done.stdout.splitlines()


def commands(title: str, *, block: int = 0) -> str:
    """Return the commands of a section of deploy/systemd/README.md."""
    section = README.read_text(encoding="utf-8").split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    blocks: list[str] = re.findall(r"```\n(.+?)```", section, re.DOTALL)
    return blocks[block]


def on_root(script: str, root: Path) -> None:
    """Run commands of the README with absolute paths below `root`; skip those on the running system."""
    moved = re.sub(r"(?<=[\s,])/(?=(etc|opt|var)\b)", f"{root}/", script)
    silent = "systemctl udevadm userdel groupdel systemd-sysusers systemd-tmpfiles"
    stubs = "".join(f"{name}() {{ :; }}\n" for name in silent.split())
    done = ran(["bash", "-euc", f"{stubs}{moved}"], cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.promise("S20")
@pytest.mark.long
def test_nothing_is_anybody_elses(tmp_path, figure):
    """Directories are 0700 and files 0600 on both sides, backups included, after a whole run with umask 0."""
    tmp_path.chmod(0o700)
    os.umask(0)
    with Stack(tmp_path, {"VEILLEUSE_AGENT__MEASURE__TICK_SECONDS": "1"}) as stack:
        stack.start_collector()
        stack.enrol()
        agent = stack.start("veilleuse-agent", "run")
        stack.wait_for(lambda: "contact done" in stack.log("veilleuse-agent"), "a contact", process=agent)
        assert stack.run("veilleuse", "backup", str(tmp_path / "backup")).returncode in (
            0,
            3,
        )  # 3: not encrypted
        stack.stop(agent)
        where = ("--entity", "DSI", "--site", "test", "--population", "server", "--uses", "9")
        stack.must("veilleuse", "token", "create", *where, "--output", str(tmp_path / "group"))
        stack.must("veilleuse-agent", "prepare-image", "--join", str(tmp_path / "group"))
        stack.must("veilleuse-agent", "send")
        folders = (stack.data, stack.state, tmp_path / "backup", tmp_path / "group")
        open_to_others = readable(*folders)
        found = [one for folder in folders for one in (folder, *folder.rglob("*"))]
        keys = [one for one in found if one.name in KEYS]
        figure(
            f"{len(open_to_others)} of {len(found)} files and directories open to others, {len(keys)} keys with mode 0600"
        )
        assert open_to_others == []
        assert {one.stat().st_mode & 0o777 for one in keys} == {0o600}
        assert {one.name for one in keys} >= {
            "key.pem",
            "intermediate.key",
            "server.key",
            "fleet.key",
            "salt",
        }


@pytest.mark.promise("S20")
@pytest.mark.long
def test_the_documented_removal_removes_all(tmp_path, figure):
    """`Uninstall` of deploy/systemd/README.md removes the program, then the data, and leaves nothing."""
    for folder in (
        "etc/sysusers.d",
        "etc/tmpfiles.d",
        "etc/systemd/system",
        "etc/udev/rules.d",
        "opt/veilleuse/bin",
    ):
        (tmp_path / folder).mkdir(parents=True)
    for side, data in (("Collector", "veilleuse"), ("Agent", "veilleuse-agent")):
        on_root(commands(side), tmp_path)
        (tmp_path / "var/lib" / data).mkdir(parents=True)
        (tmp_path / "var/lib" / data / "data.db").write_text("measured")
    rapl = [
        line for line in README.read_text().splitlines() if line.startswith("install ") and "rapl" in line
    ]
    on_root("\n".join(rapl) + "\n", tmp_path)
    (tmp_path / "etc/veilleuse").mkdir()
    (tmp_path / "etc/veilleuse/agent.toml").write_text("")
    installed = _ours(tmp_path)
    on_root(commands("Uninstall"), tmp_path)
    kept = _ours(tmp_path)
    on_root(commands("Uninstall", block=1), tmp_path)
    left = _ours(tmp_path)
    figure(f"{len(left)} of {len(installed)} files left by the documented removal, on a temporary root")
    assert len(installed) > 12
    assert {one.relative_to(tmp_path).parts[0] for one in kept} == {"etc", "var"}
    assert not [one for one in kept if "system" in one.parts or "rules.d" in one.parts]
    assert left == []


def _ours(root: Path) -> list[Path]:
    return sorted(one for one in root.rglob("*") if "veilleuse" in str(one.relative_to(root)))
