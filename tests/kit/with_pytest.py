"""The tests of the same site, with pytest-django."""

from __future__ import annotations

from typing import Any

import pytest

import partium_auth
from partium_auth import services
from partium_auth.models import Organization
from partium_auth.testing import PartiumUser, log_in
from partium_auth.testing.sandbox import PartiumSandbox


def test_the_fixture(partium_user: PartiumUser) -> None:
    assert partium_user.client.get("/parts/?q=fan").json()["parts"]


@pytest.mark.django_db
def test_a_key_in_the_tests_transaction(partium_sandbox: PartiumSandbox) -> None:
    acme = Organization.objects.create(org_id="acme", token_source=Organization.TokenSource.API_KEY)
    services.add_key(acme, partium_sandbox.add_key("acme"), label="x", actor=None)
    assert partium_auth.for_organization("acme").search(text="fan").results


def test_another_person(db: None, partium_sandbox: PartiumSandbox, settings: Any) -> None:
    assert settings.PARTIUM_EXECUTOR == "inline"
    assert log_in(partium_sandbox, "bob@x.example", "globex").client.get("/parts/?q=fan").status_code == 200
