# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The door: TLS and HTTP/2 of :8642, which anybody may call, in a process of its own. docs/decisions/0022.

gRPC serves all ports of a process from the same threads: strangers who flood the open port with frames would hold up agents
on the other one. This process holds the collector's own key and certificate, no database and no authority; each call goes on
to the collector over `<data_dir>/door.sock`, to veilleuse.collector.app.gateway.backend.
"""
