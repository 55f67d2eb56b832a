# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The web process: /metrics and the pages, on read-only connections, apart from the process that acknowledges."""
