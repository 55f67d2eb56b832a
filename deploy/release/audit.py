# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Looks for known vulnerabilities in requirements/*.txt: `make audit OSV_COPY=FILE`.

pip-audit does it, with an operator's copy of the OSV database. Exit codes: 0 none known, 1 vulnerable or
failed, 3 not run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from deploy.release.osv import OsvCopy, serving

ROOT = Path(__file__).parents[2]
NOT_RUN = 3


def audit(copy: str, tool: Path, locks: Sequence[Path]) -> tuple[int, str]:
    """Audit the locked versions of every system; returns the exit code and one line.

    pip-audit prints what it found.
    """
    if not copy:
        return NOT_RUN, "not run: no copy of the OSV database (OSV_COPY=…)"
    try:
        database = OsvCopy(Path(copy))
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        return 1, f"failed: cannot read the copy of the OSV database: {error}"
    with serving(database) as address, tempfile.TemporaryDirectory() as folder:
        command = [str(tool), "--strict", "--disable-pip", "--require-hashes", "--progress-spinner", "off"]
        command += ["--vulnerability-service", "osv", "--osv-url", address, "--cache-dir", folder]
        for lock in locks:
            # Without its conditions, so that the libraries of other systems are audited too.
            every = Path(folder, lock.name)
            every.write_text(re.sub(r" ; [^\\\n]+", "", lock.read_text(encoding="utf-8")), encoding="utf-8")
            command += ["--requirement", str(every)]
        code = subprocess.run(command, check=False, env=os.environ | {"NO_PROXY": "127.0.0.1"}).returncode
    said = f"pip-audit --strict, {database.count:,} records of OSV, the newest of {database.newest or 'an unknown day'}"
    return (0, f"no known vulnerability: {said}") if code == 0 else (1, f"failed: {said}")


def main() -> int:
    """Audit all locks, and print one line at the end."""
    tool = Path(sys.executable).with_name("pip-audit")
    code, line = audit(os.environ.get("OSV_COPY", ""), tool, sorted((ROOT / "requirements").glob("*.txt")))
    print(f"audit: {line}")
    return code


if __name__ == "__main__":
    sys.exit(main())
