# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Exposes metrics to Prometheus: the list of all metrics (catalogue), and their samples (prometheus)."""
