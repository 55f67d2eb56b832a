# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""S23: what is installed is what was locked and described, and has the fixed SQLite; two builds are equal.

The audit itself needs an operator's copy of the OSV database: OSV_COPY.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.release import sbom
from deploy.release.audit import audit
from tests.architecture.tree import ROOT
from tests.support.processes import ran
from veilleuse.collector.store import WAL_RESET_FIXED

LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input")


@pytest.fixture(scope="module")
def tools() -> Path:
    """Return the folder of cyclonedx-py and pip-audit, as `make release` installs them."""
    subprocess.run(
        ["make", "--silent", f"VENV={sys.prefix}", f"{sys.prefix}-release/.made"], cwd=ROOT, check=True
    )
    return Path(f"{sys.prefix}-release/bin")


def build(folder: Path, output: Path) -> Path:
    """Build the wheel from a copy of the tree in a folder, at a fixed time."""
    tree = folder / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", ".venv*", "var", "dist"))
    environment = os.environ | {"SOURCE_DATE_EPOCH": "1790000000"}
    command = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(output), str(tree)]
    subprocess.run(command, check=True, env=environment)
    shutil.rmtree(tree)
    (wheel,) = output.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel of this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    return build(folder, folder / "first")


def install(folder: Path, lock: Path, wheel: Path) -> Path:
    """Install a locked set and the wheel in an empty environment; returns its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    pip = [*PIP, "--python", str(folder / "bin/python"), "install", "--only-binary", ":all:"]
    subprocess.run([*pip, "--require-hashes", "--requirement", str(lock)], check=True)
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
    return folder / "bin/python"


@pytest.mark.promise("S23")
@pytest.mark.long
@pytest.mark.parametrize("side", ["agent", "collector"])
def test_what_is_installed_is_locked_and_described(side, tools, wheel, tmp_path, figure):
    """Each installed distribution is in the lock with its version, and in the SBOM with a licence."""
    lock = ROOT / "requirements" / f"{side}.txt"
    python = install(tmp_path / "venv", lock, wheel)
    packages = sbom.site_packages(tmp_path / "venv")
    assert packages is not None
    there = sbom.installed(packages)
    locked = set(re.findall(r"(?m)^([a-z0-9.-]+)==(\S+)", lock.read_text("utf-8")))
    own = {one for one in there if one[0] == "veilleuse"}
    assert {(name.lower().replace("_", "-"), version) for name, version in there - own} <= locked
    document = sbom.describe(packages, tools / "cyclonedx-py")
    differing = sbom.described(document) ^ there
    assert not differing
    assert sbom.describe(packages, tools / "cyclonedx-py") == document
    (packages / "made_up-1.0.dist-info").mkdir()
    (packages / "made_up-1.0.dist-info" / "METADATA").write_text("Name: made-up\nVersion: 1.0\n")
    assert sbom.described(document) ^ sbom.installed(packages) == {("made-up", "1.0")}
    said = [f"{side}: {len(there)} distributions installed by hash, {len(differing)} differ from its SBOM"]
    if side == "collector":
        version = json.loads(
            ran([python, "-m", "veilleuse.collector", "version", "--json"], check=True).stdout
        )
        assert tuple(map(int, version["sqlite"].split("."))) >= WAL_RESET_FIXED
        said.append(f"SQLite {version['sqlite']}")
    figure(", ".join(said))


@pytest.mark.promise("S23")
@pytest.mark.long
def test_another_file_is_refused(tmp_path):
    """A file whose hash is not in the lock is not installed."""
    lock = tmp_path / "lock.txt"
    text = (ROOT / "requirements/agent.txt").read_text("utf-8")
    lock.write_text(re.sub(r"sha256:[0-9a-f]{8}", "sha256:00000000", text))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    pip = [*PIP, "--python", str(tmp_path / "venv/bin/python"), "install", "--require-hashes"]
    done = ran([*pip, "--requirement", str(lock)])
    assert done.returncode != 0
    assert "DO NOT MATCH" in done.stderr
    assert sbom.site_packages(tmp_path / "venv") is None


@pytest.mark.promise("S23")
@pytest.mark.long
def test_two_builds_are_one(wheel, tmp_path, figure):
    """Two copies of the tree give the same wheel, byte by byte."""
    second = build(tmp_path, tmp_path / "second")
    first, again = (hashlib.sha256(file.read_bytes()).hexdigest() for file in (wheel, second))
    assert again == first
    figure(f"two builds of {wheel.name}: sha256 {first[:12]}… twice")


@pytest.mark.promise("S23")
@pytest.mark.long
def test_an_audit_finds_what_a_copy_holds(tools, tmp_path, figure):
    """A record made up about a locked version fails the audit; one about another version does not.

    With OSV_COPY, the locked versions are audited for real.
    """
    (version,) = re.findall(r"(?m)^pysqlite3==(\S+)", (ROOT / "requirements/collector.txt").read_text())
    for affected, expected in ((version, 1), ("0.0.1", 0)):
        copy = tmp_path / f"copy-{expected}"
        copy.mkdir()
        package = {"name": "pysqlite3", "ecosystem": "PyPI"}
        record = {"id": "MADE-UP-1", "affected": [{"package": package, "versions": [affected]}]}
        (copy / "MADE-UP-1.json").write_text(json.dumps(record))
        code, said = audit(str(copy), tools / "pip-audit", LOCKS)
        assert code == expected, said
    place = os.environ.get("OSV_COPY", "")
    code, said = audit(place, tools / "pip-audit", LOCKS)
    figure(f"a made-up vulnerability was found; the real audit: {said}")
    assert code == (0 if place else 3)
