# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Describes the Python distributions in a package: a CycloneDX document of what is installed there."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
LICENCES: Final = {
    "protobuf": "BSD-3-Clause",
    "pysnmp": "BSD-2-Clause",
    "pysqlite3": "Zlib",
    "sqlite-fts4": "Apache-2.0",
}
"""Licences, read by hand, of distributions whose metadata name none that the tool understands."""


class NoLicenceError(Exception):
    """A NoLicenceError names distributions whose licence has to be read and added to LICENCES."""


def unpack(package: Path, folder: Path) -> None:
    """Unpack a .deb or an .msi."""
    command = {
        ".deb": ["dpkg-deb", "-x", str(package), str(folder)],
        ".msi": ["msiextract", "-C", str(folder), str(package)],
    }[package.suffix]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def site_packages(folder: Path) -> Path | None:
    """Return the folder with the distributions, below an unpacked package; None without any."""
    found = sorted({info.parent for info in folder.rglob("*.dist-info")})
    if len(found) > 1:
        raise ValueError(f"distributions lie in {found[0]} and in {found[1]}: one of them would be left out")
    return found[0] if found else None


def installed(packages: Path) -> set[tuple[str, str]]:
    """Return name and version of each distribution in a folder."""
    return {(one.name, one.version) for one in distributions(path=[str(packages)])}


def described(document: dict[str, Any]) -> set[tuple[str, str]]:
    """Return name and version of each component of a document, with the product itself."""
    parts = [document["metadata"]["component"], *document["components"]]
    return {(part["name"], part["version"]) for part in parts}


def describe(packages: Path, tool: Path) -> dict[str, Any]:
    """Return the CycloneDX document of a folder of distributions, the same each time.

    `tool` is cyclonedx-py. Raises NoLicenceError.
    """
    with tempfile.TemporaryDirectory() as name:
        # The tool asks an interpreter for its path; that of the package may be for another system.
        python = Path(name, "python")
        python.write_text(f'#!/bin/sh\nPYTHONPATH="{packages}" exec "{sys.executable}" "$@"\n')
        python.chmod(0o700)
        command = [str(tool), "environment", "-S", "--output-reproducible", "--mc-type", "application"]
        command += ["--pyproject", str(ROOT / "pyproject.toml"), str(python)]
        done = subprocess.run(command, check=True, capture_output=True)
    document: dict[str, Any] = json.loads(done.stdout)
    unknown = []
    for part in document["components"]:
        if part["name"] in LICENCES:
            part["licenses"] = [{"license": {"id": LICENCES[part["name"]]}}]
        if not part.get("licenses"):
            unknown.append(part["name"])
    if unknown:
        raise NoLicenceError(f"no licence is known of {', '.join(unknown)}: add it to {Path(__file__).name}")
    return document
