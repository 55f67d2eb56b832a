# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Detects what the machine is: class, parts and power plan.

One file per operating system, beside the shared code.
"""
