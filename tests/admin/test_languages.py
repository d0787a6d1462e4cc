"""Everything that a person sees can be translated: in a language where every translation stands in brackets, nothing else is a word."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from django.test import Client, RequestFactory
from django.urls import reverse
from pytest_django import Settings

from partium_auth.accounts import error_pages, error_texts
from partium_auth.models import EmailDomain
from partium_auth.oidc.errors import Refused
from partium_auth.oidc.provider import ASYMMETRIC_ALGORITHMS
from partium_auth.services import key_usage, keys
from partium_auth.testing.sandbox import PartiumSandbox
from tests.admin.conftest import Tenant, login
from tests.admin.test_every_url import SITES, urls_of

SHOWN_ATTRIBUTES = {"alt", "title", "placeholder", "aria-label"}
# Data and names of protocols, which are the same in every language; what people typed has the tenant's name in it.
DATA = re.compile(
    r"\S*(?i:aardvark|root)\S*( display| login| label| newer| new)?|••••\w*|https?://\S*|/partium/oidc/\S*|client_secret_(basic|post)|openid email profile"
    r"|\b(RS|PS|ES)256\b|\bEdDSA\b|\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\{\}|\[\]|127\.0\.0\.1|\d\d:\d\d:\d\d [A-Z]{3,4}\b"
)

DJANGOS = {
    "Search",
    "True",
    "False",
}  # alternative texts of pictures in Django's own admin, which Django does not translate


class Shown(HTMLParser):
    """The texts of a page that a person sees or hears."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._silent = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in {"script", "style"} or (
            tag == "small" and values.get("lang") == "en"
        ):  # a developer's text, marked so
            self._silent = tag
        names = SHOWN_ATTRIBUTES | (
            {"value"} if tag == "input" and values.get("type") in {"submit", "button"} else set()
        )
        self.texts += [values[name] or "" for name in names if name in values]

    def handle_endtag(self, tag: str) -> None:
        if tag == self._silent:
            self._silent = ""

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.texts.append(data)


def untranslated(text: str) -> str:
    """What is left of a text without translations and data."""
    left = text
    while (less := re.sub(r"⟦[^⟦⟧]*⟧", " ", left)) != left:
        left = less
    left = DATA.sub(" ", left)
    return " ".join(text.split()) if re.search(r"[^\W\d_]{2,}", left) else ""


def assert_translatable(response: Any, where: Any) -> None:
    found = [words for text in Shown(response.content.decode()).texts if (words := untranslated(text))]
    assert set(found) <= {*DJANGOS, *ASYMMETRIC_ALGORITHMS}, where  # no language has other names for algorithms


@pytest.fixture(autouse=True)
def _brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    def bracketed(text: str) -> str:
        return f"⟦{text}⟧" if text else text

    # Django has no public name for what its gettext functions, also the lazy ones, call in the end.
    known = "django.utils.translation._trans"
    monkeypatch.setattr(f"{known}.gettext", bracketed)
    monkeypatch.setattr(f"{known}.pgettext", lambda context, text: bracketed(text))
    monkeypatch.setattr(f"{known}.ngettext", lambda one, many, n: bracketed(one if n == 1 else many))
    monkeypatch.setattr(f"{known}.npgettext", lambda context, one, many, n: bracketed(one if n == 1 else many))


@pytest.mark.parametrize("site", SITES)
def test_every_page_of_the_admin(site: str, ours: Tenant, root: Any, settings: Settings) -> None:
    settings.PARTIUM_API_URL = settings.OIDC_OP_DISCOVERY_ENDPOINT = "http://127.0.0.1:9"  # nobody is there
    keys.verify_key(ours.key, actor=None)
    new = keys.rotate_key(ours.key, "aardvark-new-00000000", label="aardvark new", actor=root, verify=False)
    keys.change_key(new, label="aardvark newer", expires_at=None, actor=root)
    key_usage.record_rejection(key_id=new.pk)
    client, seen = login(root), 0
    pages = [url for url in urls_of(SITES[site], ours) if not url.endswith(("/autocomplete/", "/jsi18n/", "/csv/"))]
    for url in [*pages, reverse(f"{SITES[site].name}:partium_auth_apikey_change", args=[new.pk])]:
        response = client.get(url)
        if response.status_code == 200:
            assert_translatable(response, url)
            seen += 1
    assert seen > 28  # a history leads to the events


def test_what_the_admin_answers_to_forms(ours: Tenant, root: Any, partium_sandbox: PartiumSandbox) -> None:
    client, pk = login(root), str(ours.key.pk)
    key = "partium_keys:partium_auth_apikey_"
    typed = {"organization": "aardvark", "label": "aardvark x", "value": "aardvark-value-00000", "overlap_hours": "x"}
    for name, args, data in (
        ("add", [], {}),
        ("add", [], typed),
        ("rotate", [pk], typed),
        ("rotate", [pk], {**typed, "overlap_hours": "9999", "value": "aardvark value"}),
        ("find", [], {"value": "aardvark-secret-00000000000000000000"}),
        ("find", [], {"value": "aardvark"}),
        ("verify", [], {"keys": pk}),
        ("revoke", [], {"keys": pk}),
        ("change", [pk], {"label": ""}),
        ("revoke", [], {"keys": pk, "confirmed": "1"}),
        ("verify", [], {"keys": pk}),
    ):
        response = client.post(reverse(key + name, args=args), data, follow=True)
        assert response.status_code == 200
        assert_translatable(response, (name, data))
    for model in ("identityprovider", "organization", "membership", "invitation"):
        response = client.post(
            reverse(f"partium_keys:partium_auth_{model}_add"),
            {"person": "aardvark", "slug": "AARDVARK", "extra_parameters": "[]"},
        )
        assert_translatable(response, model)
    response = client.post(reverse("partium_keys:partium_auth_identityprovider_check", args=[ours.provider.pk]))
    assert_translatable(response, "check")
    for model, action in (("apikey", "verify_selected"), ("apikey", "revoke_selected"), ("grant", "revoke_selected")):
        chosen = ours.grant.pk if model == "grant" else ours.key.pk
        url = reverse(f"partium_keys:partium_auth_{model}_changelist")
        response = client.post(url, {"action": action, "_selected_action": str(chosen)}, follow=True)
        assert_translatable(response, action)


def test_the_login_page_and_what_it_answers(db: None, ours: Tenant, settings: Settings) -> None:
    settings.PARTIUM_API_URL = "http://127.0.0.1:9"
    settings.PARTIUM_PASSWORD_ORGANIZATION = "aardvark"
    assert EmailDomain.objects.exists()
    url = reverse("partium_auth:login")
    client = Client()
    page = client.get(url)
    assert "partium-password" in page.content.decode()
    assert_translatable(page, "login")
    for data in (
        {},
        {"email": "x"},
        {"email": "a@nowhere.example"},
        {"password": ""},
        {"username": "u", "password": "p"},
    ):
        assert_translatable(client.post(url, data), data)


def test_the_page_of_who_may_not_enter_the_key_site(ours: Tenant) -> None:
    client = login(ours.member)
    assert_translatable(client.get(reverse("partium_keys:login")), "member")
    ours.membership.delete()
    assert_translatable(client.get(reverse("partium_keys:login")), "nobody")


def test_every_refused_login(db: None, rf: RequestFactory) -> None:
    for check in [*error_texts.OF_REFUSALS, "anything else"]:
        assert_translatable(error_pages.refusal_response(rf.get("/"), Refused(check), provider="x"), check)


def test_every_error_page(db: None, rf: RequestFactory) -> None:
    for kind in error_texts.OF_ERRORS:
        request = rf.get("/", headers={"Accept": "text/html"})
        error = kind("for developers")
        assert_translatable(error_pages.error_response(request, error), kind)
        assert "⟦" in error_pages.error_response(rf.get("/"), error).content.decode("unicode-escape")
