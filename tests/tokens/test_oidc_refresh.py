"""The grant of an OIDC login is refreshed at its provider's token endpoint (RFC 6749 §6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_django import Settings

from partium_auth.accounts import error_texts
from partium_auth.exceptions import LoginRequired, TokenUnavailable
from partium_auth.models import Grant, Identity, IdentityProvider
from partium_auth.models.identities import identity_digest
from partium_auth.oidc import documents
from partium_auth.tokens.manager import TokenManager
from tests.oidc.conftest import add_provider, other_op, other_provider_server  # noqa: F401
from tests.oidc.provider import Answer, BendableProvider
from tests.tokens.conftest import age, let_time_pass, read

pytestmark = pytest.mark.django_db(transaction=True)
MakeGrant = Callable[..., Grant]


def answer(op: BendableProvider, **changes: Any) -> Answer:
    """A token response with members changed, or left out (None)."""
    members = {**op.tokens(), **changes}
    return Answer(body={name: value for name, value in members.items() if value is not None})


def refresh(token_manager: TokenManager, grant: Grant) -> Grant:
    assert token_manager.obtain(age(grant, 0))
    return Grant.objects.get(pk=grant.pk)


def test_a_rotated_refresh_token_replaces_the_old_one(
    token_manager: TokenManager, oidc_grant: MakeGrant, op: BendableProvider
) -> None:
    grant = oidc_grant()
    old = grant.refresh_token.reveal()
    for generation in (2, 3, 4):
        refreshed = refresh(token_manager, grant)
        assert refreshed.generation == generation
        assert refreshed.refresh_token.reveal() in op.refresh_tokens
    assert [form["grant_type"] for form in op.forms] == ["refresh_token"] * 3
    assert op.forms[0]["refresh_token"] == old
    assert not refreshed.reusable


def test_rotation_is_learnt_from_several_answers_and_forgotten_at_the_first_contrary_one(
    token_manager: TokenManager, oidc_grant: MakeGrant, op: BendableProvider
) -> None:
    """Dex gives back the same token within three seconds, and another one after."""
    grant = oidc_grant()
    old = grant.refresh_token.reveal()
    seen = []
    for token in (None, old, None):
        op.answers["/token"] = answer(op, refresh_token=token)
        refreshed = refresh(token_manager, grant)
        assert refreshed.refresh_token.reveal() == old
        seen.append(refreshed.reusable)
    assert seen == [False, False, True]
    op.answers["/token"] = answer(op)
    assert not refresh(token_manager, grant).reusable


def test_what_the_operator_says_of_rotation_stays(
    token_manager: TokenManager, oidc_grant: MakeGrant, op: BendableProvider, settings: Settings
) -> None:
    settings.OIDC_REFRESH_TOKENS_REUSABLE = True
    grant = oidc_grant()
    for token in (None, None, None, None, "another"):
        op.answers["/token"] = answer(op, refresh_token=token)
        assert refresh(token_manager, grant).reusable


@pytest.mark.parametrize(("lifetime", "seconds"), [(None, 600), (3600, 3600), (60, 60), ("120", 120)])
def test_the_lifetime_may_be_missing_or_change(
    token_manager: TokenManager, oidc_grant: MakeGrant, op: BendableProvider, lifetime: Any, seconds: int
) -> None:
    grant = oidc_grant()
    op.answers["/token"] = answer(op, expires_in=lifetime)
    assert refresh(token_manager, grant).lifetime_seconds == seconds


def test_a_narrowed_scope_is_taken_as_it_is(
    token_manager: TokenManager, oidc_grant: MakeGrant, op: BendableProvider
) -> None:
    op.answers["/token"] = answer(op, scope="openid")
    assert refresh(token_manager, oidc_grant()).generation == 2


def test_invalid_grant_is_the_end_and_names_the_provider(
    token_manager: TokenManager, oidc_grant: MakeGrant, op: BendableProvider
) -> None:
    grant = oidc_grant()
    op.refresh_tokens.clear()
    assert token_manager.obtain(age(grant, 30)).generation == 1
    with pytest.raises(LoginRequired) as caught:
        token_manager.obtain(age(grant, 5))
    assert caught.value.provider == "default"  # which may log the person in again silently
    assert len(op.forms) == 1
    assert Grant.objects.get().refresh_token is None


def identify(grant: Grant, op: BendableProvider) -> None:
    """Store who logged in at the provider, as a login does."""
    assert grant.user is not None
    digest = identity_digest(op.issuer, "ann")
    identity = Identity.objects.create(issuer=op.issuer, subject="ann", digest=digest, user=grant.user)
    Grant.objects.update(identity=identity)


@pytest.mark.parametrize(
    ("changes", "whose"),
    [({}, "ann"), ({"sub": "bob"}, "bob"), ({"sub": None}, "bob"), ({"iss": "https://evil.example"}, "bob")],
)
def test_tokens_of_somebody_else_are_not_taken(
    token_manager: TokenManager,
    oidc_grant: MakeGrant,
    op: BendableProvider,
    caplog: pytest.LogCaptureFixture,
    changes: dict[str, Any],
    whose: str,
) -> None:
    """A provider, or a cache in front of it, that mixes people up (Core §12.2)."""
    grant = oidc_grant()
    identify(grant, op)
    claims = {"iss": op.issuer, "sub": "ann", **changes}
    id_token = op.sign({name: value for name, value in claims.items() if value is not None})
    op.answers["/token"] = answer(op, id_token=id_token)
    if whose == "ann":
        assert refresh(token_manager, grant).generation == 2
        return
    assert token_manager.obtain(age(grant, 30)).generation == 1  # what is left of the person's own
    with pytest.raises(LoginRequired):
        token_manager.obtain(age(grant, 5))
    assert Grant.objects.get().refresh_token is None
    assert "somebody else" in caplog.text
    assert id_token not in caplog.text


def test_a_refresh_token_goes_to_whom_it_came_from_only(
    token_manager: TokenManager,
    oidc_grant: MakeGrant,
    op: BendableProvider,
    other_op: BendableProvider,  # noqa: F811
    settings: Settings,
) -> None:
    """The site has moved to another provider, in the settings or in a row of the same name."""
    grant = oidc_grant()
    identify(grant, op)
    settings.OIDC_OP_ISSUER = other_op.url
    with pytest.raises(LoginRequired):
        token_manager.obtain(age(grant, 0))
    assert (op.forms, other_op.forms) == ([], [])


def test_an_id_token_that_nobody_can_read_says_nothing(
    token_manager: TokenManager, oidc_grant: MakeGrant, op: BendableProvider
) -> None:
    grant = oidc_grant()
    identify(grant, op)
    op.answers["/token"] = answer(op, id_token="encrypted.for.some.other.client")
    assert refresh(token_manager, grant).generation == 2


@pytest.mark.parametrize(
    "answer",
    [
        *(
            Answer(401, {"error": error})
            for error in ("invalid_client", "unauthorized_client", "unsupported_grant_type")
        ),
        *(
            Answer(status, b"<html>invalid_grant</html>", "text/html") for status in (400, 401, 403)
        ),  # a firewall's page
    ],
)
def test_what_is_the_operators_to_mend_logs_nobody_out(
    token_manager: TokenManager, oidc_grant: MakeGrant, op: BendableProvider, answer: Answer
) -> None:
    # Only invalid_grant is about this person's refresh token.
    grant = oidc_grant()
    op.answers["/token"] = answer
    with pytest.raises(TokenUnavailable):
        token_manager.obtain(age(grant, 0))
    del op.answers["/token"]
    let_time_pass()
    assert token_manager.obtain(read(grant)).generation == 2


def test_a_client_that_the_provider_refuses_is_one_error_in_the_log_and_keeps_its_refresh_tokens(
    token_manager: TokenManager, oidc_grant: MakeGrant, op: BendableProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """``invalid_request`` where DPoP was switched on at the provider by mistake."""
    grant = oidc_grant()
    op.answers["/token"] = Answer(400, {"error": "invalid_request"})
    for _ in range(2):
        with pytest.raises(TokenUnavailable) as caught:
            token_manager.obtain(age(grant, 0))
        let_time_pass()
        assert caught.value.upstream == "oidc:default"
        assert caught.value.is_misconfigured
        assert error_texts.of_error(caught.value).code == "misconfigured"
    assert [r.levelname for r in caplog.records if "invalid_request" in r.getMessage()].count("ERROR") == 1
    del op.answers["/token"]
    assert token_manager.obtain(read(grant)).generation == 2


def test_an_outage_of_the_provider_is_not_called_one_of_partium(
    token_manager: TokenManager, oidc_grant: MakeGrant, op: BendableProvider
) -> None:
    op.answers["/token"] = Answer(503)
    with pytest.raises(TokenUnavailable) as caught:
        token_manager.obtain(age(oidc_grant(), 0))
    assert "Partium" not in str(error_texts.of_error(caught.value).title)


@pytest.mark.parametrize("refusal", [Answer(401, {"error": "invalid_client"}), Answer(400)])
def test_a_refusal_of_our_registration_or_of_whoever_is_in_between_ends_no_login_however_often_it_comes(
    token_manager: TokenManager, oidc_grant: MakeGrant, op: BendableProvider, refusal: Answer
) -> None:
    op.answers["/token"] = refusal
    grant = oidc_grant()
    Grant.objects.update(failures=1000)
    with pytest.raises(TokenUnavailable):
        token_manager.obtain(age(grant, 0))
    assert not read(grant).rejected


@pytest.mark.parametrize("status", [500, 401])
def test_a_provider_whose_discovery_fails_has_not_been_sent_anything(
    token_manager: TokenManager, oidc_grant: MakeGrant, op: BendableProvider, settings: Settings, status: int
) -> None:
    # A 401 to something else refuses no refresh token.
    grant = oidc_grant()
    op.answers["/.well-known/openid-configuration"] = Answer(status)
    documents.forget()
    with pytest.raises(TokenUnavailable):
        token_manager.obtain(age(grant, 0))
    assert not read(grant).outcome_unknown
    assert not read(grant).rejected
    assert op.forms == []


def test_a_process_that_lacks_the_providers_settings_ends_no_login(
    token_manager: TokenManager, oidc_grant: MakeGrant, op: BendableProvider, settings: Settings
) -> None:
    """A worker that was started with another environment than the site."""
    grant, client_id = oidc_grant(), settings.OIDC_RP_CLIENT_ID
    settings.OIDC_RP_CLIENT_ID = ""
    with pytest.raises(TokenUnavailable):
        token_manager.obtain(age(grant, 0))
    assert not read(grant).rejected
    settings.OIDC_RP_CLIENT_ID = client_id
    let_time_pass()
    assert token_manager.obtain(read(grant)).generation == 2


def test_no_outage_of_a_provider_ends_a_login_however_long(
    token_manager: TokenManager, oidc_grant: MakeGrant, op: BendableProvider
) -> None:
    grant = oidc_grant()
    seen = age(grant, 0)
    for status in (500, 502, 503, 504, 429, 404, 403, 401, 400, 301, 200):
        Grant.objects.update(failures=1000)
        let_time_pass()
        op.answers["/token"] = Answer(status, b"<html>Maintenance</html>", "text/html")
        with pytest.raises(TokenUnavailable):
            token_manager.obtain(seen)
    del op.answers["/token"]
    let_time_pass()
    assert token_manager.obtain(read(grant)).generation == 2


def test_a_login_without_a_refresh_token_lives_as_long_as_its_access_token(
    token_manager: TokenManager, oidc_grant: MakeGrant, op: BendableProvider
) -> None:
    grant = oidc_grant()
    Grant.objects.update(refresh_token=None)
    for seconds_left in (300, 100, 30):
        assert token_manager.obtain(age(grant, seconds_left)).generation == 1
    with pytest.raises(LoginRequired):
        token_manager.obtain(age(grant, 5))
    assert op.forms == []


def test_a_provider_that_is_not_active_for_a_while_ends_no_login(
    token_manager: TokenManager, oidc_grant: MakeGrant, op: BendableProvider
) -> None:
    row = add_provider(op)
    grant = oidc_grant(row.slug)
    rows = IdentityProvider.objects.filter(pk=row.pk)
    rows.update(is_active=False)
    with pytest.raises(TokenUnavailable):
        token_manager.obtain(age(grant, 0))
    assert not read(grant).rejected
    rows.update(is_active=True)
    let_time_pass()
    assert token_manager.obtain(read(grant)).generation == 2


def test_the_error_of_a_login_whose_provider_was_replaced_says_so(
    token_manager: TokenManager, oidc_grant: MakeGrant, op: BendableProvider, settings: Settings
) -> None:
    grant = oidc_grant()
    before = {"issuer": "https://before.example", "subject": "olga"}
    identity = Identity.objects.create(**before, digest=identity_digest(**before), user_id=grant.user_id)  # type: ignore[misc]
    Grant.objects.update(identity=identity)
    for _ in range(2):
        with pytest.raises(LoginRequired, match="another one"):
            token_manager.obtain(age(grant, 0))
    assert op.forms == []
