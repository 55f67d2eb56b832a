# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Renders `/metrics`: snapshots of the store as samples of the catalogue."""
