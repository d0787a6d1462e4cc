"""Which keys serve is one rule: every reader is asked about every state that a key can be in."""

from __future__ import annotations

import datetime as dt
import itertools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from django.utils import timezone
from pytest_django import Settings

import partium_auth
from partium_auth.exceptions import KeyRejected, NoUsableKey, PartiumError
from partium_auth.fields import seal
from partium_auth.host import upstream
from partium_auth.models import ApiKey, Grant, Organization
from partium_auth.models.keys import ApiKeyState
from partium_auth.tokens import access
from tests.tokens.conftest import Person

pytestmark = pytest.mark.django_db(transaction=True)
LogIn = Callable[..., Person]
SOURCE = Organization.TokenSource
STATUS, VERIFICATION = ApiKey.Status, ApiKey.Verification

NOW = timezone.now()
ENDS = (None, NOW - dt.timedelta(hours=1), NOW + dt.timedelta(hours=1))
REJECTIONS = (
    None,
    NOW - dt.timedelta(hours=1),
    NOW + dt.timedelta(minutes=10),
)  # long ago; a moment ago, as long as this takes


class KeyRow(NamedTuple):
    status: str
    verification: str
    rejected_at: dt.datetime | None
    retires_at: dt.datetime | None
    expires_at: dt.datetime | None


STATES = [KeyRow(*row) for row in itertools.product(STATUS, VERIFICATION, REJECTIONS, ENDS, ENDS)]


def expected(row: KeyRow, *, token: bool) -> type[PartiumError] | None:
    """Return what a reader has to raise, or None for a key that serves.

    Args:
        row: the state of the organization's only key.
        token: the reader may serve what is left of an access token, and there is one.
    """
    if row.status == STATUS.REVOKED or any(end is not None and end < timezone.now() for end in row[3:]):
        return NoUsableKey
    if row.verification in {VERIFICATION.REJECTED, VERIFICATION.WRONG_ORGANIZATION}:
        return KeyRejected
    resting = row.rejected_at is not None and row.rejected_at > timezone.now()
    return KeyRejected if resting and not token else None


@pytest.fixture(autouse=True)
def _clients_are_their_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ``for_organization()`` return what its client takes the bearer from, so that nobody searches."""
    monkeypatch.setattr(upstream, "find_client", lambda source, *args: source)


def outcome(read: Callable[[], object]) -> type[PartiumError] | None:
    try:
        read()
    except PartiumError as error:
        return type(error)
    return None


@pytest.mark.parametrize("token", [True, False], ids=["with a token", "without a token"])
def test_every_reader_says_the_same_of_every_state(
    acme: Organization, log_in: LogIn, token: bool, settings: Settings
) -> None:
    assert len(STATES) == 324
    settings.PARTIUM_API_URL = "http://127.0.0.1:1"  # nobody is to ask Partium
    Organization.objects.update(token_source=SOURCE.API_KEY)
    key = ApiKey(organization=acme, label="test", fingerprint="f")
    key.secret = seal(key, "secret", "a key")
    key.save()
    grant = Grant(pk=key.pk, api_key=key, kind=Grant.Kind.API_KEY, generation=1, lifetime_seconds=600)
    grant.bound_to = str(acme.pk)
    if token:
        grant.access_token, grant.issued_at = seal(grant, "access_token", "a token"), time.time()
    else:
        # As an exchange leaves it that Partium has refused, so that it is not tried again meanwhile.
        grant.rejected_at, grant.next_attempt_at = timezone.now(), timezone.now() + dt.timedelta(minutes=10)
    grant.save()
    person = log_in(acme, kind=None)
    by_organization: Any = partium_auth.for_organization("acme")
    Organization.objects.update(token_source=SOURCE.API_KEY_DIRECT)
    direct: Any = partium_auth.for_organization("acme")
    Organization.objects.update(token_source=SOURCE.API_KEY)
    for row in STATES:
        secret = None if row.status == STATUS.REVOKED else key.secret
        ApiKey.objects.filter(pk=key.pk).update(secret=secret, **row._asdict())
        usable = expected(row, token=False) is None
        exchanged = expected(row, token=token) if token or not usable else KeyRejected
        assert outcome(person.token) is exchanged, row
        assert outcome(person.token) is exchanged, row  # as it is remembered
        assert outcome(by_organization.current) is exchanged, row
        assert outcome(direct.current) is expected(row, token=False), row
        assert ApiKey.objects.usable().exists() is usable, row
        state = ApiKey.objects.with_state().get().state
        ended = {ApiKeyState.REVOKED, ApiKeyState.RETIRED, ApiKeyState.EXPIRED}
        assert (state in ended) is (expected(row, token=True) is NoUsableKey), row
        assert usable <= (state not in ended), row
    access.forget_all()


def test_a_grant_that_was_revoked_is_a_revoked_key_for_every_reader(
    acme: Organization, log_in: LogIn, key_grant: Any
) -> None:
    Organization.objects.update(token_source=SOURCE.API_KEY)
    key_grant()
    person = log_in(acme, kind=None)
    person.token()
    Grant.objects.update(revoked_at=timezone.now())
    client: Any = partium_auth.for_organization("acme")
    assert outcome(person.token) is outcome(client.current) is NoUsableKey
