"""A login page without any way to log in."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

BACKEND = "django.contrib.auth.backends.ModelBackend"
HINT = "OIDC_OP_DISCOVERY_ENDPOINT"


@pytest.fixture(autouse=True)
def _nothing_is_set_up(settings: Settings) -> None:
    settings.AUTHENTICATION_BACKENDS = [BACKEND]
    settings.LOGIN_URL = "partium_auth:login"


@pytest.mark.parametrize("debug", [True, False])
def test_only_while_debug_is_on_the_page_tells_the_sites_developer_what_to_do(
    client: Client, settings: Settings, db: None, debug: bool
) -> None:
    settings.DEBUG = debug
    page = client.get("/partium/login/").content.decode()
    assert "No login has been set up here yet" in page
    assert (HINT in page) == debug
    assert ("partium_doctor" in page) == debug


def test_who_is_logged_in_elsewhere_can_log_out(client: Client, settings: Settings, admin_user: Any) -> None:
    settings.LOGIN_URL = "admin:login"
    client.force_login(admin_user, BACKEND)
    response = client.get("/partium/login/")
    page = response.content.decode()
    assert response.status_code == 200
    assert "You are logged in as admin." in page
    assert 'action="/partium/logout/"' in page
    client.post("/partium/logout/")
    assert "_auth_user_id" not in client.session
