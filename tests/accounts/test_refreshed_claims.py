"""A refresh brings a new ID token: the newest hint for a log-out, and what the provider says of the person today."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db import OperationalError, connection

from partium_auth import signals
from partium_auth.accounts import memberships_from_claims
from partium_auth.models import Grant, Membership, Organization
from partium_auth.models.database import database_alias
from partium_auth.tokens import state
from partium_auth.tokens.manager import token_manager
from tests.oidc.conftest import Browser
from tests.oidc.provider import Answer, BendableProvider, Code, jwk

pytestmark = pytest.mark.django_db


def refresh(op: BendableProvider, **claims: Any) -> str:
    """Refresh the only grant; the answer has an ID token with these claims (None: left out)."""
    grant = Grant.objects.using(database_alias()).get()
    tokens = op.tokens()
    code = Code({"nonce": None}, {**op.claims, **claims})  # type: ignore[dict-item]  # a refresh has no nonce
    id_token = op.sign(op.id_token_claims(code, tokens["access_token"]))
    op.answers["/token"] = Answer(body={**tokens, "id_token": id_token})
    Grant.objects.update(issued_at=grant.issued_at - 600 if grant.issued_at else None)
    seen = state.read(grant.pk)
    assert seen is not None
    assert token_manager.obtain(seen).generation == grant.generation + 1
    return id_token


def roles() -> dict[str, str]:
    return dict(Membership.objects.values_list("organization__org_id", "role"))


def hint_at_log_out(browser: Browser) -> str:
    url = browser.client.post("/partium/logout/").headers["Location"]
    return parse_qs(urlsplit(url).query)["id_token_hint"][0]


def test_the_newest_id_token_is_the_hint_of_the_log_out(browser: Browser, op: BendableProvider) -> None:
    """Spring Authorization Server knows no other; Keycloak and Hydra refuse one whose key is gone."""
    browser.log_in()
    refresh(op)
    newest = refresh(op)
    assert hint_at_log_out(browser) == newest


def test_an_id_token_that_cannot_be_verified_is_no_hint_and_no_failure(
    browser: Browser, op: BendableProvider, caplog: pytest.LogCaptureFixture
) -> None:
    browser.log_in()
    old = Grant.objects.get().id_token.reveal()
    op.jwks = [jwk("RS256", 0)]
    op.key_number = 7  # its key is not published
    assert refresh(op) not in caplog.text
    assert hint_at_log_out(browser) == old
    assert "is not used: kid" in caplog.text


def test_whoever_leaves_an_organization_at_the_provider_leaves_it_here(
    browser: Browser, op: BendableProvider, acme: Organization, globex: Organization
) -> None:
    browser.log_in(claims={"organizations": ["acme"], "roles": ["partium-developer"]})
    before = roles()
    assert set(before) == {"acme"}
    refresh(op, organizations=["globex"], roles=[])
    assert roles() == {"globex": "member"}


@pytest.mark.parametrize("claims", [{}, {"organizations": ["acme"]}])
def test_a_claim_that_is_missing_changes_nothing(
    browser: Browser, op: BendableProvider, acme: Organization, settings: Any, claims: dict[str, Any]
) -> None:
    """A login may have had it from userinfo, which a refresh does not ask."""
    settings.PARTIUM_DEVELOPER_ROLES = ["dev"]
    browser.log_in(claims={"organizations": ["acme"], "roles": ["dev"]})
    assert roles() == {"acme": "developer"}
    refresh(op, **claims)
    assert roles() == {"acme": "developer"}


def test_a_role_that_ended_at_the_provider_ends_here(
    browser: Browser, op: BendableProvider, acme: Organization, settings: Any
) -> None:
    settings.PARTIUM_DEVELOPER_ROLES = ["dev"]
    browser.log_in(claims={"organizations": ["acme"], "roles": ["dev"]})
    refresh(op, roles=[])
    assert roles() == {"acme": "member"}


@pytest.mark.django_db(transaction=True)
def test_a_database_error_while_the_id_token_is_kept_is_no_failed_refresh(
    browser: Browser, op: BendableProvider, caplog: pytest.LogCaptureFixture
) -> None:
    browser.log_in()
    told: list[object] = []

    def fail(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("UPDATE") and f"{connection.ops.quote_name('id_token')} = %s" in sql.partition("WHERE")[0]:
            raise OperationalError("the connection is lost")
        return execute(sql, params, many, context)

    def hear(grant_id: object, **kwargs: object) -> None:
        told.append(grant_id)

    signals.token_refreshed.connect(hear)
    try:
        with connection.execute_wrapper(fail):
            refresh(op)
    finally:
        signals.token_refreshed.disconnect(hear)
    assert told == [Grant.objects.get().pk]
    assert "failed" not in caplog.text
    assert "The ID token of a refresh at default is not used: OperationalError" in caplog.text


def refusing_claims(claims: dict[str, Any], provider: object) -> dict[str, Any]:
    if claims.get("has_left"):
        raise PermissionDenied
    return claims


def test_whom_the_site_refuses_at_a_refresh_loses_the_login_and_what_the_claims_gave(
    browser: Browser, op: BendableProvider, acme: Organization, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.PARTIUM_CLAIMS = f"{__name__}.refusing_claims"
    settings.PARTIUM_STAFF_ROLES = ["staff"]
    browser.log_in(claims={"organizations": ["acme"], "roles": ["staff"]})
    assert roles() == {"acme": "member"}
    assert get_user_model().objects.get().is_staff
    refresh(op, has_left=True)
    assert roles() == {}
    assert not get_user_model().objects.get().is_staff
    assert Grant.objects.get().revoked_at is not None
    assert browser.user is None
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert "ended" in caplog.text


def test_what_the_claims_gave_is_not_kept_for_good_where_the_database_fails_meanwhile(
    browser: Browser, op: BendableProvider, acme: Organization, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.PARTIUM_CLAIMS = f"{__name__}.refusing_claims"
    browser.log_in(claims={"organizations": ["acme"]})

    def fail(*_args: object, **_kwargs: object) -> None:
        raise OperationalError("the connection is lost")

    with monkeypatch.context() as patch:
        patch.setattr(memberships_from_claims, "withdraw", fail)
        refresh(op, has_left=True)
    assert roles() == {"acme": "member"}
    refresh(op, has_left=True)
    assert roles() == {}
    assert Grant.objects.get().revoked_at is not None


def test_a_role_that_only_userinfo_has_is_read_at_a_login_and_kept_at_a_refresh(
    browser: Browser, op: BendableProvider, acme: Organization, globex: Organization
) -> None:
    op.userinfo_claims |= {"roles": ["developer"]}
    browser.log_in(claims={"organizations": ["acme", "globex"]})
    assert roles() == {"acme": "developer", "globex": "developer"}
    refresh(op, organizations=["globex"], roles=[])  # what userinfo had is unknown, not empty
    assert roles() == {"globex": "developer"}


def test_keycloak_groups_that_only_userinfo_has_are_kept_at_a_refresh(
    browser: Browser, op: BendableProvider, acme: Organization, globex: Organization, settings: Any
) -> None:
    settings.PARTIUM_CLAIMS = "partium_auth.contrib.claims.keycloak"
    op.userinfo_claims |= {"groups": ["/globex"]}
    browser.log_in(claims={"organization": ["acme"]})
    assert set(roles()) == {"acme", "globex"}
    refresh(op, organization=["acme"])
    assert set(roles()) == {"acme", "globex"}


def test_a_login_without_the_roles_of_before_says_so(
    browser: Browser, op: BendableProvider, acme: Organization, caplog: pytest.LogCaptureFixture
) -> None:
    op.claims["organizations"] = ["acme"]
    browser.log_in(claims={"roles": ["developer"]})
    browser.log_in()
    assert roles() == {"acme": "member"}
    assert "makes a developer a member: the claim 'roles' (PARTIUM_ROLES_CLAIM) is missing" in caplog.text
