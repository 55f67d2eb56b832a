# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Write the table of guarantee P16 for a simulated fleet: each figure, as every outlet gives it.

`python -m tests.bench one_figure [--hosts 60] [--seed 16] [-o one_table.txt]`
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from tests.promises.support.outlets import told
from tests.promises.test_p16_one_figure import check_fleet


def main() -> None:
    """Simulate a fleet, read every outlet, write the table and print how many figures differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=60)
    parser.add_argument("--seed", type=int, default=16)
    parser.add_argument("-o", "--output", type=Path, default=Path("one_table.txt"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            print(told([check_fleet(Path(folder), options.hosts, options.seed, every_format=True)]))
        finally:
            shutil.copy(Path(folder) / "one_table.txt", options.output)
    print(f"the table is in {options.output}")
