# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Holds the promises of the product, each with its figure, and the results of their tests.

A test that proves one carries `@pytest.mark.promise("R5")` and reports its result with the fixture `figure`:

    @pytest.mark.promise("R5")
    def test_io_errors_lose_nothing(figure):
        ...
        figure(f"{lost} of {sent:,} acknowledged records lost")  # before the assertion
        assert lost == 0

Several tests may prove one promise: it holds when all of them pass. `make test` runs the quick ones.
`make test-long` runs all of them, prints one line per promise and keeps the results in
tests/promises/results.json, from which docs/promises.md is generated.
"""
