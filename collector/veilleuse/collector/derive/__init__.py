# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Counters, states and utilisation → wall energy with method and uncertainty. docs/methodology.md §1."""
