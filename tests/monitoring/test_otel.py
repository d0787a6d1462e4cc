"""Spans, with OpenTelemetry's own SDK: names and attributes follow its semantic conventions for HTTP client spans."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from django.apps import AppConfig
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, get_tracer
from pytest_django import Settings

import partium_auth
from partium_auth.contrib import otel
from partium_auth.exceptions import PartiumError
from partium_auth.models import Grant
from partium_auth.partium.client import FindClient
from partium_auth.testing.sandbox import PartiumSandbox

pytestmark = pytest.mark.django_db(transaction=True)


class Spans:
    """What a site's exporter got."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def named(self, name: str) -> ReadableSpan:
        (span,) = [span for span in self.exporter.get_finished_spans() if span.name == name]
        return span


@pytest.fixture
def spans() -> Iterator[Spans]:
    spans = Spans()
    otel.instrument(spans.provider)
    yield spans
    otel.uninstrument()


@pytest.fixture
def acme_client(key_grant: Callable[[], Grant], settings: Settings) -> FindClient:
    settings.PARTIUM_EXECUTOR = "inline"
    key_grant()
    return partium_auth.for_organization("acme")


def test_a_search_is_a_client_span_by_the_conventions(
    spans: Spans, acme_client: FindClient, partium_sandbox: PartiumSandbox
) -> None:
    acme_client.search(text="fan")
    span, server = spans.named("POST /1/find/search"), urlsplit(partium_sandbox.url)
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "server.address": server.hostname,
        "server.port": server.port,
        "url.full": f"{partium_sandbox.url}/1/find/search",
        "url.path": "/1/find/search",
        "url.template": "/1/find/search",
        "partium_auth.endpoint": "search",
        "partium_auth.organization": "acme",
    }
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "partium_auth"


def test_a_span_lasts_as_long_as_its_call(
    spans: Spans, acme_client: FindClient, partium_sandbox: PartiumSandbox
) -> None:
    with partium_sandbox.delay("search", 0.3):
        acme_client.search(text="fan")
    span = spans.named("POST /1/find/search")
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.end_time - span.start_time >= 0.3e9


def test_a_call_is_a_child_of_the_request_it_was_made_for(spans: Spans, acme_client: FindClient) -> None:
    with get_tracer("site", tracer_provider=spans.provider).start_as_current_span("GET /search"):
        acme_client.search(text="fan")
    parent, child = spans.named("GET /search"), spans.named("POST /1/find/search")
    assert child.parent is not None
    assert parent.context is not None
    assert child.parent.span_id == parent.context.span_id


@pytest.mark.parametrize(("fault", "error_type"), [("fail", "503"), ("drop", "ConnectionFailed")])
def test_a_call_that_fails_is_an_error(
    spans: Spans, acme_client: FindClient, partium_sandbox: PartiumSandbox, fault: str, error_type: str
) -> None:
    with getattr(partium_sandbox, fault)("auth"), pytest.raises(PartiumError):
        acme_client.search(text="fan")
    span = spans.named("POST /1/auth")
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == error_type
    assert ("http.response.status_code" in span.attributes) == (fault == "fail")


def test_paths_of_the_site_do_not_get_into_names(spans: Spans, acme_client: FindClient) -> None:
    with pytest.raises(PartiumError):
        acme_client.request("GET", "/1/parts/4711?q=SECRET", params={"p": "SECRET"}, headers={"X-Test": "SECRET"})
    with pytest.raises(PartiumError):
        acme_client.request("POST", "/1/coffee", json={"body": "SECRET"})
    assert spans.named("GET").attributes is not None
    assert spans.named("POST").attributes is not None
    assert "SECRET" not in "".join(span.to_json() for span in spans.exporter.get_finished_spans())


def test_instrumenting_twice_makes_no_second_span_and_uninstrumenting_none(
    spans: Spans, acme_client: FindClient
) -> None:
    otel.instrument(spans.provider)
    acme_client.search(text="fan")
    assert spans.named("POST /1/find/search")
    otel.uninstrument()
    acme_client.search(text="fan")
    assert spans.named("POST /1/find/search")


@pytest.mark.parametrize(
    ("path", "module"),
    [
        ("partium_auth.contrib.otel.OpenTelemetryConfig", "opentelemetry"),
        ("partium_auth.contrib.prometheus.PrometheusConfig", "prometheus_client"),
    ],
)
def test_an_app_config_switches_it_on_and_nothing_loads_it_without_one(path: str, module: str) -> None:
    assert AppConfig.create(path).name == path.rpartition(".")[0]
    code = f"""
import sys
import django
from tests import settings
on = sys.argv[1] == "on"
settings.INSTALLED_APPS += [{path!r}] if on else []
django.setup()
import partium_auth.urls
assert any(name.split(".")[0] == {module!r} for name in sys.modules) == on
"""
    for state in ("on", "off"):
        subprocess.run([sys.executable, "-c", code, state], check=True, timeout=60)
