"""What ``partium_doctor`` finds, over real HTTP to the sandbox and to a provider whose answers a test can change."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.contrib.auth.decorators import login_required
from django.core.management import CommandError, call_command
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import include, path
from django.utils import timezone
from django.views.generic import RedirectView
from pytest_django import Settings

from partium_auth.fields import seal
from partium_auth.management import doctor
from partium_auth.models import Grant, Organization, Outage
from partium_auth.sealed import encryption
from partium_auth.services import add_key, add_member, change_organization
from partium_auth.services.provider_check import Finding
from partium_auth.testing.sandbox import PartiumSandbox
from tests.oidc.conftest import add_provider, op, other_op, other_provider_server, provider_server  # noqa: F401
from tests.oidc.provider import BendableProvider

pytestmark = pytest.mark.django_db


def needs_a_cookie(request: HttpRequest) -> HttpResponse:
    response = HttpResponse("a login page") if request.COOKIES else HttpResponseRedirect(request.path)
    response.set_cookie("works", "yes")
    return response


urlpatterns = [
    path("partium/", include("partium_auth.urls")),
    path("back/", RedirectView.as_view(pattern_name="partium_auth:login")),
    path("back-with-query/", RedirectView.as_view(pattern_name="partium_auth:login", query_string=True)),
    path("only-for-people/", login_required(lambda request: HttpResponse("a page"))),
    path("page/", lambda request: HttpResponse("a login page")),
    path("moved/", RedirectView.as_view(url="/page/")),
    path("elsewhere/", RedirectView.as_view(url="https://login.example/moved/")),
    path("needs-a-cookie/", needs_a_cookie),
]


def examine(subject: str) -> list[Finding]:
    return [finding for finding in doctor.examine() if finding.subject == subject]


def levels(findings: list[Finding]) -> set[str]:
    return {finding.level for finding in findings}


def test_a_site_that_works_gets_exit_code_0(partium_sandbox: PartiumSandbox, op: BendableProvider) -> None:  # noqa: F811
    out = io.StringIO()
    call_command("partium_doctor", stdout=out)
    assert "error" not in out.getvalue()
    assert "PARTIUM_AUTH_PATH '/1/auth' is there" in out.getvalue()


def test_the_terminal_gets_english_whatever_the_sites_language(op: BendableProvider, settings: Settings) -> None:  # noqa: F811
    settings.LANGUAGE_CODE = "de"
    out = io.StringIO()
    with pytest.raises(CommandError):  # Partium is not there
        call_command("partium_doctor", stdout=out)
    assert "The issuer is" in out.getvalue()


def test_json_is_one_object_per_line(partium_sandbox: PartiumSandbox) -> None:
    out = io.StringIO()
    call_command("partium_doctor", "--json", stdout=out)
    assert {"level", "subject", "text", "advice"} == set(json.loads(out.getvalue().splitlines()[0]))


def test_a_wrong_path_is_an_error_that_names_the_right_one(partium_sandbox: PartiumSandbox, settings: Settings) -> None:
    settings.PARTIUM_AUTH_PATH = "/2/authenticate"
    (error,) = [finding for finding in examine("partium") if finding.level == "error"]
    assert error.advice == "Set PARTIUM_AUTH_PATH = '/1/auth'."
    with pytest.raises(CommandError) as caught:
        call_command("partium_doctor", stdout=io.StringIO())
    assert caught.value.returncode == 1


def test_no_credential_is_sent_to_find_that_out(partium_sandbox: PartiumSandbox) -> None:
    list(doctor.examine())
    assert {call.credential_kind for call in partium_sandbox.calls()} <= {"none", "unknown"}


def test_partium_that_is_down_is_an_error(settings: Settings) -> None:
    settings.PARTIUM_API_URL = "http://127.0.0.1:9"
    assert "error" in levels(examine("partium"))


def test_an_upstream_that_fails_is_a_warning_that_says_since_when(partium_sandbox: PartiumSandbox) -> None:
    assert examine("outages") == []
    now = timezone.now()
    Outage.objects.create(upstream="oidc:acme", since=now, failures=7, next_probe_at=now)
    (finding,) = examine("outages")
    assert finding.level == "warning"
    assert "oidc:acme has failed since" in finding.text
    assert "7 times" in finding.text


def test_a_site_without_organizations_is_told_where_to_add_one(partium_sandbox: PartiumSandbox) -> None:
    (finding,) = examine("organizations")
    assert (finding.level, finding.text) == ("warning", "There is no organization, so nobody can search.")
    assert "admin" in finding.advice


def test_a_site_without_providers_is_told_who_can_log_in(partium_sandbox: PartiumSandbox, settings: Settings) -> None:
    (finding,) = examine("providers")
    assert (finding.level, finding.text) == (
        "ok",
        "There is no identity provider: people log in with Partium user name and password.",
    )
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
    (finding,) = examine("providers")
    assert finding.level == "warning"
    assert "LOGIN_URL" in finding.text


@pytest.fixture
def without_a_login_of_ours(settings: Settings) -> Any:
    settings.ROOT_URLCONF = __name__
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
    return settings


@pytest.mark.parametrize("login_url", ["/back/", "/back-with-query/", "/only-for-people/"])
@pytest.mark.parametrize("hosts", [["*"], ["portal.example"], [".portal.example"]])
def test_login_pages_that_redirect_in_a_circle_are_an_error(
    partium_sandbox: PartiumSandbox, without_a_login_of_ours: Any, login_url: str, hosts: list[str]
) -> None:
    without_a_login_of_ours.LOGIN_URL = login_url
    without_a_login_of_ours.ALLOWED_HOSTS = hosts
    (finding,) = examine("login")
    assert finding.level == "error"
    assert login_url in finding.text
    assert "PartiumPasswordBackend" in finding.advice


@pytest.mark.parametrize(
    "login_url", ["/page/", "/moved/", "partium_auth:login", "https://login.example/", "/missing/"]
)
def test_a_login_page_without_a_circle_is_no_finding(
    partium_sandbox: PartiumSandbox, without_a_login_of_ours: Any, login_url: str
) -> None:
    without_a_login_of_ours.LOGIN_URL = login_url
    assert examine("login") == []


def test_a_way_to_log_in_ends_the_circle(partium_sandbox: PartiumSandbox, settings: Settings) -> None:
    settings.ROOT_URLCONF, settings.LOGIN_URL = __name__, "/back/"
    assert examine("login") == []


def test_a_login_url_that_names_no_url_is_an_error(partium_sandbox: PartiumSandbox, settings: Settings) -> None:
    settings.LOGIN_URL = "nonsense"
    (finding,) = examine("login")
    assert (finding.level, finding.advice) == ("error", "Correct LOGIN_URL or LOGIN_REDIRECT_URL.")


def test_whatever_is_not_ok_says_what_to_do(op: BendableProvider, settings: Settings) -> None:  # noqa: F811
    op.jwks = []
    op.metadata = {"end_session_endpoint": None, "revocation_endpoint": None, "scopes_supported": ["offline_access"]}
    settings.PARTIUM_API_URL, settings.LOGIN_URL = "http://127.0.0.1:9", "nonsense"
    settings.PARTIUM_ENCRYPTION_KEYS = []
    Organization.objects.create(org_id="keyless", token_source=Organization.TokenSource.API_KEY)
    bad = [finding for finding in doctor.examine() if finding.level != "ok"]
    named = {"encryption", "partium", "organizations", "login", "pages of the site", "provider default"}
    assert named == {f.subject for f in bad}
    assert [finding for finding in bad if not finding.advice] == []


def test_an_organization_without_a_key_is_a_warning_and_an_error_where_there_is_no_other(
    partium_sandbox: PartiumSandbox, django_user_model: Any
) -> None:
    open_one = Organization.objects.create(org_id="open")
    keyless = Organization.objects.create(org_id="keyless", token_source=Organization.TokenSource.API_KEY)
    ann = django_user_model.objects.create_user("ann")
    for organization in (open_one, keyless):
        add_member(organization, ann, actor=None)
    (finding,) = examine("organizations")
    assert (finding.level, finding.text) == ("warning", "No usable API key: keyless.")
    change_organization(open_one, actor=None, is_active=False)
    assert levels(examine("organizations")) == {"error"}


def test_encryption_keys_that_are_missing_old_or_open_nothing(
    partium_sandbox: PartiumSandbox, settings: Settings
) -> None:
    grant = Grant(kind=Grant.Kind.PASSWORD)
    grant.access_token = seal(grant, "access_token", "x")
    grant.save()
    new, unused = encryption.generate_key(), encryption.generate_key()
    settings.PARTIUM_ENCRYPTION_KEYS = [new, *settings.PARTIUM_ENCRYPTION_KEYS, unused]
    text = " ".join(finding.text for finding in examine("encryption"))
    assert "sealed with the older key 'test'" in text
    assert f"{unused.partition(':')[0]!r} opens nothing" in text

    settings.PARTIUM_ENCRYPTION_KEYS = [new]
    assert "error" in levels(examine("encryption"))


# --- identity providers ---------------------------------------------------------------------------------------------


def test_a_provider_that_works(op: BendableProvider) -> None:  # noqa: F811
    assert "error" not in levels(examine("provider default"))


def test_an_issuer_that_is_not_the_configured_one_is_an_error(op: BendableProvider, settings: Settings) -> None:  # noqa: F811
    settings.OIDC_OP_ISSUER = op.url + "/"
    assert "error" in levels(examine("provider default"))


def test_algorithms_that_are_not_allowed_are_an_error(op: BendableProvider) -> None:  # noqa: F811
    op.metadata = {"id_token_signing_alg_values_supported": ["HS256"]}
    assert any("HS256" in f.text and f.level == "error" for f in examine("provider default"))


def test_a_document_writes_nothing_to_the_terminal(op: BendableProvider) -> None:  # noqa: F811
    op.metadata = {"id_token_signing_alg_values_supported": ["\x1b[2J\x1b]0;all is well\x07"]}
    out = io.StringIO()
    with pytest.raises(CommandError):
        call_command("partium_doctor", "--no-color", stdout=out)
    assert "\x1b" not in out.getvalue()
    assert "all is well" in out.getvalue()


def test_a_document_with_junk_in_its_lists_is_examined_too(op: BendableProvider) -> None:  # noqa: F811
    junk: list[object] = [{}, [], None, 7]
    op.metadata = {
        "id_token_signing_alg_values_supported": junk,
        "code_challenge_methods_supported": junk,
        "scopes_supported": junk,
        "token_endpoint_auth_methods_supported": junk,
    }
    assert "error" in levels(examine("provider default"))


def test_a_provider_in_the_database_is_examined_too(other_op: BendableProvider) -> None:  # noqa: F811
    add_provider(other_op, slug="acme-sso")
    assert "error" not in levels(examine("provider acme-sso"))


def test_a_provider_with_the_name_of_the_one_in_the_settings_is_an_error(op: BendableProvider) -> None:  # noqa: F811
    add_provider(op, "default", is_active=False)
    (finding,) = examine("providers")
    assert finding.level == "error"
    assert "is called 'default'" in finding.text


def test_what_a_provider_does_not_support_is_a_warning(op: BendableProvider) -> None:  # noqa: F811
    op.metadata = {
        "end_session_endpoint": None,
        "revocation_endpoint": None,
        "scopes_supported": ["openid", "offline_access"],
    }
    text = " ".join(f.text for f in examine("provider default") if f.level == "warning")
    for word in ("end_session_endpoint", "revocation_endpoint", "email"):
        assert word in text
    # django-oauth-toolkit has a revocation endpoint, but its document does not name it.
    assert any("OIDC_OP_REVOCATION_ENDPOINT" in f.advice for f in examine("provider default"))


def test_a_provider_whose_clock_differs_is_a_warning(op: BendableProvider) -> None:  # noqa: F811
    op.response_headers = {"/.well-known/openid-configuration": {"Date": "Tue, 24 Nov 2020 10:00:00 GMT"}}
    assert any("clock" in f.text for f in examine("provider default"))


def test_a_provider_without_signing_keys_is_an_error(op: BendableProvider) -> None:  # noqa: F811
    op.jwks = [{"kty": "RSA", "use": "enc"}]
    assert any("0 signing keys" in f.text and f.level == "error" for f in examine("provider default"))


def test_an_organizations_provider_with_a_site_wide_issuer_is_an_error(op: BendableProvider) -> None:  # noqa: F811
    add_provider(op, slug="acme-sso", organization=Organization.objects.create(org_id="acme"))
    (error,) = [f for f in examine("provider acme-sso") if f.level == "error"]
    assert "opens the accounts" in error.text


def test_one_issuer_for_two_organizations_is_a_warning(other_op: BendableProvider) -> None:  # noqa: F811
    for name in ("acme", "globex"):
        add_provider(other_op, slug=name, organization=Organization.objects.create(org_id=name))
    warnings = [f.text for f in examine("provider acme") if f.level == "warning"]
    assert any("Globex of another organization has the same issuer" in text for text in warnings)
    assert "error" not in levels(examine("provider acme"))


def test_tables_that_are_missing_are_one_error_that_says_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MigrationRecorder, "applied_migrations", lambda self: {})
    (finding,) = doctor.examine()
    assert (finding.level, finding.subject) == ("error", "database")
    assert "manage.py migrate" in finding.advice


def test_an_unexpected_issuer_is_named(op: BendableProvider) -> None:  # noqa: F811
    op.metadata["issuer"] = "https://issuer.example/of/the/document"
    (error,) = examine("provider default")
    assert "https://issuer.example/of/the/document" in error.text
    assert op.url in error.text


def test_a_wrong_discovery_endpoint_is_told_what_one_looks_like(op: BendableProvider, settings: Settings) -> None:  # noqa: F811
    settings.OIDC_OP_DISCOVERY_ENDPOINT = f"{op.url}/nothing/here"
    (error,) = examine("provider default")
    assert "/.well-known/openid-configuration" in error.advice


def test_page_two_is_compared_with_page_one(partium_sandbox: PartiumSandbox, settings: Settings) -> None:
    acme = Organization.objects.create(org_id="acme", token_source=Organization.TokenSource.API_KEY)
    add_key(acme, partium_sandbox.add_key("acme"), label="x", actor=None)
    settings.PARTIUM_EXECUTOR = "inline"
    found = {}
    for template in (
        "/1/find/search/{session_id}?skip={skip}",
        "/1/find/search/{session_id}?offset={skip}",
        "/1/pages",
    ):
        settings.PARTIUM_ASSUMPTIONS = {"page_path": template}
        (found[template],) = [finding for finding in doctor.examine() if finding.subject == "pages"]
    assert [finding.level for finding in found.values()] == ["ok", "error", "error"]
    assert "is the first one again" in found["/1/find/search/{session_id}?offset={skip}"].text
