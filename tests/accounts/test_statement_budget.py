"""How many SQL statements a login takes: the whole callback request, session in the database, default settings."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from partium_auth.models import Organization
from tests.oidc.conftest import Browser
from tests.oidc.provider import BendableProvider

FIRST_LOGIN_STATEMENTS = 24
LATER_LOGIN_STATEMENTS = 15
"""As Django's CaptureQueriesContext counts them on SQLite: each BEGIN, SAVEPOINT and RELEASE SAVEPOINT is one; so is the event."""


def statements_of_callback(browser: Browser, **claims: Any) -> list[str]:
    answer = browser.op.authorize(browser.start(), **claims)
    with CaptureQueriesContext(connection) as captured:
        response = browser.come_back(answer)
    assert response.status_code == 302, response.content.decode()
    return [query["sql"] for query in captured.captured_queries]


def assert_within(budget: int, statements: list[str]) -> None:
    listed = "\n".join(f"{number:3} {sql[:200]}" for number, sql in enumerate(statements, 1))
    assert len(statements) <= budget, f"{len(statements)} statements, {budget} allowed:\n{listed}"


@pytest.mark.django_db(transaction=True)
def test_a_login_stays_within_its_budget_of_statements(op: BendableProvider) -> None:
    Organization.objects.create(org_id="acme")
    claims = {"organizations": ["acme"], "roles": ["developer"]}
    assert_within(FIRST_LOGIN_STATEMENTS, statements_of_callback(Browser(op), **claims))
    assert_within(LATER_LOGIN_STATEMENTS, statements_of_callback(Browser(op), **claims))
