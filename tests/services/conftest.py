from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import get_user_model

from partium_auth.models import Membership, Organization, Origin, Role
from partium_auth.testing.sandbox import PartiumSandbox


@pytest.fixture
def acme(db: None, partium_sandbox: PartiumSandbox) -> Organization:
    return Organization.objects.create(org_id="acme", display_name="Acme")


@pytest.fixture
def globex(db: None, partium_sandbox: PartiumSandbox) -> Organization:
    return Organization.objects.create(org_id="globex", display_name="Globex")


@pytest.fixture
def person(db: None) -> Callable[..., Any]:
    """Make a person, with a role in an organization if one is given."""

    def make(name: str, organization: Organization | None = None, role: str = Role.DEVELOPER, **fields: Any) -> Any:
        user = get_user_model().objects.create_user(name, f"{name}@example.com", "pw", **fields)
        if organization is not None:
            Membership.objects.create(user=user, organization=organization, role=role, origin=Origin.CLAIMS)
        return user

    return make
