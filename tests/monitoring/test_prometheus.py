"""Metrics, with Prometheus's own client and a registry of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from django.test import Client
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

import partium_auth
from partium_auth.contrib import prometheus
from partium_auth.exceptions import LoginRequired, TokenUnavailable
from partium_auth.models import Grant
from partium_auth.testing.sandbox import PartiumSandbox
from partium_auth.tokens.manager import TokenManager
from tests.oidc.conftest import Browser
from tests.oidc.provider import BendableProvider
from tests.tokens.conftest import age, let_time_pass

pytestmark = pytest.mark.django_db(transaction=True)
MakeGrant = Callable[[], Grant]


@pytest.fixture
def registry() -> Iterator[CollectorRegistry]:
    registry = CollectorRegistry()
    prometheus.instrument(registry)
    yield registry
    prometheus.uninstrument()


def test_a_call_is_counted_by_endpoint_and_status(
    registry: CollectorRegistry, key_grant: MakeGrant, partium_sandbox: PartiumSandbox, settings: Settings
) -> None:
    settings.PARTIUM_EXECUTOR = "inline"
    key_grant()
    partium_auth.for_organization("acme").search(text="fan")
    name = "partium_auth_upstream_request_duration_seconds"
    labels = {"endpoint": "search", "status": "200"}
    assert registry.get_sample_value(f"{name}_count", labels) == 1
    assert 0 < (registry.get_sample_value(f"{name}_sum", labels) or 0) < 60
    assert registry.get_sample_value(f"{name}_bucket", labels | {"le": "+Inf"}) == 1


def test_a_call_without_a_response_has_the_status_none(
    registry: CollectorRegistry,
    token_manager: TokenManager,
    password_grant: MakeGrant,
    partium_sandbox: PartiumSandbox,
) -> None:
    grant = password_grant()
    with partium_sandbox.drop("refresh"), pytest.raises(TokenUnavailable):
        token_manager.obtain(age(grant, 5))
    labels = {"endpoint": "refresh", "status": "none"}
    assert registry.get_sample_value("partium_auth_upstream_request_duration_seconds_count", labels) == 1


def test_refreshes_are_counted_by_outcome(
    registry: CollectorRegistry,
    token_manager: TokenManager,
    password_grant: MakeGrant,
    partium_sandbox: PartiumSandbox,
) -> None:
    def count(outcome: str) -> float | None:
        labels = {"upstream": "partium", "outcome": outcome}
        return registry.get_sample_value("partium_auth_token_refreshes_total", labels)

    before = time.time()
    token_manager.obtain(age(password_grant(), 5))
    assert (count("success"), count("failure"), count("rejected")) == (1, None, None)
    last = registry.get_sample_value("partium_auth_last_token_refresh_timestamp_seconds", {"upstream": "partium"})
    assert last is not None
    assert before <= last <= time.time()

    failing, rejected = password_grant(), password_grant()
    with partium_sandbox.fail("refresh", status=503), pytest.raises(TokenUnavailable):
        token_manager.obtain(age(failing, 5))
    let_time_pass()
    token_manager.forget()
    partium_sandbox.remove_user("ann")
    with pytest.raises(LoginRequired):
        token_manager.obtain(age(rejected, 5))
    assert (count("success"), count("failure"), count("rejected")) == (1, 1, 1)


def test_refused_logins_are_counted_by_provider_and_check(registry: CollectorRegistry, browser: Browser) -> None:
    browser.log_in(claims={"nonce": "another"})
    labels = {"provider": "default", "check": "nonce"}
    assert registry.get_sample_value("partium_auth_logins_refused_total", labels) == 1


def test_visitors_cannot_make_series(registry: CollectorRegistry, client: Client, op: BendableProvider) -> None:
    for number in range(20):
        client.get(f"/partium/login/made-up-{number}/")
        client.get(f"/partium/callback/made-up-{number}/?state={number}&code={number}&error=e{number}")
    names = {
        (sample.labels["provider"], sample.labels["check"])
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
        if sample.name == "partium_auth_logins_refused_total"
    }
    assert names == {("", "provider"), ("", "state")}


def test_what_is_no_longer_instrumented_is_gone(registry: CollectorRegistry) -> None:
    prometheus.uninstrument()
    prometheus.uninstrument()
    assert generate_latest(registry) == b""
    prometheus.instrument(registry)
    prometheus.instrument(registry)
    assert b"partium_auth_logins_refused_total" in generate_latest(registry)
