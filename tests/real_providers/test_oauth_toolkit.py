"""What only django-oauth-toolkit does; docs/providers.md says it. ``make providers`` runs these tests."""

from __future__ import annotations

import pytest
import requests

from partium_auth.models import Grant
from tests.real_providers.conftest import with_providers
from tests.real_providers.oauth_toolkit_provider import OAuthToolkit
from tests.real_providers.test_every_provider import expire_token, has_ended, lose_refresh_token, shows
from tests.real_providers.visitor import Visitor

pytestmark = [pytest.mark.providers, pytest.mark.django_db(transaction=True), with_providers(OAuthToolkit)]


@pytest.fixture
def approval(provider: OAuthToolkit) -> None:
    """The application asks people whether they agree."""
    provider.operate("ask_for_approval")


def asks_for_approval(page: requests.Response) -> bool:
    return 'id="authorizationForm"' in page.text


def test_who_declines_reads_that_the_login_was_cancelled(
    provider: OAuthToolkit, approval: None, visitor: Visitor
) -> None:
    page = provider.log_in(visitor)
    assert asks_for_approval(page)
    page = visitor.submit(page)
    assert (page.status_code, "The login was cancelled" in page.text) == (403, True)


def test_approval_is_asked_again_after_a_log_out(provider: OAuthToolkit, approval: None, visitor: Visitor) -> None:
    """``auto`` remembers an approval as long as an access token lives; a log-out deletes them all."""
    shows(visitor.submit(provider.log_in(visitor), allow="Authorize"), "ann@example.com")
    visitor.forget_the_site()
    shows(visitor.open_login(), "ann@example.com")
    visitor.log_out()
    assert asks_for_approval(provider.log_in(visitor))


def test_a_silent_login_is_refused_where_approval_is_asked(
    provider: OAuthToolkit, approval: None, visitor: Visitor
) -> None:
    visitor.submit(provider.log_in(visitor), allow="Authorize")
    lose_refresh_token()
    page = visitor.get("/page/token/")  # asked for again, without prompt=none, it is remembered
    assert any("error=consent_required" in step.url for step in page.history)
    shows(page, "ann@example.com")


def test_a_log_out_ends_the_persons_other_logins_too(provider: OAuthToolkit, visitor: Visitor) -> None:
    """It deletes all tokens of the person: what the other browser holds is worth nothing at its next refresh."""
    other = Visitor(visitor.site)
    provider.log_in(other)
    login = Grant.objects.get()
    provider.log_in(visitor)
    visitor.log_out()
    expire_token()
    other.get("/page/token/")
    assert has_ended(login)
