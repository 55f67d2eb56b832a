# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The Debian packages themselves: reproducible, checked by Debian's tools, configured by debconf, signed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT
from tests.install.apt import Repository, SystemFolder
from tests.install.machines import DEBIAN_13, require_root, root_of
from tests.install.packages import PREVIOUS, one, packages, sources
from tests.install.steps import step
from tests.support.peers import peer
from tests.support.processes import ran

pytestmark = [pytest.mark.long, pytest.mark.promise("install")]

NAMES = ("veilleuse-agent", "veilleuse-collector", "veilleuse-rapl")
JOIN_FILE = "/var/lib/veilleuse-agent/join.json"
_FROM_NOTHING = "rm -r /var/lib/apt/lists && apt-get --error-on=any update && apt-get upgrade --yes"
"""As a machine that never saw the genuine index: one that did reads nothing again."""


def build(checkout: Path, output: Path, **variables: str) -> dict[str, bytes]:
    """Build the packages as `make packages` does, and return them by name."""
    done = ran([checkout / "deploy/debian/build.sh", output], env=os.environ | variables, timeout=1_200)
    assert done.returncode == 0, done.stderr
    return {file.name: file.read_bytes() for file in output.iterdir()}


def join_file(system: SystemFolder, path: str) -> None:
    """Write a file as `veilleuse token create` does: for root alone."""
    system.path(path).write_text("the join file")
    system.path(path).chmod(0o600)


@pytest.fixture(scope="module")
def moment() -> str:
    """Time of the last commit, which a copy of the checkout does not know."""
    return ran(["git", "-C", ROOT, "log", "-1", "--format=%ct"], check=True).stdout.strip()


@pytest.fixture(scope="module")
def built(moment: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages of this checkout, built on this machine."""
    peer("dh")
    output = tmp_path_factory.mktemp("built")
    with step("Debian 13", "make packages"):
        build(ROOT, output, SOURCE_DATE_EPOCH=moment)
    return output


@pytest.fixture
def system(tmp_path: Path) -> Iterator[SystemFolder]:
    """A Debian whose services do not run; it is not connected to any repository."""
    require_root()
    folder = tmp_path / "root"
    root = root_of(DEBIAN_13, "ucf", "libstdc++6")
    assert ran(["cp", "--archive", "--reflink=auto", root, folder]).returncode == 0
    yield SystemFolder(folder)
    shutil.rmtree(folder)


def test_two_builds_are_identical(built, moment, tmp_path, figure):
    """Each byte is the same from a copy in another folder, with other modes, language and time zone."""
    checkout = tmp_path / "another" / "checkout"
    for file in sources():
        target = checkout / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        target.chmod(0o700 if os.access(file, os.X_OK) else 0o600)
    different = {
        "SOURCE_DATE_EPOCH": moment,
        "TZ": "Pacific/Noumea",
        "LANG": "fr_FR.UTF-8",
        "HOME": str(tmp_path),
    }
    with step("Debian 13", "build again elsewhere") as taken:
        again = build(checkout, tmp_path / "again", **different)
        first = {file.name: file.read_bytes() for file in built.iterdir()}
        differ = [name for name in first if first[name] != again.get(name)]
        taken.result = f"{len(differ)} of {len(first)} packages differ"
        figure(taken.result)
        assert len(first) == len(NAMES)
        assert first.keys() == again.keys()
        assert differ == []


def test_lintian_is_clean(built):
    """No error and no warning; what is overridden says why beside it. Each question is in French too."""
    with step("Debian 13", "lintian"):
        done = ran(
            [peer("lintian"), "--allow-root", "--fail-on=error,warning", *built.iterdir()], timeout=600
        )
        assert done.returncode == 0, done.stdout
    for package in ("veilleuse-agent", "veilleuse-collector"):
        questions = ran(["dpkg-deb", "--info", one(built, package), "templates"], check=True).stdout
        assert 0 < questions.count("\nDescription: ") == questions.count("\nDescription-fr.UTF-8: ")


def test_piuparts_finds_nothing_left(built, tmp_path, figure):
    """After install, remove and purge on a small Debian no file is left, and no other has changed."""
    require_root()
    root = root_of(DEBIAN_13, "ucf", "libstdc++6")
    with step("Debian 13", "piuparts") as taken:
        options = (
            f"--tmpdir={tmp_path}",
            f"--existing-chroot={root}",
            "--distribution=trixie",
            "--no-eatmydata",
        )
        done = ran([peer("piuparts"), *options, "--skip-minimize", *built.iterdir()], timeout=900)
        assert done.returncode == 0, done.stdout[-4_000:]
        taken.result = "0 files left by install, remove, purge"
        figure(taken.result)


def test_the_answers_are_the_configuration(built, system):
    """Preseeded answers become agent.toml and the join file; an administrator's file is never touched."""
    with step("Debian 13", "answers to debconf"):
        join_file(system, "/root/join")
        answers = {
            "population": "server",
            "join-file": "/root/join",
            "collector": "c.test:8641",
            "entity": "DSI",
        }
        system.answer("veilleuse-agent", **answers)
        system.must("dpkg", "--install", *system.copy(built))
        written = system.path("/etc/veilleuse/agent.toml").read_text()
        assert [line for line in written.splitlines() if not line.startswith("#")] == [
            "[measure]",
            'population = "server"',
            "[collector]",
            'address = "c.test:8641"',
            'entity = "DSI"',
        ]
        assert system.path(JOIN_FILE).read_text() == "the join file"
        listed = system.must("stat", "--format=%U:%G %a", "/etc/veilleuse/agent.toml", JOIN_FILE)
        assert listed.splitlines() == ["root:veilleuse-agent 640", "veilleuse-agent:veilleuse-agent 600"]
        system.must("runuser", "-u", "veilleuse-agent", "--", "veilleuse-agent", "run", "--check")

        system.path(JOIN_FILE).unlink()
        system.answer("veilleuse-agent", collector="other.test:8641")
        system.must("dpkg-reconfigure", "veilleuse-agent")
        assert 'address = "other.test:8641"' in system.path("/etc/veilleuse/agent.toml").read_text()
        assert not system.path(JOIN_FILE).exists(), "used once"

        system.path("/etc/veilleuse/agent.toml").write_text("[log]\nlevel = 'debug'\n")
        system.answer("veilleuse-agent", population="classroom")
        system.must("dpkg-reconfigure", "veilleuse-agent")
        system.must("dpkg", "--install", *system.copy(built))
        assert system.path("/etc/veilleuse/agent.toml").read_text() == "[log]\nlevel = 'debug'\n"


def test_a_wrong_answer_is_told_and_can_be_corrected(built, system):
    """A misspelt population is the most private one; an answer that could not be used is there for later."""
    with step("Debian 13", "wrong answers to debconf"):
        system.answer("veilleuse-agent", **{"population": "sever", "join-file": "/root/join"})
        done = system.run("dpkg", "--install", *system.copy(built))
        assert done.returncode == 0, done.stderr
        assert "WRONG ANSWER: veilleuse-agent/population is 'sever'" in done.stderr
        assert 'population = "workstation"' in system.path("/etc/veilleuse/agent.toml").read_text()
        assert f"NOT ENROLLED: the join file /root/join was not copied to {JOIN_FILE}" in done.stderr

        join_file(system, "/root/join")
        for trap in (JOIN_FILE, f"{JOIN_FILE}.new"):  # the agent's account can write there
            system.path(trap).symlink_to("/root/trap")
        system.answer("veilleuse-agent", population="server")
        done = system.run("dpkg-reconfigure", "veilleuse-agent")
        assert (done.returncode, "WRONG" in done.stderr, "NOT" in done.stderr) == (0, False, False)
        assert 'population = "server"' in system.path("/etc/veilleuse/agent.toml").read_text()
        listed = system.must("stat", "--format=%F, %U %a", JOIN_FILE)
        assert listed == "regular file, veilleuse-agent 600\n"
        assert not system.path("/root/trap").exists()


def test_a_purge_asks_for_the_measurements(built, system):
    """Answered no, a purge keeps data, keys and backups; without an answer it leaves nothing."""
    with step("Debian 13", "purge of a collector with data"):
        before = system.files()
        system.must("dpkg", "--install", *system.copy(built))
        system.must("runuser", "-u", "veilleuse", "--", "veilleuse", "init")
        system.must("veilleuse", "backup", "--new-key", "/etc/veilleuse/backup.key")
        system.must(
            "touch",
            "/var/backups/veilleuse/one",
            "/etc/veilleuse/collector.toml",
            "/etc/veilleuse/agent.toml",
        )
        assert "purge-data: true" in system.must("debconf-show", "veilleuse-collector"), "not to be asked"
        system.answer("veilleuse-collector", **{"purge-data": "false"})
        system.must("dpkg", "--purge", *NAMES)
        kept = {file for file in system.files() - before if "veilleuse" in file}
        assert {
            "/var/lib/veilleuse/ca/root.key",
            "/etc/veilleuse/backup.key",
            "/var/backups/veilleuse/one",
        } <= kept
        assert "/usr/bin/veilleuse" not in kept

        system.must("dpkg", "--install", *system.copy(built))
        system.must("dpkg", "--purge", *NAMES)
        assert {file for file in system.files() - before if "veilleuse" in file} == set()


def test_a_signed_repository_upgrades_and_refuses_what_is_tampered(built, system, tmp_path, figure):
    """apt upgrades from the previous release, and refuses what was changed or signed by another."""
    with Repository(tmp_path / "apt") as repository:
        with step("Debian 13", f"apt install {PREVIOUS}"):
            repository.publish(packages(DEBIAN_13, previous=True))
            system.trust(repository)
            system.answer("veilleuse-agent", population="server")
            system.must("apt-get", "install", "--yes", *NAMES)
            assert {system.version(name) for name in NAMES} == {f"{PREVIOUS}+deb13"}
            system.path("/etc/veilleuse/agent.toml").write_text("[measure]\npopulation = 'classroom'\n")
        with step("Debian 13", "apt upgrade"):
            repository.publish(built)
            system.must("apt-get", "update")
            system.must("apt-get", "upgrade", "--yes")
            upgraded = {system.version(name) for name in NAMES}
            assert upgraded == {repository.newest("veilleuse-agent")} != {f"{PREVIOUS}+deb13"}
            assert (
                system.path("/etc/veilleuse/agent.toml").read_text()
                == "[measure]\npopulation = 'classroom'\n"
            )
        with step("Debian 13", "tampered repository") as taken:
            higher = "9.9+deb13"
            tampering = repository.tamperings("veilleuse-rapl", version=higher)
            for number, what in enumerate(tampering, start=1):
                done = system.run("sh", "-c", _FROM_NOTHING)
                assert done.returncode != 0, f"{what}: {done.stdout}"
                assert {system.version(name) for name in NAMES} == upgraded, what
                taken.result = f"{number} of {number} ways refused"
            system.must("sh", "-c", _FROM_NOTHING)
            assert system.version("veilleuse-rapl") == higher, "the same, genuine, is accepted"
            figure(f"tampered repository: {taken.result}")
