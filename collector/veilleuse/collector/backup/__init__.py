# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Backups: one file with everything a collector is, sealed or not, and the way back. Decision 0016."""
