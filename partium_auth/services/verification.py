"""Trying a key at Partium: an exchange, and one search in the organization. Stores nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables

from partium_auth.exceptions import CredentialsRejected, NotPermitted, UpstreamError
from partium_auth.host import upstream
from partium_auth.models import ApiKey, Organization, key_history

if TYPE_CHECKING:
    from partium_auth.partium.client import Bearer

VERIFICATION_SECONDS = 5.0
"""The exchange and the search of a verification together."""


@dataclass(frozen=True)
class Outcome:
    """What came back when a key was tried.

    Args:
        verification: accepted, rejected, another organization's, or ``UNVERIFIED`` where Partium gave no answer about it.
        detail: one English sentence of ``key_history``; holds no secret.
    """

    verification: ApiKey.Verification
    detail: str

    @property
    def refused(self) -> bool:
        """Partium answered, and the answer is no."""
        return self.verification in {ApiKey.Verification.REJECTED, ApiKey.Verification.WRONG_ORGANIZATION}


@sensitive_variables()
def try_at_partium(organization: Organization, value: str) -> Outcome:
    """Exchange a key and make one search in an organization with the token, 5 s in all. Stores nothing.

    A key of another organization is exchanged like any other; it is the search that answers 403.
    """
    until = time.monotonic() + VERIFICATION_SECONDS
    kinds = ApiKey.Verification
    try:
        token = upstream.authentication_api(VERIFICATION_SECONDS).exchange_api_key(value).access_token
    except (CredentialsRejected, NotPermitted) as error:
        return Outcome(kinds.REJECTED, key_history.EXCHANGE_REFUSED % {"status": error.status})
    except UpstreamError as error:
        return _no_answer(error, key_history.EXCHANGE_FAILED)
    left = until - time.monotonic()
    if left <= 0:
        return Outcome(kinds.UNVERIFIED, key_history.TOO_SLOW)
    try:
        find = upstream.find_client(_OneToken(token), organization.org_id)
        find.search(text="a", limit=1, projection=["results.id"], total_seconds=left)
    except NotPermitted as error:
        return Outcome(kinds.WRONG_ORGANIZATION, key_history.SEARCH_REFUSED % {"status": error.status})
    except UpstreamError as error:
        # A 401 to a token that is a moment old is not about the key.
        return _no_answer(error, key_history.SEARCH_FAILED)
    return Outcome(kinds.ACCEPTED, key_history.ACCEPTED)


def _no_answer(error: UpstreamError, sentence: str) -> Outcome:
    detail = sentence % {"status": error.status} if error.status else key_history.UNREACHABLE
    return Outcome(ApiKey.Verification.UNVERIFIED, detail)


class _OneToken:
    """The bearer of one verification: there is no other."""

    def __init__(self, value: str) -> None:
        self.value = value

    def current(self) -> _OneToken:
        return self

    def replace(self, rejected: Bearer) -> NoReturn:
        raise CredentialsRejected("Partium answered 401 to a token that it had just issued.", status=401)

    async def acurrent(self) -> _OneToken:
        return self

    async def areplace(self, rejected: Bearer) -> NoReturn:
        self.replace(rejected)


def refusal(outcome: Outcome) -> str:
    """Return what a person is told about a key that was not accepted, and what to do next."""
    if outcome.verification == ApiKey.Verification.REJECTED:
        return _("Partium does not accept this key. Check that it was copied whole, and that it was not deleted there.")
    if outcome.verification == ApiKey.Verification.WRONG_ORGANIZATION:
        return _("This key belongs to another organization. Create one for this organization at Partium.")
    return _("Partium could not be asked about this key just now.")
