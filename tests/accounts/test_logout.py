"""Logging out: here, at the provider, and from the provider's side."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth import SESSION_KEY, get_user_model
from django.core.management import call_command
from django.db.models import Model
from django.test import Client
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from partium_auth import signals
from partium_auth.accounts import sessions
from partium_auth.exceptions import LoginRequired
from partium_auth.models import Grant, Identity, Organization, UsedOnce
from partium_auth.oidc import documents, token_endpoint
from partium_auth.services import disconnect_identity
from partium_auth.tokens import grants, revocation, state
from partium_auth.tokens.manager import token_manager
from tests.oidc.conftest import Browser, add_provider
from tests.oidc.provider import CLIENT_ID, LOGOUT_EVENT, Answer, BendableProvider
from tests.tokens.conftest import ago


def log_out(browser: Browser) -> Any:
    return browser.client.post("/partium/logout/")


def tell(op: BendableProvider, token: str | None = None, slug: str = "default") -> Any:
    """What the provider's server sends."""
    client = Client(enforce_csrf_checks=True)
    return client.post(
        f"/partium/backchannel-logout/{slug}/", {"logout_token": op.logout_token() if token is None else token}
    )


# --- initiated here ------------------------------------------------------------------------------------------------------


def test_logging_out_ends_the_session_here_and_at_the_provider(
    browser: Browser, op: BendableProvider, settings: Settings
) -> None:
    settings.LOGOUT_REDIRECT_URL = "/bye/"
    browser.log_in()
    grant = Grant.objects.get()
    id_token, refresh_token = grant.id_token.reveal(), grant.refresh_token.reveal()
    url = log_out(browser).headers["Location"]
    assert url.startswith(f"{op.url}/logout?")
    sent = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert sent.pop("state")
    assert sent == {
        "client_id": CLIENT_ID,
        "id_token_hint": id_token,
        "post_logout_redirect_uri": "http://testserver/bye/",
    }
    assert SESSION_KEY not in browser.client.session
    grant.refresh_from_db()
    assert grant.revoked_at is not None
    assert (grant.access_token, grant.refresh_token, grant.id_token) == (None, None, None)
    assert op.revoked == [refresh_token]


class Replica:
    """Reads of grants go to a database that is not there: whoever needs them as they are does not ask it."""

    def db_for_read(self, model: type[Model], **hints: object) -> str | None:
        return "replica" if model is Grant else None


@pytest.mark.parametrize("where", ["here", "at the provider"])
def test_logging_out_does_not_ask_a_replica_that_may_lag(
    browser: Browser, op: BendableProvider, settings: Settings, where: str
) -> None:
    browser.log_in()
    grant = Grant.objects.get()
    settings.DATABASE_ROUTERS = [f"{__name__}.Replica"]
    if where == "here":
        assert log_out(browser).headers["Location"].startswith(f"{op.url}/logout?")
    else:
        assert tell(op).status_code == 200
    settings.DATABASE_ROUTERS = []
    grant.refresh_from_db()
    assert grant.revoked_at is not None


def test_logging_out_works_while_the_provider_is_down(browser: Browser, op: BendableProvider) -> None:
    from partium_auth.oidc import documents

    browser.log_in()
    documents.forget()
    for path in ("/.well-known/openid-configuration", "/revoke"):
        op.answers[path] = Answer(closes=True)
    response = log_out(browser)
    assert response.headers["Location"] == "/partium/login/"
    assert SESSION_KEY not in browser.client.session
    assert Grant.objects.get().revoked_at is not None


@pytest.mark.parametrize(
    ("setting", "value"), [("OIDC_RP_CLIENT_ID", ""), ("OIDC_RP_SIGN_ALGO", "rubbish"), ("PARTIUM_ENCRYPTION_KEYS", [])]
)
def test_logging_out_works_while_the_site_is_misconfigured(
    browser: Browser, op: BendableProvider, settings: Settings, setting: str, value: object
) -> None:
    browser.log_in()
    setattr(settings, setting, value)
    assert log_out(browser).headers["Location"] == "/partium/login/"
    assert SESSION_KEY not in browser.client.session
    assert Grant.objects.get().revoked_at is not None


def test_a_log_out_is_told_to_whom_the_login_was_at_only(
    browser: Browser, op: BendableProvider, other_op: BendableProvider, settings: Settings
) -> None:
    browser.log_in()
    settings.OIDC_OP_ISSUER = other_op.url  # the site has moved meanwhile
    assert log_out(browser).headers["Location"] == "/partium/login/"
    assert op.revoked == other_op.revoked == []
    assert "/revoke" not in other_op.calls


def test_logging_out_works_whatever_the_session_says(browser: Browser) -> None:
    browser.log_in()
    kept = browser.client.session
    kept[sessions.GRANT] = "no id"
    kept.save()
    assert log_out(browser).headers["Location"] == "/partium/login/"
    assert SESSION_KEY not in browser.client.session


def test_a_provider_without_log_out_or_revocation(browser: Browser, op: BendableProvider) -> None:
    op.metadata.update(end_session_endpoint=None, revocation_endpoint=None)
    browser.log_in()
    assert log_out(browser).headers["Location"] == "/partium/login/"
    assert SESSION_KEY not in browser.client.session
    assert "/revoke" not in op.calls


def test_revocations_that_fail_are_one_line_in_the_log_however_many_people_log_out(
    browser: Browser, op: BendableProvider, caplog: pytest.LogCaptureFixture
) -> None:
    op.answers["/revoke"] = Answer(500, b"private words")
    browsers = [browser, Browser(op), Browser(op)]
    for one in browsers:
        one.log_in()
    caplog.clear()
    for one in browsers:
        log_out(one)
    assert [r.getMessage() for r in caplog.records if r.name.startswith("partium_auth")] == [
        "The refresh token could not be revoked at default: status 500."
    ]


def test_a_provider_that_hangs_stops_no_log_out_and_revokes_later(
    op: BendableProvider, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    browsers = [Browser(op) for _ in range(3)]
    for browser in browsers:
        browser.log_in()
    monkeypatch.setattr(token_endpoint, "REVOCATION_SECONDS", 0.3)
    op.answers["/revoke"] = Answer(hangs=True)
    for browser in browsers:
        assert log_out(browser).headers["Location"].startswith(f"{op.url}/logout?")
    tokens = {grant.refresh_token.reveal() for grant in Grant.objects.all()}

    call_command("partium_clear_grants")
    assert op.calls.count("/revoke") == 4  # it does not answer: they are kept for the next time
    assert Grant.objects.count() == 3

    del op.answers["/revoke"]
    call_command("partium_clear_grants")
    assert set(op.revoked) == tokens
    assert Grant.objects.count() == 0


def test_a_refresh_token_is_not_kept_for_ever_for_a_provider_that_is_gone(
    browser: Browser, op: BendableProvider
) -> None:
    browser.log_in()
    op.answers["/revoke"] = Answer(500)
    log_out(browser)
    Grant.objects.update(revoked_at=ago(8 * 24 * 3600))
    call_command("partium_clear_grants")
    assert Grant.objects.count() == 0


def test_a_login_that_the_provider_or_an_administrator_has_ended_is_revoked_later(
    browser: Browser, op: BendableProvider
) -> None:
    browser.log_in()
    token = Grant.objects.get().refresh_token.reveal()
    assert tell(op).status_code == 200
    call_command("partium_clear_grants")
    assert op.revoked == [token]


ENDINGS: dict[str, Callable[[Identity], object]] = {
    "disconnected": lambda identity: disconnect_identity(identity, actor=None),
    "deleted account": lambda identity: identity.user.delete(),
    "deleted accounts": lambda identity: get_user_model().objects.filter(pk=identity.user_id).delete(),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_login_whose_identity_or_account_is_deleted_is_revoked_later(
    browser: Browser, op: BendableProvider, ending: str
) -> None:
    browser.log_in()
    token = Grant.objects.get().refresh_token.reveal()
    ENDINGS[ending](Identity.objects.get())
    assert not Identity.objects.exists()
    assert Grant.objects.get().revoked_at is not None
    call_command("partium_clear_grants")
    assert op.revoked == [token]
    assert not Grant.objects.exists()


def test_a_login_whose_identity_is_deleted_is_told_to_whom_it_was_at_only(
    browser: Browser, op: BendableProvider, other_op: BendableProvider, settings: Settings
) -> None:
    browser.log_in()
    disconnect_identity(Identity.objects.get(), actor=None)
    settings.OIDC_OP_ISSUER = other_op.url
    call_command("partium_clear_grants")
    assert op.revoked == other_op.revoked == []
    assert "/revoke" not in other_op.calls


@pytest.mark.parametrize("is_revoked_there", [False, True])
def test_a_refresh_that_ends_after_its_login_is_revoked_too(
    browser: Browser, op: BendableProvider, is_revoked_there: bool
) -> None:
    browser.log_in()
    before = Grant.objects.get()

    def log_out_meanwhile(endpoint: str, **kwargs: object) -> None:
        if endpoint == "provider_token":
            grants.revoke(Grant.objects.all())
            if is_revoked_there:
                assert revocation.revoke_at_provider(before)

    Grant.objects.update(issued_at=1.0)
    seen = state.read(before.pk)
    assert seen is not None
    signals.upstream_called.connect(log_out_meanwhile)
    try:
        with pytest.raises(LoginRequired):
            token_manager.obtain(seen)
    finally:
        signals.upstream_called.disconnect(log_out_meanwhile)
    (new,) = op.refresh_tokens
    assert new not in op.revoked
    call_command("partium_clear_grants")
    assert new in op.revoked


@pytest.mark.parametrize("is_late", [False, True])
def test_a_revocation_erases_no_newer_refresh_token(browser: Browser, op: BendableProvider, is_late: bool) -> None:
    """The one of a refresh that ends between the look at the login and the provider's answer."""
    browser.log_in()
    before = Grant.objects.get()
    if is_late:
        Grant.objects.update(generation=2)
    assert revocation.revoke_at_provider(before)
    assert Grant.objects.filter(refresh_token__isnull=False).exists() is is_late


@pytest.mark.parametrize("because", ["down", "offers none"])
def test_a_log_out_that_does_not_reach_the_provider_is_said(
    browser: Browser, op: BendableProvider, because: str
) -> None:
    if because == "offers none":
        op.metadata["end_session_endpoint"] = None
    browser.log_in()
    if because == "down":
        documents.forget()
        op.answers["/.well-known/openid-configuration"] = Answer(500)
    page = browser.client.post("/partium/logout/", follow=True).content.decode()
    assert "You may still be logged in at 127.0.0.1." in page


def test_the_login_page_says_that_the_log_out_worked(browser: Browser, admin_user: Any) -> None:
    browser.client.force_login(admin_user, "django.contrib.auth.backends.ModelBackend")
    page = browser.client.post("/partium/logout/", follow=True).content.decode()
    assert '<div class="partium-alert partium-success" role="status">You are logged out.</div>' in page, "not in red"


# --- front-channel ---------------------------------------------------------------------------------------------------------


def in_frame(**parameters: str) -> Any:
    """What a browser loads in the provider's frame: without the cookies of this site."""
    return Client().get("/partium/frontchannel-logout/default/", parameters)


def test_a_front_channel_log_out_ends_the_session_of_its_sid(op: BendableProvider, others: list[Browser]) -> None:
    response = in_frame(iss=op.issuer, sid="session-2")
    assert response.status_code == 200
    assert "X-Frame-Options" not in response.headers
    assert "no-store" in response.headers["Cache-Control"]
    assert list(Grant.objects.exclude(revoked_at=None).values_list("session_id", flat=True)) == ["session-2"]


@pytest.mark.parametrize("changes", [{"iss": "https://evil.example"}, {"iss": ""}, {"sid": ""}, {"sid": "\0"}])
def test_a_front_channel_log_out_names_issuer_and_session(
    browser: Browser, op: BendableProvider, changes: dict[str, str]
) -> None:
    browser.log_in()
    Grant.objects.update(session_id="")
    assert in_frame(**{"iss": op.issuer, "sid": "session-1", **changes}).status_code == 400
    assert Grant.objects.get().revoked_at is None


def test_logging_out_needs_a_post_with_a_csrf_token(op: BendableProvider, db: None) -> None:
    browser = Browser(op, Client(enforce_csrf_checks=True))
    browser.log_in()
    assert browser.client.get("/partium/logout/").status_code == 405
    assert log_out(browser).status_code == 403
    assert browser.user is not None


def test_a_visitor_who_is_not_logged_in(browser: Browser) -> None:
    assert log_out(browser).headers["Location"] == "/partium/login/"


def test_a_local_session_is_logged_out_without_asking_the_provider(
    browser: Browser, op: BendableProvider, admin_user: Any
) -> None:
    browser.client.force_login(admin_user, "django.contrib.auth.backends.ModelBackend")
    assert log_out(browser).headers["Location"] == "/partium/login/"
    assert op.calls == []


# --- initiated by the provider ---------------------------------------------------------------------------------------------


@pytest.fixture
def others(op: BendableProvider, other_op: BendableProvider, browser: Browser) -> list[Browser]:
    """Sessions that nobody means: another one of the same person, and somebody's at another provider with the same sid."""
    same_person = Browser(op)
    op.changed_claims["sid"] = "session-2"
    same_person.log_in()
    op.changed_claims.clear()
    somebody = Browser(op)
    somebody.log_in(claims={"sub": "bob", "email": "bob@example.com", "sid": "session-3"})
    add_provider(other_op)
    elsewhere = Browser(other_op)
    elsewhere.log_in("other", claims={"email": "other@example.com"})
    return [same_person, somebody, elsewhere]


def test_a_sid_ends_that_session_and_no_other(browser: Browser, op: BendableProvider, others: list[Browser]) -> None:
    browser.log_in()
    response = tell(op)
    assert response.status_code == 200
    assert "no-store" in response.headers["Cache-Control"]
    assert SESSION_KEY not in browser.client.session
    assert all(other.user is not None for other in others)
    assert Grant.objects.exclude(revoked_at=None).get().session_id == "session-1"


def cycle_key(browser: Browser) -> None:
    """Give a session another key, outside of any request that the app could see."""
    kept = browser.client.session
    kept.cycle_key()
    kept.save()
    browser.client.cookies["sessionid"] = str(kept.session_key)


def test_where_there_is_no_session_to_delete_there_is_no_token_any_more(
    browser: Browser, op: BendableProvider, acme: Organization
) -> None:
    browser.log_in(claims={"organizations": ["acme"]})
    assert browser.client.post("/partium/token/").status_code == 200
    cycle_key(browser)
    assert tell(op).status_code == 200
    assert browser.user is not None
    assert browser.client.post("/partium/token/").status_code == 401


def test_a_session_that_got_another_key_is_deleted_once_a_token_was_read_in_it(
    browser: Browser,
    op: BendableProvider,
    acme: Organization,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    browser.log_in(claims={"organizations": ["acme"]})
    cycle_key(browser)
    with django_capture_on_commit_callbacks(execute=True):
        assert browser.client.post("/partium/token/").status_code == 200
    assert tell(op).status_code == 200
    assert browser.user is None


def test_a_sub_ends_all_sessions_of_that_person_at_that_provider(
    browser: Browser, op: BendableProvider, others: list[Browser]
) -> None:
    browser.log_in()
    assert tell(op, op.logout_token(sid=None, sub="ann-1")).status_code == 200
    assert SESSION_KEY not in browser.client.session
    assert [other.user is not None for other in others] == [False, True, True]


def test_a_session_without_a_sid_ends_with_its_sub(
    browser: Browser, op: BendableProvider, others: list[Browser]
) -> None:
    """A provider that names sessions in logout tokens, and did not in the ID token: one log-out too many is no harm."""
    op.changed_claims["sid"] = None
    browser.log_in()
    assert tell(op, op.logout_token(sub="ann-1", sid="session-9")).status_code == 200
    assert browser.user is None
    assert all(other.user is not None for other in others)


def test_sid_and_sub_have_to_belong_together(browser: Browser, op: BendableProvider) -> None:
    browser.log_in()
    assert tell(op, op.logout_token(sub="bob")).status_code == 200
    assert browser.user is not None


def test_a_session_that_is_unknown_is_no_error(browser: Browser, op: BendableProvider) -> None:
    assert tell(op).status_code == 200


def test_a_token_without_exp_counts_from_iat(browser: Browser, op: BendableProvider) -> None:
    browser.log_in()
    assert tell(op, op.logout_token(exp=None)).status_code == 200
    assert browser.user is None


@pytest.mark.parametrize("typ", ["logout+jwt", "JWT", "Logout+JWT", None])
def test_the_type_may_be_given_or_not(browser: Browser, op: BendableProvider, typ: str | None) -> None:
    browser.log_in()
    op.header["typ"] = typ
    assert tell(op).status_code == 200
    assert browser.user is None


def test_a_replayed_token_is_refused(browser: Browser, op: BendableProvider) -> None:
    token = op.logout_token()
    assert tell(op, token).status_code == 200
    browser.log_in()
    assert tell(op, token).status_code == 400
    assert browser.user is not None


def test_used_tokens_are_forgotten_when_they_could_not_be_replayed_any_more(
    browser: Browser, op: BendableProvider
) -> None:
    tell(op)
    first = UsedOnce.objects.get()
    assert first.expires_at.timestamp() == pytest.approx(time.time() + 180, abs=5)
    UsedOnce.objects.update(expires_at="2020-01-01T00:00:00Z")
    tell(op)
    assert UsedOnce.objects.get() != first


def test_a_token_that_lasts_for_ever_is_used_once(browser: Browser, op: BendableProvider) -> None:
    browser.log_in()
    token = op.logout_token(exp=900_000_000_000)  # in a year that no database knows
    assert tell(op, token).status_code == 200
    assert browser.user is None
    assert tell(op, token).status_code == 400


@pytest.mark.parametrize(
    ("check", "changes"),
    [
        ("iss", {"iss": "https://evil.example"}),
        ("iss", {"iss": None}),
        ("aud", {"aud": "somebody else"}),
        ("aud", {"aud": None}),
        ("iat", {"iat": None}),
        ("iat", {"iat": 99_999_999_999}),
        ("exp", {"exp": 1}),
        ("exp", {"exp": None, "iat": 1}),
        ("jti", {"jti": None}),
        ("jti", {"jti": ""}),
        ("events", {"events": None}),
        ("events", {"events": {}}),
        ("events", {"events": {LOGOUT_EVENT: "yes"}}),
        ("events", {"events": [LOGOUT_EVENT]}),
        ("nonce", {"nonce": "anything"}),
        ("sid", {"sid": None}),
        ("sid", {"sid": 7}),
        ("sub", {"sub": ""}),
        ("claims", {"jti": "\ud800"}),
        ("claims", {"sid": "\ud800"}),
        ("claims", {"sid": "session\0"}),
        ("claims", {"sub": "\ud800"}),
    ],
)
def test_a_logout_token_that_is_not_right(
    browser: Browser, op: BendableProvider, caplog: pytest.LogCaptureFixture, check: str, changes: dict[str, Any]
) -> None:
    from tests.oidc.test_refusals import unchecked

    caplog.set_level(logging.INFO, "partium_auth.login")
    browser.log_in()
    caplog.clear()
    used = UsedOnce.objects.count()
    op.sign = lambda claims: unchecked(claims)
    token = op.logout_token(**changes)
    response = tell(op, token)
    assert (response.status_code, response.content) == (400, b"")
    assert browser.user is not None
    assert UsedOnce.objects.count() == used
    (line,) = [r.getMessage() for r in caplog.records if r.name == "partium_auth.login"]
    assert f" check={check} " in line
    assert token not in line


@pytest.mark.parametrize(("token", "check"), [("", "jwt"), ("rubbish", "jwt")])
def test_something_that_is_no_token(
    browser: Browser, op: BendableProvider, caplog: pytest.LogCaptureFixture, token: str, check: str
) -> None:
    assert tell(op, token).status_code == 400
    assert f"check={check}" in caplog.text


def test_a_token_that_json_reads_no_further_is_refused(
    browser: Browser, op: BendableProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may send one. PyJWT before 2.15 lets the exception through."""

    def like_an_older_one(token: str) -> Any:
        raise RecursionError

    monkeypatch.setattr("jwt.get_unverified_header", like_an_older_one)
    assert tell(op, "a.b.c").status_code == 400


def test_an_access_token_is_no_logout_token(browser: Browser, op: BendableProvider) -> None:
    op.header["typ"] = "at+jwt"
    assert tell(op).status_code == 400


def test_an_id_token_is_no_logout_token(browser: Browser, op: BendableProvider) -> None:
    browser.log_in()
    assert tell(op, Grant.objects.get().id_token.reveal()).status_code == 400
    assert browser.user is not None


def test_a_forged_token(browser: Browser, op: BendableProvider) -> None:
    browser.log_in()
    op.key_number = 1
    op.header["kid"] = "RS256-0"
    assert tell(op).status_code == 400
    assert browser.user is not None


def test_a_provider_that_cannot_be_asked_is_told_to_try_again(browser: Browser, op: BendableProvider) -> None:
    op.answers["/jwks"] = Answer(closes=True)
    assert tell(op).status_code == 503


def test_an_unknown_provider(browser: Browser, op: BendableProvider) -> None:
    assert tell(op, slug="nope").status_code == 400


def test_only_posts(browser: Browser) -> None:
    assert browser.client.get("/partium/backchannel-logout/default/").status_code == 405
