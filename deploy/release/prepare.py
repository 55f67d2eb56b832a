# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Makes the commit of a release and its tag: version, CHANGELOG.md, and the baselines of the next releases.

`python -m deploy.release.prepare 0.3.0`, in a tree without changes. Changes nothing where the commit is
already made. Pushes nothing. Docs: docs/release.md.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from deploy.release.changelog import fragments, section, with_section
from veilleuse.collector import clock

ROOT: Final = Path(__file__).parents[2]
RELEASES: Final = ROOT / "tests" / "fixtures" / "releases"
VERSION: Final = re.compile(r'(?m)^(version|VERSION: Final) = "(\d+\.\d+\.\d+)"$')


class Refused(Exception):
    """A Refused says why no release is made, and what to do."""


def main() -> int:
    """Make the commit and its tag, or say why not; returns the exit code."""
    try:
        print(f"release: {prepare(sys.argv[1] if len(sys.argv) > 1 else '')}")
    except (Refused, ValueError) as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


def prepare(version: str) -> str:
    """Make the commit and its tag where they are not made; returns one line."""
    tag = f"v{version}"
    present = VERSION.search((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    if not re.fullmatch(r"\d+\.\d+\.\d+", version) or present is None:
        raise Refused(f"'{version}' is no version: say which, e.g. make release VERSION=0.3.0")
    if git("status", "--porcelain"):
        raise Refused(
            "the tree has changes: commit or remove them, for a release is made of what is committed"
        )
    if git("tag", "--list", tag):
        if git("rev-parse", f"{tag}^{{commit}}") != git("rev-parse", "HEAD"):
            raise Refused(
                f"{tag} is another commit: check it out to build its packages, or take another version"
            )
        return f"{tag} is this commit: nothing to prepare"
    if numbers(version) <= numbers(present[2]):
        raise Refused(f"{version} is not above the present version, {present[2]}")
    try:
        write(version)
    except BaseException:
        git("reset", "--quiet", "--hard")  # there was no change before
        git("clean", "--quiet", "--force", "-d")
        raise
    return f"{tag} is made: a commit and a tag, here only. Look at them before 'git push --follow-tags'"


def write(version: str) -> None:
    """Write the files of a release, and commit them under a tag."""
    now = int(clock.unix_seconds())
    os.environ |= {"SOURCE_DATE_EPOCH": str(now), "GIT_COMMITTER_DATE": f"{now} +0000"}
    for name in ("pyproject.toml", "proto/veilleuse/wire/version.py"):
        replace(ROOT / name, version)
    changelog, used = ROOT / "CHANGELOG.md", fragments(ROOT / "changelog.d")
    older = changelog.read_text(encoding="utf-8") if changelog.exists() else ""
    day = datetime.fromtimestamp(now, UTC).date().isoformat()
    changelog.write_text(with_section(older, section(version, day, used)), encoding="utf-8")
    for file in used:
        file.unlink()
    # The environment first: the product's own version is recorded with its figures.
    subprocess.run(
        ["make", "--no-print-directory", f"VENV={sys.prefix}", "wire-release", "docs"], cwd=ROOT, check=True
    )
    build_wheel(RELEASES)
    record = [sys.executable, "-m", "tests.promises.support.recorded", version]
    subprocess.run(record, cwd=ROOT, check=True)
    git("add", "--all")
    git("commit", "--quiet", "--message", f"Release {version}")
    git("tag", "--annotate", "--message", f"Veilleuse {version}", f"v{version}")


def replace(file: Path, version: str) -> None:
    """Write another version into a file. Raises Refused where there is not one place for it."""
    text, count = VERSION.subn(rf'\1 = "{version}"', file.read_text(encoding="utf-8"))
    if count != 1:
        raise Refused(f"{file} has {count} versions: one was expected")
    file.write_text(text, encoding="utf-8")


def build_wheel(folder: Path) -> None:
    """Build the wheel with the locked backend, at the time in SOURCE_DATE_EPOCH."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT], check=True)


def numbers(version: str) -> tuple[int, ...]:
    """Return a version as numbers."""
    return tuple(map(int, version.split(".")))


def git(*arguments: str) -> str:
    """Run git in the repository; returns what it printed."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
