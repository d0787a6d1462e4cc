"""With ``DEBUG`` on, the page that Django shows for an error hides the secret that was posted."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_django import Settings

from partium_auth.testing.sandbox import PartiumSandbox
from tests.admin.conftest import Tenant
from tests.admin.posted_secrets import VIEWS, assert_hidden, failing_browser, post

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("view", VIEWS)
def test_a_posted_secret(
    ours: Tenant,
    root: Any,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    partium_sandbox: PartiumSandbox,
    view: str,
) -> None:
    settings.DEBUG = True
    response, secret = post(failing_browser(root, monkeypatch), ours, partium_sandbox, view)
    assert_hidden(response.content.decode(), response, secret)
