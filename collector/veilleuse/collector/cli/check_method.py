# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse check-method`: computes the method's worked answers with this version.

It needs no data directory.
"""

from __future__ import annotations

from dataclasses import asdict

import typer

from veilleuse.collector.account.statement import METHOD_VERSION
from veilleuse.collector.cli.shared import APP, JsonOption, print_note, print_result
from veilleuse.collector.reports.worked_examples import WorkedExample, check_examples

app = typer.Typer(**APP)


@app.command("check-method")
def check_method(as_json: JsonOption = False) -> None:
    """Compute every worked answer of the method. Prints expected and got; exit code 1 when one differs."""
    found = list(check_examples())
    wrong = sum(not one.ok for one in found)
    answers = [asdict(one) for one in found]
    facts = {"method_version": METHOD_VERSION, "differences": wrong, "answers": answers}
    print_result(facts, [_row(one) for one in found], as_json, empty="no worked answer")
    if not as_json:
        print_note(f"method {METHOD_VERSION}: {len(found)} answers, {wrong} differ")
    if wrong:
        raise typer.Exit(1)


def _row(one: WorkedExample) -> dict[str, str]:
    return {
        "answer": one.what,
        "§": one.section,
        "inputs": one.inputs,
        "expected": one.expected,
        "got": f"{one.got:.17g}" if "." in one.expected and len(one.expected) > 12 else f"{one.got:.10g}",
        "unit": one.unit,
        "": "ok" if one.ok else "differs",
    }
