"""Metrics for Prometheus, with its Python client.

Needs ``partium-auth[prometheus]``. Off until the site calls :func:`instrument`, or has
``"partium_auth.contrib.prometheus.PrometheusConfig"`` in ``INSTALLED_APPS``. The site exposes them itself, for example with
``prometheus_client.make_wsgi_app()`` or django-prometheus.

====================================================================  ========================================================
``partium_auth_upstream_request_duration_seconds{endpoint,status}``   histogram; ``status`` is ``none`` without a response
``partium_auth_token_refreshes_total{upstream,outcome}``              counter; ``success``, ``failure`` or ``rejected``
``partium_auth_logins_refused_total{provider,check}``                 counter
``partium_auth_last_token_refresh_timestamp_seconds{upstream}``       gauge; the last success, in seconds since the epoch
====================================================================  ========================================================
"""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from partium_auth.signals import login_refused, token_refresh_failed, token_refreshed, upstream_called

_DISPATCH_UID = "partium_auth.contrib.prometheus"
_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 5.0, 8.0)
"""Upper bounds of the histogram. A token request is aborted after 8 s."""


class PrometheusConfig(AppConfig):
    """Calls :func:`instrument` when Django starts."""

    name = "partium_auth.contrib.prometheus"
    label = "partium_auth_prometheus"

    def ready(self) -> None:
        """Switch the metrics on, in prometheus_client's own registry."""
        instrument()


class _Metrics:
    """The metrics of one registry, and the receivers that feed them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.durations = Histogram(
            "partium_auth_upstream_request_duration_seconds",
            "Duration of calls to Partium and to identity providers.",
            ["endpoint", "status"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.refreshes = Counter(
            "partium_auth_token_refreshes",
            "Refreshes of access tokens by their outcome.",
            ["upstream", "outcome"],
            registry=registry,
        )
        self.refused = Counter(
            "partium_auth_logins_refused",
            "Logins that were refused, by the check that failed.",
            ["provider", "check"],
            registry=registry,
        )
        self.last_refresh = Gauge(
            "partium_auth_last_token_refresh_timestamp_seconds",
            "When an access token was last refreshed.",
            ["upstream"],
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self.receivers = (
            (upstream_called, self.on_called),
            (token_refreshed, self.on_refreshed),
            (token_refresh_failed, self.on_failed),
            (login_refused, self.on_refused),
        )

    def on_called(self, *, endpoint: str, status: int | None, seconds: float, **_: Any) -> None:
        self.durations.labels(endpoint, "none" if status is None else status).observe(seconds)

    def on_refreshed(self, *, upstream: str, **_: Any) -> None:
        self.refreshes.labels(upstream, "success").inc()
        self.last_refresh.labels(upstream).set_to_current_time()

    def on_failed(self, *, upstream: str, rejected: bool, **_: Any) -> None:
        self.refreshes.labels(upstream, "rejected" if rejected else "failure").inc()

    def on_refused(self, *, provider: str, check: str, **_: Any) -> None:
        self.refused.labels(provider, check).inc()


_instrumented: list[_Metrics] = []


def instrument(registry: CollectorRegistry = REGISTRY) -> None:
    """Register the metrics and count from now on; a second call moves them to its registry."""
    uninstrument()
    metrics = _Metrics(registry)
    for signal, receiver in metrics.receivers:
        signal.connect(receiver, weak=False, dispatch_uid=_DISPATCH_UID)
    _instrumented.append(metrics)


def uninstrument() -> None:
    """Count no more, and take the metrics out of the registry."""
    while _instrumented:
        metrics = _instrumented.pop()
        for signal, _receiver in metrics.receivers:
            signal.disconnect(dispatch_uid=_DISPATCH_UID)
        for metric in (metrics.durations, metrics.refreshes, metrics.refused, metrics.last_refresh):
            metrics.registry.unregister(metric)
