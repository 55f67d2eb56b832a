# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Completes dist/ after `make packages`: wheel, SBOM of each package, notes, checksums and their signature.

`python -m deploy.release.artifacts VERSION`. A package whose SBOM differs from what is installed in it is an
error. What was not made is in the notes.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from deploy.release.audit import NOT_RUN, audit
from deploy.release.changelog import last_section
from deploy.release.prepare import build_wheel, git
from deploy.release.sbom import describe, described, installed, site_packages, unpack

ROOT: Final = Path(__file__).parents[2]
DIST: Final = ROOT / "dist"
SUMS: Final = "SHA256SUMS"


def main() -> int:
    """Write the files; returns 1 where a package is not as described or has a known vulnerability."""
    (version,) = sys.argv[1:]
    tools = Path(sys.executable).parent
    os.environ["SOURCE_DATE_EPOCH"] = git("log", "-1", "--format=%ct")
    build_wheel(DIST)
    lines = [line for package in packages() for line in write_sbom(package, tools / "cyclonedx-py")]
    if not any(DIST.glob("*.msi")):
        lines.append("MSI for Windows: not built: PYTHON_EMBED_ZIP is not given.")
    locks = sorted((ROOT / "requirements").glob("*.txt"))
    code, said = audit(os.environ.get("OSV_COPY", ""), tools / "pip-audit", locks)
    lines.append(f"Audit of the locked versions: {said}.")
    key = os.environ.get("KEY", "")
    lines.append(f"{SUMS}: {f'signed by {key}' if key else 'not signed: KEY is not given'}.")
    changes = last_section((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    notes = "\n".join([f"# Veilleuse {version}", "", *(f"- {line}" for line in lines), "", changes])
    (DIST / "NOTES.md").write_text(notes, encoding="utf-8")
    write_sums(key)
    print("\n".join(f"release: {line}" for line in lines))
    return 0 if code in (0, NOT_RUN) else 1


def packages() -> list[Path]:
    """Return the packages in dist/."""
    return sorted([*DIST.glob("*.deb"), *DIST.glob("*.msi")])


def write_sbom(package: Path, tool: Path) -> list[str]:
    """Write PACKAGE.cdx.json where the package has Python distributions; returns the line about it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unpack(package, folder)
        if (found := site_packages(folder)) is None:
            return []
        document, there = describe(found, tool), installed(found)
    if differing := described(document) ^ there:
        raise SystemExit(f"release: the SBOM of {package.name} is not what is installed: {sorted(differing)}")
    text = json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    Path(f"{package}.cdx.json").write_text(text, encoding="utf-8")
    return [f"{package.name}: SBOM of {len(there)} distributions, 0 differences from what is installed."]


def write_sums(key: str) -> None:
    """Write the checksums of all files, and sign them where a key of gpg is named."""
    files = [file for file in sorted(DIST.iterdir()) if file.is_file() and not file.name.startswith(SUMS)]
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (DIST / SUMS).write_text("".join(sums), encoding="utf-8")
    if key:
        sign = ["gpg", "--batch", "--yes", "--armor", "--detach-sign", "--local-user", key]
        subprocess.run([*sign, DIST / SUMS], check=True)


if __name__ == "__main__":
    sys.exit(main())
