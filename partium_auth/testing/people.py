"""People who are logged in, for tests: their tokens come from the sandbox, over real HTTP."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.db import models
from django.http import HttpRequest
from django.test import Client
from django.utils import timezone

from partium_auth.accounts import sessions
from partium_auth.host import upstream
from partium_auth.models import Grant, Membership, Organization, Role
from partium_auth.testing.sandbox import ACME
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


def log_in(
    sandbox: PartiumSandbox,
    username: str = "",
    org_id: str = ACME,
    *,
    role: Role = Role.MEMBER,
    user: Any = None,
    client: Client | None = None,
) -> PartiumUser:
    """Make a person, a member of an organization, and log them in with Partium user name and password.

    Args:
        sandbox: where ``PARTIUM_API_URL`` points to.
        username: at Partium and in Django; made in both if need be. Default: the user's.
        org_id: an organization of the sandbox; its row is made if need be.
        role: in that organization.
        user: a user of the site's own making, for user models that this function cannot fill.
        client: the test client to log in; default: a new one.

    Raises:
        ValueError: neither a user name nor a user, or a required field of the user model that only the site can fill.
    """
    if user is None:
        user = _user(username)
    username = username or user.get_username()
    password = secrets.token_urlsafe(12)
    sandbox.add_user(username, password, org_id)
    organization, _ = Organization.objects.get_or_create(org_id=org_id)
    Membership.objects.update_or_create(user=user, organization=organization, defaults={"role": role})

    client = client or Client()
    client.force_login(user)  # through the first backend that has users; django-axes' has none
    request = HttpRequest()
    request.session = client.session
    request.user = user
    issued_at = timezone.now()
    tokens = upstream.authentication_api().exchange_password(username, password)
    login = VerifiedLogin(Grant.Kind.PASSWORD, {}, tokens, issued_at, user=user)
    grant = sessions.begin(request, login, org_id=org_id)
    request.session.save()
    return PartiumUser(user, organization, client, grant)


def _user(username: str) -> Any:
    """Return the user of this name, made by the manager of the site's user model if need be."""
    if not username:
        raise ValueError('Name the person: log_in(sandbox, "ann"), or log_in(sandbox, user=user).')
    model: Any = get_user_model()
    named = {model.USERNAME_FIELD: _value(model, model.USERNAME_FIELD, username)}
    known = model._default_manager.filter(**named).first()
    if known is not None:
        return known
    required = {name: _value(model, name, username) for name in model.REQUIRED_FIELDS}
    return model._default_manager.create_user(**named, **required)


def _value(model: Any, name: str, username: str) -> Any:
    """Return a value for a required field of a user model, another one for every person where that is possible."""
    values: dict[type[models.Field[Any, Any]], Callable[[], Any]] = {
        models.EmailField: lambda: username if "@" in username else f"{username}@users.invalid",
        models.CharField: lambda: username,
        models.UUIDField: uuid.uuid4,
        models.DateTimeField: timezone.now,
        models.DateField: lambda: timezone.now().date(),
        models.BooleanField: lambda: False,
    }
    field = model._meta.get_field(name)
    for kind, value in values.items():  # subclasses come before their base classes
        if isinstance(field, kind):
            return value()
    raise ValueError(f"Pass log_in(user=…): only the site knows a value for {model.__name__}.{name}.")
