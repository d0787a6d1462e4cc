"""The pages in German: what a person whose browser asks for it gets."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone, translation
from pytest_django import Settings

from partium_auth.accounts import error_pages
from partium_auth.exceptions import NoOrganization
from partium_auth.models import ApiKey, AuditEvent
from partium_auth.models.audit_events import EventDetail, describe
from partium_auth.oidc.errors import Refused
from partium_auth.services import keys
from tests.admin.conftest import Tenant, login
from tests.admin.test_languages import Shown
from tests.test_translations import APP, read

GERMAN = {"Accept-Language": "de-AT,de;q=0.9,en;q=0.5"}


@pytest.fixture(autouse=True)
def restored_language() -> Iterator[None]:
    with translation.override("en-us"):
        yield


def assert_german(response: Any, *expected: str) -> None:
    page = response.content.decode()
    assert '<html lang="de"' in page
    text = " ".join(" ".join(Shown(page).texts).split())
    for words in expected:
        assert words in text
    entries = read(APP / "locale/de/LC_MESSAGES/django.po")
    english = [entry.text for entry in entries if len(entry.text.split()) > 1 and "%" not in entry.text]
    assert len(english) > 150
    assert [words for words in english if words in text] == []


def test_the_login_page(db: None, ours: Tenant, settings: Settings) -> None:
    settings.PARTIUM_PASSWORD_ORGANIZATION = "aardvark"
    client, url = Client(headers=GERMAN), reverse("partium_auth:login")
    assert_german(client.get(url), "Anmelden", "Geschäftliche E-Mail-Adresse", "Mit Ihrem Partium-Konto")
    assert_german(client.post(url, {"email": "a@nowhere.example"}), "Für diese Adresse gibt es keine Firmenanmeldung.")


def test_error_pages(db: None, rf: RequestFactory) -> None:
    request = rf.get("/", headers={"Accept": "text/html"})
    with translation.override("de"):
        assert_german(
            error_pages.error_response(request, NoOrganization("x")), "Sie gehören hier zu keiner Organisation"
        )
        assert_german(
            error_pages.refusal_response(request, Refused("state"), provider=""),
            "Diese Anmeldung ist abgelaufen",
            "Referenz: ",
        )


def test_the_key_admin(ours: Tenant, settings: Settings) -> None:
    settings.PARTIUM_API_URL = "http://127.0.0.1:9"  # nobody is there
    settings.TIME_ZONE = "Europe/Vienna"
    keys.verify_key(ours.key, actor=ours.developer)
    ApiKey.objects.filter(pk=ours.key.pk).update(
        last_used_at=timezone.now() - dt.timedelta(days=3, hours=1),
        expires_at=dt.datetime(2031, 3, 1, 12, 0, tzinfo=dt.UTC),
    )
    client = login(ours.developer)
    client.defaults["HTTP_ACCEPT_LANGUAGE"] = GERMAN["Accept-Language"]
    key = "partium_keys:partium_auth_apikey_"
    assert_german(client.get(reverse(key + "changelist")), "API-Schlüssel", "vor 3 Tagen", "1. März 2031 13:00")
    detail = client.get(reverse(key + "change", args=[ours.key.pk]))
    assert_german(detail, "Suchen seit", "Partium war nicht erreichbar oder hat nicht rechtzeitig geantwortet.")
    events = client.get(reverse("partium_keys:partium_auth_auditevent_changelist"))
    assert_german(events, "Nicht geprüft: Partium war nicht erreichbar", "Schlüssel hinzugefügt")
    answer = client.post(reverse(key + "add"), {"organization": "aardvark", "label": "", "value": "a b"})
    assert_german(answer, "Der Schlüssel wurde nicht gespeichert.", "Dieses Feld ist zwingend erforderlich.")


def test_what_is_stored_does_not_depend_on_who_acts(ours: Tenant) -> None:
    with translation.override("de"):
        keys.change_key(ours.key, label="neu", expires_at=None, actor=None)
    event = AuditEvent.objects.latest("id")
    assert event.detail == "label changed"
    with translation.override("de"):
        assert event.get_detail_display() == "Bezeichnung geändert"


@pytest.mark.parametrize(
    ("code", "parameters", "english", "german"),
    [
        ("", {}, "", ""),
        ("of_a_later_version", {"x": 1}, "of_a_later_version", "of_a_later_version"),
        (
            "exchange_refused",
            {"status": 401},
            "Partium answered 401 to the token request.",
            "Partium beantwortete den Token-Abruf mit 401.",
        ),
        (
            "rotated",
            {"key": "Shop. Partium accepted it. (••••0000)", "outcome": "search_failed", "status": 503},
            "Replaces Shop. Partium accepted it. (••••0000). Not verified: Partium answered 503 to a search.",
            "Tritt an die Stelle von Shop. Partium accepted it. (••••0000). Nicht geprüft: Partium beantwortete eine Suche mit 503.",
        ),
        (
            "refused",
            {"key": "100%: x (••••0000)", "outcome": "search_refused", "status": 403},
            "100%: x (••••0000): Partium answered 403 to a search in the organization.",
            "100%: x (••••0000): Partium beantwortete eine Suche in der Organisation mit 403.",
        ),
    ],
)
def test_sentences_of_the_history(code: str, parameters: dict[str, object], english: str, german: str) -> None:
    event = AuditEvent(detail_code=code, detail_parameters=parameters)
    with translation.override("de"):
        assert event.get_detail_display() == german
        assert event.detail == english


def test_every_sentence_of_the_history_has_its_own_translation() -> None:
    parts = {"status": 401, "key": "Shop", "hours": "24", "outcome": "not_tried", "before": "–", "after": "x"}
    parts |= {
        "days": 30,
        "events": 2,
        "invitations": 3,
        "role": "developer",
        "role_before": "member",
        "origin": "admin",
    }
    parts |= {
        "expires": "–",
        "changes": {"is_active": [True, False]},
        "fields": ["issuer"],
        "provider": "default",
        "check": "nonce",
    }
    english = {describe(code, parts) for code in EventDetail}
    with translation.override("de"):
        german = {describe(code, parts) for code in EventDetail}
    assert len(german) == len(EventDetail)
    assert not german & english


def test_commands_speak_english_wherever_the_site_is(ours: Tenant, settings: Settings) -> None:
    settings.PARTIUM_API_URL = "http://127.0.0.1:9"  # nobody is there
    keys.revoke_key(ours.key, actor=None)
    out = StringIO()
    with translation.override("de"), pytest.raises(CommandError):
        call_command("partium_keys", "verify", str(ours.key.pk), stdout=out)
    assert "The key is revoked." in out.getvalue()
