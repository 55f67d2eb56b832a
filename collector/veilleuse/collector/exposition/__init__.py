# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What Prometheus sees: every metric once (catalogue), and samples as it reads them (prometheus)."""
