# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds, signs, revises and verifies closed years. METHOD.md §7, DESIGN.md §6; docs/closing.md."""
