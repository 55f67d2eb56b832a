# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Summarises reports for people: a few figures, sentences that are true of them, and short tables."""
