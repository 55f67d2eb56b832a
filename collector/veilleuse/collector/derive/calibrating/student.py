# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Student's t for calibration: the fleet's estimator needs it too, so it is in `veilleuse.collector.quantiles`."""

from __future__ import annotations

from veilleuse.collector.quantiles import NORMAL_FROM, Z95, quantile95, tail

__all__ = ["NORMAL_FROM", "Z95", "quantile95", "tail"]
