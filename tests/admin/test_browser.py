"""A developer's day with keys, in Chromium, from logging in through a real identity provider on, while somebody else goes on searching.

``SCREENSHOTS=1`` takes the pictures anew that are in ``docs/administration.md``.
"""

from __future__ import annotations

import datetime as dt
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.staticfiles.testing import StaticLiveServerTestCase
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from example_project.demo_provider import CLAIMS_PARAMETER, ORGANIZATIONS_CLAIM, read_people
from partium_auth.admin import MODEL_ADMINS
from partium_auth.admin.permissions import PolicyAdmin
from partium_auth.fields import seal
from partium_auth.models import (
    ApiKey,
    ApiKeyUsage,
    ClientKey,
    EmailDomain,
    IdentityProvider,
    Invitation,
    Membership,
    Organization,
    Role,
)
from partium_auth.services import keys, members
from partium_auth.testing.sandbox import PartiumSandbox
from tests.admin.conftest import Tenant
from tests.browser.axe import faults
from tests.browser.keyboard import tab_to
from tests.demo.processes import free_port, serving
from tests.oidc.conftest import op, provider_server  # noqa: F401  # fixtures
from tests.oidc.provider import BendableProvider

pytestmark = [pytest.mark.browser, pytest.mark.processes, pytest.mark.django_db(transaction=True)]
CHROMIUM = "/usr/bin/chromium"
IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
KEY = "partium_keys:partium_auth_apikey_"


@pytest.fixture
def site(settings: Settings, partium_sandbox: PartiumSandbox) -> Iterator[str]:
    settings.ROOT_URLCONF = "tests.admin.browser_urls"
    settings.TIME_ZONE = "UTC"
    StaticLiveServerTestCase.setUpClass()
    yield StaticLiveServerTestCase.live_server_url
    StaticLiveServerTestCase.tearDownClass()


@pytest.fixture
def chromium(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if not Path(CHROMIUM).exists():
        pytest.skip("needs Debian's chromium")
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # Playwright runs an event loop in this thread
    with playwright.sync_playwright() as run:
        browser = run.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def provider(site: str, settings: Settings, tmp_path: Path) -> Iterator[None]:
    """The demo's identity provider, in a process of its own; ``ada`` is a developer of acme there and ``max`` a member."""
    port = free_port()
    settings.OIDC_OP_DISCOVERY_ENDPOINT = f"http://127.0.0.1:{port}/.well-known/openid-configuration"
    settings.OIDC_OP_NAME = "Acme's provider"
    settings.OIDC_RP_CLIENT_ID, settings.OIDC_RP_CLIENT_SECRET = "key-site", "a-secret-of-this-test"
    settings.OIDC_RP_SCOPES = "openid email profile"
    settings.OIDC_AUTH_REQUEST_EXTRA_PARAMS = {"claims": CLAIMS_PARAMETER}
    settings.PARTIUM_ORGANIZATIONS_CLAIM = ORGANIZATIONS_CLAIM
    command = [sys.executable, "-m", "example_project.demo_provider", "--port", str(port)]
    command += ["--callback-url", site + reverse("partium_auth:oidc_callback", args=["default"])]
    command += ["--directory", str(tmp_path / "provider")]
    environment = {
        **os.environ,
        "OIDC_RP_CLIENT_ID": settings.OIDC_RP_CLIENT_ID,
        "OIDC_RP_CLIENT_SECRET": settings.OIDC_RP_CLIENT_SECRET,
    }
    with serving(command, settings.OIDC_OP_DISCOVERY_ENDPOINT, tmp_path / "provider.log", environment):
        yield


@pytest.fixture
def new_page(chromium: Any) -> Iterator[Callable[..., Any]]:
    """A page in a browser of its own; the test fails if a script on it does."""
    contexts = []
    problems: list[str] = []

    def open_page(**options: Any) -> Any:
        context = chromium.new_context(viewport={"width": 1200, "height": 800}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def log_in(page: Any, name: str) -> None:
    """From the login page, where the page has been sent, through the provider and back to where it wanted to go."""
    page.click("text=Log in with Acme's provider")
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(read_people().password)
    page.get_by_role("button", name="Sign in", exact=True).click()


def picture(page: Any, name: str) -> None:
    if os.environ.get("SCREENSHOTS") == "1":
        page.wait_for_load_state("networkidle")  # until the icons are there
        page.screenshot(path=IMAGES / f"{name}.png", full_page=True)


def test_a_developer_logs_in_adds_verifies_rotates_and_revokes_a_key_while_somebody_searches(
    site: str, provider: None, new_page: Callable[..., Any], partium_sandbox: PartiumSandbox
) -> None:
    Organization.objects.create(org_id="acme", display_name="Acme Machine Works", token_source="api_key")
    first, second = partium_sandbox.add_key("acme"), partium_sandbox.add_key("acme")
    page = new_page()

    page.goto(site + reverse("partium_keys:index"))
    log_in(page, "ada")
    page.wait_for_url(site + reverse(KEY + "changelist"))
    ada = get_user_model().objects.get()
    assert (ada.email, ada.is_staff, ada.is_superuser) == ("ada@acme.example", False, False)
    assert ada.partium_memberships.get().role == Role.DEVELOPER
    picture(page, "keys-empty")
    page.click("a.addlink")
    page.fill("#id_label", "Web shop 2026")
    page.fill("#id_value", first)
    picture(page, "keys-add")
    page.fill("#id_value", "a-key-that-partium-never-issued")
    page.click("text=Test and add")
    page.wait_for_selector("text=Partium does not accept this key")
    assert page.input_value("#id_value") == ""
    picture(page, "keys-refused")
    page.fill("#id_value", first)
    page.click("text=Test and add")
    page.wait_for_selector("text=The key was added. Partium accepted it.")

    other = new_page()
    other.goto(site + "/partium/login/?next=/searching/")
    log_in(other, "max")
    other.wait_for_url(site + "/searching/")
    other.wait_for_function("window.answers.length >= 5")

    page.click("text=Verify at Partium")
    page.wait_for_selector("text=Partium accepted it.")
    page.click("text=Rotate …")
    page.fill("#id_label", "Web shop 2027")
    page.fill("#id_value", second)
    picture(page, "keys-rotate")
    page.click("text=Test and rotate")
    page.wait_for_selector("text=The old key is retiring")
    other.evaluate("window.seen = window.answers.length")
    other.wait_for_function("window.answers.length >= window.seen + 10")
    newest = ApiKey.objects.get(label="Web shop 2027")
    for label, days in (("Web shop 2026", 90), ("Web shop 2027", 12)):
        ApiKey.objects.filter(label=label).update(created_at=timezone.now() - dt.timedelta(days=days))
    for age in range(1, 12):
        day = timezone.localdate() - dt.timedelta(days=age)
        ApiKeyUsage.objects.create(api_key=newest, day=day, searches=180 + 97 * age % 211, failures=age % 4)
    page.reload()
    picture(page, "keys-detail")
    # The id is copied from the keyboard.
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site)
    copy = page.locator(".field-identifier").get_by_role("button", name="Copy")
    copy.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".field-identifier >> text=Copied")
    assert page.evaluate("navigator.clipboard.readText()") == str(newest.pk)

    old = ApiKey.objects.get(label="Web shop 2026")
    page.goto(site + reverse(KEY + "changelist"))
    picture(page, "keys-list")
    page.goto(site + reverse(KEY + "change", args=[old.pk]))
    page.click("text=Revoke …")
    picture(page, "keys-revoke")
    page.click("input.partium-danger")
    page.wait_for_selector("text=The stored value was erased")
    other.evaluate("window.seen = window.answers.length")
    other.wait_for_function("window.answers.length >= window.seen + 10")
    answers = other.evaluate("window.answers")
    assert set(answers) == {200}, "somebody's search failed"

    page.goto(site + reverse(KEY + "changelist"))
    assert page.locator("#result_list .partium-badge").inner_text() == "in use"
    page.check("#action-toggle")
    page.select_option("select[name=action]", "verify_selected")
    page.click("button[name=index]")
    page.wait_for_selector(".messagelist >> text=Partium accepted it.")


def test_the_list_fits_a_phone_in_the_dark(
    site: str, new_page: Callable[..., Any], partium_sandbox: PartiumSandbox
) -> None:
    acme = Organization.objects.create(org_id="acme", display_name="A" * 190)
    dana = get_user_model().objects.create_user("dana.developer")
    Membership.objects.create(user=dana, organization=acme, role=Role.DEVELOPER)
    key = keys.add_key(acme, "value-00000000000000", label="x" * 100, actor=None, verify=False)
    client = Client()
    client.force_login(dana, "django.contrib.auth.backends.ModelBackend")
    page = new_page(color_scheme="dark")
    page.context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": site}])
    page.set_viewport_size({"width": 390, "height": 844})
    for url in (
        reverse(KEY + "changelist"),
        reverse(KEY + "add"),
        reverse(KEY + "change", args=[key.pk]),
        reverse(KEY + "rotate", args=[key.pk]),
        reverse("partium_keys:partium_auth_auditevent_changelist"),
    ):
        page.goto(site + url)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, url
    page.goto(site + reverse(KEY + "change", args=[key.pk]))
    page.click("text=Revoke …")
    page.wait_for_selector("text=Revoke this key?")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "revoke"
    # Beside another organization, the lists have a column for the name: it must leave room for the others.
    globex = Organization.objects.create(org_id="globex")
    Membership.objects.create(user=dana, organization=globex, role=Role.DEVELOPER)
    page.goto(site + reverse(KEY + "changelist"))
    assert page.locator("td.field-organization_name").bounding_box()["width"] < 400
    page.goto(site + reverse(KEY + "change", args=[key.pk]))
    row = page.locator(".field-organization_name .readonly")
    assert row.evaluate("row => row.scrollWidth <= row.closest('.form-row').clientWidth")


def test_the_box_for_a_key_that_cannot_be_verified_has_its_words_on_one_line(
    site: str, new_page: Callable[..., Any], partium_sandbox: PartiumSandbox
) -> None:
    acme = Organization.objects.create(org_id="acme")
    dana = get_user_model().objects.create_user("dana")
    Membership.objects.create(user=dana, organization=acme, role=Role.DEVELOPER)
    client = Client()
    client.force_login(dana, "django.contrib.auth.backends.ModelBackend")
    page = new_page()
    page.context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": site}])
    page.set_viewport_size({"width": 1000, "height": 800})  # a tablet: Django's letters are larger there
    page.goto(site + reverse(KEY + "add"))
    page.fill("#id_label", "x")
    page.fill("#id_value", "value-00000000000000")
    with partium_sandbox.fail("auth", status=503):
        page.click("text=Test and add")
        page.wait_for_selector("text=reach Partium")
    words = page.locator("label.partium-check")
    assert words.bounding_box()["height"] < 2 * page.locator("#id_allow_unverified").bounding_box()["height"] + 10


@pytest.mark.parametrize("width", [360, 1280])
def test_german_fits_a_phone_and_a_desk(
    width: int, site: str, new_page: Callable[..., Any], partium_sandbox: PartiumSandbox, settings: Settings
) -> None:
    """German words are longer than the English ones that the pages were made with."""
    settings.PARTIUM_PASSWORD_ORGANIZATION = "acme"
    acme = Organization.objects.create(org_id="acme", display_name="Acme Maschinenbau", token_source="api_key")
    tina = get_user_model().objects.create_superuser("tina.technikerin")
    Membership.objects.create(user=tina, organization=acme, role=Role.DEVELOPER)
    provider = IdentityProvider(slug="acme", display_name="Firmenanmeldung der Acme", client_id="c")
    provider.issuer = "https://login.acme.example"
    provider.save()
    EmailDomain.objects.create(provider=provider, domain="acme.example")
    old = keys.add_key(acme, partium_sandbox.add_key("acme"), label="Webshop 2026", actor=tina)
    keys.rotate_key(old, partium_sandbox.add_key("acme"), label="Webshop 2027", actor=tina)
    members.invite(acme, "max.mustermann@acme.example", actor=tina)
    page = new_page(locale="de-DE")
    page.set_viewport_size({"width": width, "height": 900})

    def look(name: str) -> None:
        assert page.evaluate("document.documentElement.lang") == "de", name
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name

    page.goto(site + reverse("partium_auth:login"))
    page.get_by_label("Geschäftliche E-Mail-Adresse").fill("jemand@anderswo.example")
    page.get_by_role("button", name="Weiter").click()
    page.wait_for_selector("text=Bitte korrigieren Sie Folgendes:")
    look("login")
    page.goto(site + reverse("partium_auth:oidc_login", args=["nobody"]))
    page.wait_for_selector("text=Diese Anmeldung gibt es nicht")
    look("refused")
    client = Client()
    client.force_login(get_user_model().objects.create_user("max"), "django.contrib.auth.backends.ModelBackend")
    page.context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": site}])
    page.goto(site + "/search/")
    page.wait_for_selector("text=Sie gehören hier zu keiner Organisation")
    look("error")

    client.force_login(tina, "django.contrib.auth.backends.ModelBackend")
    page.context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": site}])
    admin = "partium_keys:partium_auth_"
    for name, args, text in (
        ("apikey_changelist", [], "Läuft noch"),
        ("apikey_add", [], "Prüfen und hinzufügen"),
        ("apikey_change", [old.pk], "Nutzung in den letzten 30 Tagen"),
        ("apikey_find", [], "Schlüssel anhand seines Werts finden"),
        ("auditevent_changelist", [], "Als CSV exportieren"),
        ("organization_overview", [], "Schlüssel nach Organisation"),
        ("organization_change", [acme.pk], "Vorgeschriebener Identitätsanbieter"),
        ("membership_changelist", [], "Herkunft"),
        ("invitation_add", [], "E-Mail-Adresse"),
        ("identityprovider_change", [provider.pk], "Signaturalgorithmen"),
        ("grant_changelist", [], "Zuletzt erneuert"),
    ):
        page.goto(site + reverse(admin + name, args=args))
        page.wait_for_selector(f"text={text}", state="attached")
        look(name)
    page.goto(site + reverse(admin + "apikey_change", args=[old.pk]))
    page.click("text=Bei Partium prüfen")
    page.wait_for_selector("text=Partium hat ihn akzeptiert.")
    page.click("text=Widerrufen …")
    page.wait_for_selector("text=Diesen Schlüssel widerrufen?")
    look("apikey_revoke")


def be(page: Any, site: str, user: Any) -> None:
    """Make the page's browser that of a person who is logged in."""
    client = Client()
    client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    page.context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": site}])


def press(page: Any, name: str, leads_to: str) -> None:
    tab_to(page, name)
    page.keyboard.press("Enter")
    page.wait_for_selector(f"text={leads_to}")
    page.wait_for_load_state()


def type_into(page: Any, label: str, text: str) -> None:
    tab_to(page, label)
    page.keyboard.type(text)


def test_a_developer_manages_keys_and_invites_with_the_keyboard_alone(
    site: str, new_page: Callable[..., Any], partium_sandbox: PartiumSandbox, settings: Settings
) -> None:
    settings.PARTIUM_DEVELOPERS_MANAGE_MEMBERS = True
    acme = Organization.objects.create(org_id="acme", token_source="api_key")
    dana = get_user_model().objects.create_user("dana")
    Membership.objects.create(user=dana, organization=acme, role=Role.DEVELOPER)
    page = new_page()
    be(page, site, dana)
    page.goto(site + reverse("partium_keys:index"))
    press(page, "Add API key", "We test the key")
    type_into(page, "Label:", "Web shop 2026")
    type_into(page, "API key:", partium_sandbox.add_key("acme"))
    press(page, "Test and add", "The key was added. Partium accepted it.")
    press(page, "Verify at Partium", "Web shop 2026 (")
    press(page, "Rotate …", "Create a new key at Partium")
    type_into(page, "API key:", partium_sandbox.add_key("acme"))
    press(page, "Test and rotate", "The old key is retiring.")
    press(page, "Revoke …", "This cannot be undone.")
    press(page, "Revoke", "The stored value was erased.")
    press(page, "Invitations", "E-mail address or organization")
    press(page, "Add invitation", "Nothing is sent")
    type_into(page, "E-mail address:", "new@acme.example")
    press(page, "Save", "Nothing was sent: copy this text")
    assert sorted(ApiKey.objects.values_list("status", flat=True)) == ["retiring", "revoked"]
    assert Invitation.objects.get().email == "new@acme.example"


def test_an_operator_sets_up_an_organization_its_provider_and_its_first_developer(
    site: str,
    new_page: Callable[..., Any],
    op: BendableProvider,  # noqa: F811
    root: Any,
) -> None:
    page = new_page()
    be(page, site, root)
    page.goto(site + reverse("partium_keys:partium_auth_organization_changelist"))
    page.click("text=Add Organization")
    page.fill("#id_org_id", "acme")
    page.fill("#id_display_name", "Acme Machine Works")
    page.click("input[name=_save]")
    page.wait_for_selector(".messagelist >> text=Acme Machine Works")
    page.goto(site + reverse("partium_keys:partium_auth_identityprovider_add"))
    page.fill("#id_display_name", "Acme login")
    page.fill("#id_slug", "acme")
    assert page.locator("dd code").first.inner_text() == f"{site}/partium/callback/acme/"
    page.fill("#id_issuer", op.issuer)
    page.fill("#id_client_id", "portal")
    page.fill("#id_new_client_secret", "a-secret-of-this-test")
    picture(page, "provider")
    page.click("input[name=_save]")
    page.click("text=Check this provider")
    page.click("button:text-is('Activate')")
    page.wait_for_selector("text=Acme login is active")
    page.goto(site + reverse("partium_keys:partium_auth_invitation_add"))
    page.fill("#id_email", "dana@acme.example")
    page.select_option("#id_role", "developer")
    page.click("input[name=_save]")
    page.wait_for_selector("text=You are invited to Acme Machine Works.")
    picture(page, "invitation")
    assert IdentityProvider.objects.get().is_active
    assert Invitation.objects.get().organization.org_id == "acme"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 375)])
def test_axe_finds_no_fault_with_what_operators_and_developers_see(
    scheme: str, width: int, site: str, new_page: Callable[..., Any], ours: Tenant, root: Any, settings: Settings
) -> None:
    settings.PARTIUM_DEVELOPERS_MANAGE_MEMBERS = True
    IdentityProvider.objects.update(client_authentication="private_key_jwt", is_active=False)
    key = ClientKey(provider=ours.provider, bound_to=ours.provider.bound_to, algorithm="ES256")
    key.used_from, key.private_key = timezone.now(), seal(key, "private_key", "{}")
    key.save()
    page = new_page(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    found: list[str] = []

    def look(url: str) -> None:
        page.goto(site + url)
        found.extend(faults(page))
        assert page.evaluate("document.documentElement.scrollWidth") <= width, url

    start = "partium_keys:partium_auth_"
    be(page, site, root)
    for model, model_admin in MODEL_ADMINS.items():
        name = f"{start}{model._meta.model_name}_"
        look(reverse(name + "changelist"))
        look(reverse(name + "change", args=[ours.object_of(model).pk]))
        if model_admin.has_add_permission is not PolicyAdmin.has_add_permission:
            look(reverse(name + "add"))
    look(reverse(f"{start}organization_overview"))
    look(reverse(f"{start}membership_delete", args=[ours.membership.pk]))
    page.goto(site + reverse(f"{start}identityprovider_change", args=[ours.provider.pk]))
    page.get_by_role("button", name="Check this provider").click()
    page.wait_for_selector("text=Back to the provider")
    found += faults(page)
    be(page, site, ours.developer)
    for name in ("membership_changelist", "invitation_changelist", "invitation_add", "auditevent_changelist"):
        look(reverse(start + name))
    Invitation.objects.update(accepted_by=ours.developer, accepted_at=timezone.now())
    Membership.objects.create(user=ours.developer, organization=Organization.objects.create(org_id="x" * 190))
    memberships = reverse("partium_auth:memberships")
    look(f"{memberships}?joined=1")
    look(memberships)
    page.get_by_role("button", name="Leave aardvark").click()
    page.wait_for_selector("text=You are its only developer")
    found += faults(page)
    assert found == []
