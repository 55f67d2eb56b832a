# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds, signs, revises and verifies closed years. docs/methodology.md §11; docs/closing.md."""
