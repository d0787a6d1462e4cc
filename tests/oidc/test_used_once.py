"""A ``state`` logs in once, also when six callbacks come at the same moment with the same cookie."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth import SESSION_KEY
from django.db import connections
from django.test import Client

from partium_auth.models import Grant
from tests.oidc.conftest import Browser
from tests.oidc.provider import BendableProvider


@pytest.mark.django_db(transaction=True)
def test_six_callbacks_at_once_are_one_login(op: BendableProvider) -> None:
    browser = Browser(op)
    answer = op.authorize(browser.start())
    together = threading.Barrier(6)

    def come_back() -> bool:
        client = Client()
        client.cookies = browser.client.cookies.copy()  # type: ignore[assignment]
        together.wait(30)
        try:
            client.get("/partium/callback/default/", answer)
            return SESSION_KEY in client.session
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as threads:
        logged_in = list(threads.map(lambda _: come_back(), range(6)))
    assert logged_in.count(True) == 1
    assert len(op.forms) == 1  # the code was sent once
    assert Grant.objects.count() == 1
