# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Estimates the fleet's energy from released months alone. docs/methodology.md §6."""
