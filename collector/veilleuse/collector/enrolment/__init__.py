# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Access of agents: certificate authority, tokens, enrolment, renewal, authorisation. docs/wire.md §6."""
