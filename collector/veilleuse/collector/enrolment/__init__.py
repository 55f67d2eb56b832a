# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Who may talk to us: certificate authority, tokens, enrolment, renewal, authorisation. docs/wire.md §6."""
