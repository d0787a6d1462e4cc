"""People who are logged in, for tests: their tokens come from the sandbox, over real HTTP."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.http import HttpRequest
from django.test import Client
from django.utils import timezone

from partium_auth.accounts import sessions
from partium_auth.host import upstream
from partium_auth.models import Grant, Membership, Organization, Role
from partium_auth.tokens.verified_login import VerifiedLogin

if TYPE_CHECKING:
    from partium_auth.testing.sandbox import PartiumSandbox


@dataclass(frozen=True)
class PartiumUser:
    """Somebody who is logged in.

    Args:
        user: the row of the host's user model.
        organization: the session's active organization.
        client: a Django test client with the person's session.
        grant: what the session's access tokens come from.
    """

    user: Any
    organization: Organization
    client: Client
    grant: Grant


def log_in(sandbox: PartiumSandbox, username: str, org_id: str, *, role: Role = Role.MEMBER) -> PartiumUser:
    """Make a person, a member of an organization, and log them in with Partium user name and password.

    Args:
        sandbox: where ``PARTIUM_API_URL`` points to.
        username: at Partium and in Django; made in both if need be.
        org_id: an organization of the sandbox; its row is made if need be.
        role: in that organization.
    """
    password = secrets.token_urlsafe(12)
    sandbox.add_user(username, password, org_id)
    organization, _ = Organization.objects.get_or_create(org_id=org_id)
    users = get_user_model()
    named: dict[str, Any] = {users.USERNAME_FIELD: username}
    user, _ = users._default_manager.get_or_create(**named)
    Membership.objects.update_or_create(user=user, organization=organization, defaults={"role": role})

    client = Client()
    client.force_login(user, backend=settings.AUTHENTICATION_BACKENDS[0])
    request = HttpRequest()
    request.session = client.session
    request.user = user
    issued_at = timezone.now()
    tokens = upstream.authentication_api().exchange_password(username, password)
    login = VerifiedLogin(Grant.Kind.PASSWORD, {}, tokens, issued_at, user=user)
    grant = sessions.begin(request, login, org_id=org_id)
    request.session.save()
    return PartiumUser(user, organization, client, grant)
