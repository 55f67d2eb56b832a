# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reference meter × counters → a wall line and its covariance per hardware model (pure). docs/calibration.md.

Samples are folded into moments per unit and ten minutes, each unit gets its own line, the model's line is their mean, and
the fit is kept only when it predicts machines, or days, that it has not seen better than the prior does. Floating point
inside; whole microwatts and parts per million at the edge.
"""
