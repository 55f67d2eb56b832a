# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Aggregates the days of each machine into months and years, before its days are deleted.
docs/methodology.md §4 and §6; docs/decisions/0031.
"""
