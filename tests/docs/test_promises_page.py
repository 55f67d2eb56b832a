# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""docs/promises.md never says more of a promise than its tests showed, and when."""

from __future__ import annotations

import pytest

from tests.promises.results import STALE_COMMITS, Count, Result, counted, document, row
from tests.promises.table import BY_NAME, PROMISES


def outcome(results: list[Result], exist: int, since: dict[str, int | None]) -> list[str]:
    """Return result, tests, oldest commit and its age as the page's row of R4 has them."""
    text = row(BY_NAME["R4"], results, Count("d00d", {"R4": exist}, {"R4": since}))
    assert text.count("\n") == 1
    return [cell.strip() for cell in text.split("|")[4:8]]


def at(commit: str, *, passed: bool = True) -> Result:
    """Return a result of a commit."""
    return Result(passed=passed, measured=f"2026-12-02 at {commit}+, 2 cores")


@pytest.mark.parametrize(
    ("results", "exist", "since", "expected"),
    [
        ([at("a1")] * 12, 12, {"a1": 3}, ["pass", "12 of 12", "a1", "3"]),
        ([at("a1")], 12, {"a1": 3}, ["in part", "1 of 12", "a1", "3"]),
        ([at("a1"), at("b2")], 2, {"a1": STALE_COMMITS, "b2": 0}, ["stale", "2 of 2", "a1", "300"]),
        ([at("a1"), at("b2")], 2, {"a1": STALE_COMMITS - 1, "b2": 0}, ["pass", "2 of 2", "a1", "299"]),
        ([at("a1")], 2, {"a1": 900}, ["in part, stale", "1 of 2", "a1", "900"]),
        ([at("a1"), at("b2")], 2, {"a1": None, "b2": 500}, ["stale", "2 of 2", "a1", "unknown"]),
        ([at("a1"), at("b2", passed=False)], 2, {"a1": 0, "b2": 0}, ["fail", "2 of 2", "a1", "0"]),
        ([], 2, {}, ["not run: no test has run yet", "0 of 2", "", ""]),
    ],
)
def test_a_row_says_how_much_was_run_and_when(
    results: list[Result], exist: int, since: dict[str, int | None], expected: list[str]
) -> None:
    """It passes only where all tests that exist ran, on code that has hardly changed since."""
    assert outcome(results, exist, since) == expected


def test_each_promise_has_tests_or_says_why_not() -> None:
    """No row names a promise whose tests are gone; each has one line; the page says where it was counted."""
    tests, page = counted().tests, document()
    assert [one.name for one in PROMISES if bool(tests.get(one.name)) is bool(one.not_run)] == []
    assert [one.name for one in PROMISES if page.count(f"\n| {one.name} |") != 1] == []
    assert f"as counted at {counted().commit}." in page
