# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the packages for a system on a root of that system, as deploy/debian/build.sh does there.

They are kept as long as no file that goes into them changes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.architecture.tree import ROOT
from tests.install.machines import ALONE, PLACE, System, one_at_a_time, remove_old, root_of
from tests.promises.support.previous import RELEASES, VERSION, WHEELS
from tests.support.peers import peer
from tests.support.processes import ran

_TOOLS: Final = ("build-essential", "debhelper", "help2man", "po-debconf", "python3-venv")
_INTO_THEM: Final = (
    "agent",
    "collector",
    "proto",
    "deploy/debian",
    "deploy/release",
    "deploy/systemd",
    "requirements",
    "pyproject.toml",
    "LICENSE",
    "README.md",
)
PREVIOUS: Final = f"{VERSION}~previous"
"""Version of the previous release's packages: below this checkout's, also right after a release."""
_BUILD_SECONDS: Final = 1_200


def packages(system: System, *, previous: bool = False) -> Path:
    """Return a folder with this checkout's packages for a system, or those of the previous release's wheel.

    The latter are packaged as today: the released program, with today's maintainer scripts and units.
    """
    wheel = WHEELS[-1]
    digest = hashlib.sha256(wheel.read_bytes() if previous else b"")
    for file in sources():
        if not previous or file.relative_to(ROOT).parts[0] in ("deploy", "requirements"):
            digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    kept = PLACE / "packages" / f"{system.suite}-{digest.hexdigest()[:12]}"
    with one_at_a_time(f"packages-{system.suite}"):
        if not kept.exists():
            remove_old(kept.parent)
            draft = kept.with_suffix(f".{os.getpid()}")
            draft.mkdir(parents=True)
            _build(system, draft, {"WHEEL": f"/wheel/{wheel.name}", "VERSION": PREVIOUS} if previous else {})
            draft.rename(kept)
    return kept


def one(folder: Path, package: str) -> Path:
    """Return the file of a package."""
    (found,) = folder.glob(f"{package}_*.deb")
    return found


def sources() -> Iterator[Path]:
    """Yield the files of this checkout that packages are built from."""
    listed = ran(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard", *_INTO_THEM],
        check=True,
    )
    yield from sorted(file for name in listed.stdout.split("\0") if name and (file := ROOT / name).is_file())


def _build(system: System, output: Path, variables: dict[str, str]) -> None:
    """Run build.sh on a root of the system, with this machine's network and settings of pip."""
    git = ran(["git", "-C", ROOT, "log", "-1", "--format=%ct"], check=True)
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    settings = {
        *map(Path, pip.values()),
        Path("/etc/pip.conf"),
        Path("/etc/xdg/pip"),
        Path.home() / ".config/pip",
    }
    binds = [
        f"--bind-ro={path}"
        for path in (*settings, Path("/etc/ssl/certs"))
        if path.is_absolute() and path.exists()
    ]
    variables = {"SOURCE_DATE_EPOCH": git.stdout.strip(), **pip, **variables}
    source = output / "source"
    for file in sources():  # a clean copy: what git ignores is not built from
        (source / file.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, source / file.relative_to(ROOT))
    command: list[str | Path] = [
        *ALONE,
        peer("systemd-nspawn"),
        *("--quiet", "--pipe", "--register=no", "--keep-unit", "--resolv-conf=bind-host"),
        f"--directory={root_of(system, *_TOOLS)}",
        *(f"--bind={output}:/output", f"--bind={source}:/source", f"--bind-ro={RELEASES}:/wheel"),
        *binds,
        *(f"--setenv={name}={value}" for name, value in variables.items()),
        *("/source/deploy/debian/build.sh", "/output"),
    ]
    done = ran(command, timeout=_BUILD_SECONDS)
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-4_000:]
    shutil.rmtree(source)
