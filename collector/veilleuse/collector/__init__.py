# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The collector: stores, then interprets. receiver → writer → store → derive → account → outlets."""
