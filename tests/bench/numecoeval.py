# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Check a data directory's file for NumEcoEval row by row, and its energy against the report.

`python -m tests.bench numecoeval --config c.toml --year 2026`. It prints the rows, what G4IT would refuse of
them by its rules (tests/support/numecoeval.py), and the difference in millijoules.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from decimal import Decimal
from pathlib import Path

from tests.support.numecoeval import equipment, faults, total_millijoules
from veilleuse.collector.cli.main import run


def main() -> int:
    """Print the figures; return 1 when a row is refused or the energies differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True)
    parser.add_argument("--year", type=int, required=True)
    asked = parser.parse_args()
    period = ("--from", f"{asked.year}-01-01", "--to", f"{asked.year + 1}-01-01", "--config", asked.config)
    with tempfile.TemporaryDirectory() as folder:
        file, told = Path(folder) / "e.csv", Path(folder) / "e.json"
        for words in (("numecoeval", "-o", str(file)), ("emissions", "--format", "json", "-o", str(told))):
            if code := run(["report", words[0], *period, *words[1:]]):
                return code
        content, report = file.read_bytes(), json.loads(told.read_text())
    rows, wrong = equipment(content), faults(content)
    difference = total_millijoules(rows) - sum(row["energy_millijoules"] for row in report["totals"])
    machines = sum(Decimal(row["quantite"]) for row in rows)
    print(*wrong, sep="\n", end="\n" if wrong else "")
    print(
        f"{len(rows)} rows of {machines:,.1f} items, {len(wrong)} refused; "
        f"{sum(row['kwh_total'] for row in report['totals']):,.3f} kWh, difference {difference} mJ"
    )
    return int(bool(wrong or difference))
