"""What only Keycloak does; docs/providers.md says it. ``make providers`` runs these tests."""

from __future__ import annotations

from typing import Any

import pytest

from partium_auth.models import Grant
from tests.demo.processes import eventually
from tests.real_providers.conftest import with_providers
from tests.real_providers.keycloak import Keycloak
from tests.real_providers.test_every_provider import expire_token, lose_refresh_token, roles
from tests.real_providers.visitor import Visitor

pytestmark = [pytest.mark.providers, pytest.mark.django_db(transaction=True), with_providers(Keycloak)]


def test_its_own_events_count_as_many_refreshes_as_this_site(provider: Keycloak, visitor: Visitor) -> None:
    provider.log_in(visitor)
    expire_token()
    visitor.get("/page/token/")
    assert provider.count("REFRESH_TOKEN") == 1


def test_a_disabled_person_reads_so_there(provider: Keycloak, visitor: Visitor) -> None:
    provider.log_in(visitor)
    provider.disable()
    expire_token()
    assert visitor.get("/page/token/").url.startswith(f"{visitor.site}/partium/login/")
    assert "disabled" in visitor.submit(visitor.open_login(), username="ann").text


def test_roles_that_only_userinfo_has_are_kept_at_a_refresh(provider: Keycloak, visitor: Visitor) -> None:
    with provider.roles_in_userinfo_only():
        provider.log_in(visitor)
        assert roles() == {"acme": "developer", "globex": "member"}
        provider.leave("globex")
        expire_token()
        visitor.get("/page/token/")
        eventually(lambda: "globex" not in roles(), lambda: str(roles()))
        assert roles() == {"acme": "developer"}


@pytest.mark.browser
def test_eight_tabs_in_a_browser_and_three_silent_logins_at_once(
    provider: Keycloak, live_server: Any, chromium: Any, visitor: Visitor
) -> None:
    provider.log_in(visitor)  # a server that has just started is slow
    visitor.log_out()
    context = chromium.new_context()
    try:
        tabs = {f"/page/tab{number}/": context.new_page() for number in range(8)}
        for path, page in tabs.items():
            page.goto(f"{live_server.url}/partium/login/default/?next={path}")
        first = tabs["/page/tab0/"]
        first.fill("#username", "ann")
        first.click("#kc-login")
        first.fill("#password", "demo")
        first.click("#kc-login")
        for path, page in tabs.items():
            page.wait_for_url(f"{live_server.url}{path}", timeout=60_000)
            assert page.inner_text("#who") == "ann@example.com"
        assert Grant.objects.filter(revoked_at=None).count() == 1

        lose_refresh_token()
        three = [context.new_page() for _ in range(3)]
        for page in three:  # all three are under way at once
            page.evaluate("url => setTimeout(() => location.assign(url))", f"{live_server.url}/page/token/")
        for page in three:
            page.wait_for_url(f"{live_server.url}/page/token/", timeout=60_000)
            page.wait_for_selector("#who", timeout=60_000)
            assert page.inner_text("#who") == "ann@example.com"
    finally:
        context.close()
