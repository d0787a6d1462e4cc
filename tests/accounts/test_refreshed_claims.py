"""A refresh brings a new ID token: the newest hint for a log-out, and what the provider says of the person today."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

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
