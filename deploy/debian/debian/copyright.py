# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Writes the copyright file of a package: ours, and the libraries inside with their licences.

Usage: copyright.py SITE_PACKAGES LICENSE >debian/PACKAGE.copyright
"""

from __future__ import annotations

import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

from deploy.release.sbom import LICENCES


def main(site_packages: str, own_license: str) -> None:
    """Print the file."""
    others = [one for one in distributions(path=[site_packages]) if one.name != "veilleuse"]
    print("Veilleuse, copyright 2026 Métropole de Lyon and the Veilleuse developers.")
    print("License: EUPL-1.2, whose text is below.\n")
    if others:
        print(
            "The package contains these Python libraries, as their authors publish them, with the libraries"
        )
        print("that they contain. Copyright: their authors, named in the files of *.dist-info.\n")
    for one in sorted(others, key=lambda one: one.name.lower()):
        print(f"  {one.name} {one.version}: {license_of(one)}")
    print(f"\n{Path(own_license).read_text(encoding='utf-8')}", end="")


def license_of(one: Distribution) -> str:
    """Return the licence that a library declares, or that we read. Raises SystemExit without any."""
    said = one.metadata
    classifiers = [
        text.rpartition(" :: ")[2] for text in said.get_all("Classifier", []) if "License ::" in text
    ]
    declared = [
        *said.get_all("License-Expression", []),
        " or ".join(classifiers),
        *said.get_all("License", []),
    ]
    found = next(filter(None, [LICENCES.get(one.name), *declared]), "")
    if not found:
        raise SystemExit(f"copyright.py: {one.name} {one.version} declares no licence")
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
