"""The app's pages under a strict Content-Security-Policy, in Chromium, which reports every violation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import django
import pytest
from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.urls import path, reverse
from pytest_django import Settings

from partium_auth.models import EmailDomain, IdentityProvider, Membership, Organization, Role
from partium_auth.services import keys
from partium_auth.testing.sandbox import PartiumSandbox
from tests.admin.test_browser import (  # noqa: F401  # fixtures
    KEY,
    chromium,
    log_in,
    new_page,
    provider,
    site,
)
from tests.admin.urls import urlpatterns as admin_urls
from tests.docs.test_guides import example

pytestmark = [pytest.mark.browser, pytest.mark.processes, pytest.mark.django_db(transaction=True)]

SDK = "const say = () => document.body.append('SDK started'); window.Partium = { initApiKey: say, init: say };"
PAGE = """{% load partium %}<!doctype html><title>Parts</title>{% partium_find_sdk %}
<form method="post" action="{% url "partium_auth:logout" %}">{% csrf_token %}<button>Log out</button></form>"""


def parts(request: HttpRequest) -> HttpResponse:
    return HttpResponse(engines["django"].from_string(PAGE).render({}, request))


def sdk(request: HttpRequest) -> HttpResponse:
    return HttpResponse(SDK, content_type="text/javascript")


urlpatterns = [*admin_urls, path("parts/", parts), path("sdk.js", sdk)]


@pytest.fixture(
    params=[
        pytest.param(
            "SECURE_CSP", marks=pytest.mark.xfail(django.VERSION < (6, 0), reason="needs Django 6.0", run=False)
        ),
        "CONTENT_SECURITY_POLICY",
    ]
)
def policy(request: pytest.FixtureRequest, settings: Settings) -> str:
    """A site with one of the two policies of docs/guides/csp.md."""
    settings.PARTIUM_FIND_SDK_URL = "/sdk.js"
    guide = example("guides/csp.md", f"{request.param} =", MIDDLEWARE=[*settings.MIDDLEWARE])
    settings.MIDDLEWARE = guide.MIDDLEWARE
    setattr(settings, request.param, getattr(guide, request.param))
    request.getfixturevalue("site")  # only now: a server reads MIDDLEWARE when it starts
    settings.ROOT_URLCONF = __name__
    return str(request.param)


policies: list[str] = []


def watched(page: Any) -> list[str]:
    """Return the list to which Chromium's reports about the page's policy are added."""
    violations: list[str] = []
    policies.clear()
    page.on("response", lambda response: policies.append(response.headers.get("content-security-policy", "")))
    page.expose_function("reportViolation", lambda text: violations.append(text))
    page.add_init_script(
        "document.addEventListener('securitypolicyviolation', "
        "(event) => reportViolation(`${event.violatedDirective} ${event.blockedURI} on ${location.pathname}`))"
    )
    page.on(
        "console",
        lambda message: violations.append(message.text) if "Content Security Policy" in message.text else None,
    )
    return violations


def test_login_sdk_and_logout_work_and_nothing_is_reported(
    policy: str,
    site: str,  # noqa: F811
    provider: None,  # noqa: F811
    new_page: Callable[..., Any],  # noqa: F811
    partium_sandbox: PartiumSandbox,
) -> None:
    acme = Organization.objects.create(org_id="acme", token_source="api_key")
    keys.add_key(acme, partium_sandbox.add_key("acme"), label="a", actor=None)
    page = new_page()
    violations = watched(page)
    page.goto(f"{site}{reverse('partium_auth:login')}?next=/parts/")
    log_in(page, "max")
    page.wait_for_url(site + "/parts/")
    page.get_by_text("SDK started").wait_for()
    page.click("text=Log out")
    page.wait_for_url(lambda url: not url.startswith((site + "/parts/", site + "/partium/logout/")))  # at the provider
    assert violations == []
    assert any("'strict-dynamic'" in policy for policy in policies)


def test_the_form_for_the_e_mail_address_leads_to_the_provider(
    policy: str,
    site: str,  # noqa: F811
    provider: None,  # noqa: F811
    settings: Settings,
    new_page: Callable[..., Any],  # noqa: F811
) -> None:
    row = IdentityProvider.objects.create(
        slug="acme",
        display_name="Acme",
        issuer=settings.OIDC_OP_DISCOVERY_ENDPOINT.partition("/.well-known")[0],
        client_id=settings.OIDC_RP_CLIENT_ID,
    )
    EmailDomain.objects.create(provider=row, domain="acme.example")
    page = new_page()
    violations = watched(page)
    page.goto(site + reverse("partium_auth:login"))
    page.fill("#partium-email", "max@acme.example")
    page.click("text=Continue")
    page.wait_for_url(row.issuer + "/**")
    assert violations == []
    assert any("'strict-dynamic'" in policy for policy in policies)


@pytest.mark.xfail(django.VERSION < (6, 1), reason="Django's admin has nonces since 6.1", run=False)
def test_the_key_admin_works_and_nothing_is_reported(
    policy: str,
    site: str,  # noqa: F811
    provider: None,  # noqa: F811
    new_page: Callable[..., Any],  # noqa: F811
    partium_sandbox: PartiumSandbox,
) -> None:
    acme = Organization.objects.create(org_id="acme", token_source="api_key")
    page = new_page()
    violations = watched(page)
    page.goto(site + reverse("partium_keys:index"))
    log_in(page, "ada")
    page.wait_for_url(site + reverse(KEY + "changelist"))
    ada = get_user_model().objects.get()
    assert Membership.objects.get(user=ada, organization=acme).role == Role.DEVELOPER
    page.goto(site + reverse(KEY + "add"))
    page.fill("#id_label", "Web shop")
    page.fill("#id_value", partium_sandbox.add_key("acme"))
    page.locator(".datetimeshortcuts >> text=Today").first.click()  # Django's own script
    page.fill("#id_expires_at_0", "")
    page.fill("#id_expires_at_1", "")
    page.click("text=Test and add")
    page.wait_for_selector("text=The key was added. Partium accepted it.")
    page.wait_for_selector("text=Copy >> visible=true")  # our own script
    page.click("text=Rotate …")
    page.goto(site + reverse(KEY + "changelist"))
    page.goto(site + reverse("partium_keys:partium_auth_auditevent_changelist"))
    page.locator("#logout-form button").click()
    page.wait_for_url(lambda url: not url.startswith((site + "/keys/", site + "/partium/logout/")))
    assert violations == []
    assert any("'strict-dynamic'" in policy for policy in policies)
