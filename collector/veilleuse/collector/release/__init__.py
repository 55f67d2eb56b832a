# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Publishes the months of workstations and classroom PCs, and estimates the fleet from them.

Every reader's answer is summed from these months. docs/methodology.md §6, *Released months*.
"""
