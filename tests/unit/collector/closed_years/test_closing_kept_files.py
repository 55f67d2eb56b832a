# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Years that earlier programs closed can still be read and verified. Their files are never regenerated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from veilleuse.collector.account.statement import METHOD_VERSION
from veilleuse.collector.closed_years.frozen import frozen_documents, read_closed, reproduces
from veilleuse.collector.closed_years.signatures import parse_public_key
from veilleuse.collector.closed_years.verify import verify_file
from veilleuse.collector.model.closed_years import file_parts, sha256

KEPT = Path(__file__).parents[3] / "fixtures" / "closed_year"
FILES = sorted(KEPT.glob("**/*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(KEPT)))
def test_a_year_closed_by_an_earlier_program_verifies(path: Path):
    """Signature and statistics hold. The figures are computed again only where the method version is the
    same."""
    verdict = verify_file(path, parse_public_key((path.parent / "key.pem").read_text()))
    assert verdict.wrong == []
    assert verdict.closed is not None
    made_by = verdict.closed.report["method_version"]
    computed_again = not [note for note in verdict.notes if "were not computed again" in note]
    assert computed_again is (made_by == METHOD_VERSION)


def test_there_are_such_files():
    """The fixtures are two revisions of one year, and a year with a server room and merged cells."""
    names = [str(path.relative_to(KEPT)) for path in FILES]
    assert names == ["2025-r1.json", "2025-r2.json", "rooms/2025-r1.json"]


def test_columns_that_came_since_are_no_difference():
    """A column that the closing lacks cannot contradict it; a missing column or another value does."""
    content = FILES[0].read_bytes()
    closed = read_closed(*file_parts(content), sha256(content))
    figures = closed.report["figures"]
    again = json.loads(json.dumps(figures))
    again["rows"][0]["a_column_of_later"] = 1
    assert reproduces(again, figures)
    assert not reproduces(figures, again)
    again["rows"][0]["n"] += 1
    assert not reproduces(again, figures)
    assert frozen_documents(closed.kept, closed.terms)["rows"]
