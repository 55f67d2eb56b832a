# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Backups: one file with all data of a collector, sealed or not, and the restore. Decision 0016."""
