# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Derives wall energy, with method and uncertainty, from counters, states and utilisation.
docs/methodology.md §1.
"""
