# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Estimates the fleet's energy, with its interval, from the machines that were measured (pure)."""
