# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Serves /metrics, the pages and /api in a process of its own, on read-only connections.

The receiving process, which acknowledges agents' records, stays apart from it.
"""
