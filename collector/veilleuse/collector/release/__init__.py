# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Publishes the months of workstations and classroom PCs, from which every reader's answer is summed."""
