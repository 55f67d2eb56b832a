# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Calls that waited for a worker until nobody waited for them any more are not begun. PROMISES.md §2.3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc


class DropLate(grpc.ServerInterceptor):
    """Around the unary calls of a server whose own service does not look at the clock."""

    def __init__(self, on_drop: Callable[[], None]) -> None:
        """`on_drop` counts them."""
        self._on_drop = on_drop

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Any],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler, behind a look at the deadline."""
        handler = continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler

        def in_time(request: Any, context: Any) -> Any:
            left: float | None = context.time_remaining()
            if left is not None and left <= 0:
                self._on_drop()
                context.abort(
                    grpc.StatusCode.DEADLINE_EXCEEDED, "the collector was too slow: come back later"
                )
            return handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            in_time, handler.request_deserializer, handler.response_serializer
        )
