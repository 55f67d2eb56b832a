# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Fits a wall line and its covariance per hardware model, from a reference meter and counters (pure).
docs/calibration.md.

Samples are summed into moments per unit and ten minutes. Each unit gets its own line, and the model's line is
their mean. The fit is used only when it predicts unseen machines or days better than the prior. The
calculation is in floating point; inputs and outputs are whole microwatts and parts per million.
"""
