# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What the machine is: its class, parts and power plan, one file per operating system beside what they share."""
