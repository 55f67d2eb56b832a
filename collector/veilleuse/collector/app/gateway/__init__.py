# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The gateway: TLS and HTTP/2 of the open port :8642, in its own process. docs/decisions/0022.

gRPC serves all ports of a process from the same threads. Strangers who flood the open port would delay agents
on the other. This process holds the collector's own key and certificate, but no database and no authority.
Each call goes to the collector over `<data_dir>/door.sock`, to veilleuse.collector.app.gateway.backend.
"""
