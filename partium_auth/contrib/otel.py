"""Spans for OpenTelemetry: one for every call to Partium and to an identity provider.

Needs ``partium-auth[otel]``. Off until the site calls :func:`instrument`, or has
``"partium_auth.contrib.otel.OpenTelemetryConfig"`` in ``INSTALLED_APPS``. Names and attributes follow OpenTelemetry's semantic
conventions for HTTP client spans. No query, header or body is in a span.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, TracerProvider, get_tracer

from partium_auth.signals import upstream_called
from partium_auth.version import __version__

_VARYING_PATHS = frozenset({"page", "request"})
"""The endpoints whose path differs from call to call; it must not get into the name of a span."""
_PORTS = {"https": 443, "http": 80}
_DISPATCH_UID = "partium_auth.contrib.otel"


class OpenTelemetryConfig(AppConfig):
    """Calls :func:`instrument` when Django starts."""

    name = "partium_auth.contrib.otel"
    label = "partium_auth_otel"

    def ready(self) -> None:
        """Switch the spans on, with the site's tracer provider."""
        instrument()


def instrument(tracer_provider: TracerProvider | None = None) -> None:
    """Make a span of every call from now on.

    Args:
        tracer_provider: whose spans they are; None: OpenTelemetry's global one.
    """
    tracer = get_tracer("partium_auth", __version__, tracer_provider)

    def called(**call: Any) -> None:
        _make_span(tracer, **call)

    uninstrument()
    upstream_called.connect(called, weak=False, dispatch_uid=_DISPATCH_UID)


def uninstrument() -> None:
    """Make no more spans."""
    upstream_called.disconnect(dispatch_uid=_DISPATCH_UID)


def _make_span(
    tracer: Tracer,
    *,
    endpoint: str,
    method: str,
    url: str,
    status: int | None,
    error: str,
    seconds: float,
    organization: str,
    **_: Any,
) -> None:
    """Make the span of a call that has just ended, as a child of the current span."""
    ended_ns = time.time_ns()
    parts = urlsplit(url)
    attributes: dict[str, str | int] = {
        "http.request.method": method,
        "server.address": parts.hostname or "",
        "server.port": parts.port or _PORTS[parts.scheme],
        "url.full": url,
        "url.path": parts.path,
        "partium_auth.endpoint": endpoint,
    }
    name = method
    if endpoint not in _VARYING_PATHS:
        name = f"{method} {parts.path}"
        attributes["url.template"] = parts.path
    if organization:
        attributes["partium_auth.organization"] = organization
    if status is not None:
        attributes["http.response.status_code"] = status
    failure = error or (str(status) if status is not None and status >= 400 else "")
    if failure:
        attributes["error.type"] = failure
    span = tracer.start_span(
        name, kind=SpanKind.CLIENT, attributes=attributes, start_time=ended_ns - int(seconds * 1e9)
    )
    if failure:
        span.set_status(Status(StatusCode.ERROR))
    span.end(ended_ns)
