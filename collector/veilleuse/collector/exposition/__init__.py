# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What Prometheus sees: every metric once (catalogue), its text (prometheus), and what is withheld (privacy)."""
