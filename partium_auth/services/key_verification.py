"""Verifying a key at Partium: an exchange, and one search in the organization. Stores nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from django.utils import translation
from django.utils.translation import gettext as _

from partium_auth.exceptions import CredentialsRejected, NotPermitted, UpstreamError
from partium_auth.host import upstream
from partium_auth.models import ApiKey, Organization
from partium_auth.models.audit_events import EventDetail, describe
from partium_auth.partium.bearers import Bearer
from partium_auth.sealed.plain import Plain

if TYPE_CHECKING:
    from partium_auth.partium.client import FindClient

VERIFICATION_SECONDS = 5.0
"""The exchange and the search of a verification together."""


@dataclass(frozen=True)
class Outcome:
    """The result of a verification.

    Args:
        verification: accepted, rejected, of another organization, or ``UNVERIFIED`` where Partium gave no answer about it.
        code: what is written to the key's history.
        status: the HTTP status that Partium answered, where it was not a success.
    """

    verification: ApiKey.Verification
    code: EventDetail
    status: int | None = None

    def describe(self) -> str:
        """Return what came back, as one sentence in the active language."""
        return describe(self.code, self.parameters)

    @property
    def detail(self) -> str:
        """What came back, as one English sentence; holds no secret."""
        with translation.override("en"):
            return self.describe()

    @property
    def parameters(self) -> dict[str, int]:
        """What the sentence has places for."""
        return {} if self.status is None else {"status": self.status}

    @property
    def refused(self) -> bool:
        """Whether Partium said that the key is not valid, or not valid here."""
        return self.verification in {ApiKey.Verification.REJECTED, ApiKey.Verification.WRONG_ORGANIZATION}


def verify_at_partium(organization: Organization, value: str | Plain) -> Outcome:
    """Exchange a key and make one search in the organization with the token, 5 s in all.

    Partium exchanges the key of another organization, or of another API, too; then the search is answered with 403.
    """
    value, until = Plain.of(value), time.monotonic() + VERIFICATION_SECONDS
    kinds = ApiKey.Verification
    try:
        api = upstream.authentication_api(VERIFICATION_SECONDS, organization=organization.org_id)
        token = _OneToken(Plain(api.exchange_api_key(value).access_token), organization.org_id)
    except (CredentialsRejected, NotPermitted) as error:
        return Outcome(kinds.REJECTED, EventDetail.EXCHANGE_REFUSED, error.status)
    except UpstreamError as error:
        return _no_answer(error, EventDetail.EXCHANGE_FAILED)
    left = until - time.monotonic()
    if left <= 0:
        return Outcome(kinds.UNVERIFIED, EventDetail.TOO_SLOW)
    try:
        find = upstream.find_client(token, f"organization {organization.org_id!r}")
        find.search(text="a", limit=1, projection=["results.id"], total_seconds=left)
    except NotPermitted as error:
        is_for_catalog = _opens_catalog(find, until - time.monotonic())
        code = EventDetail.CATALOG_KEY if is_for_catalog else EventDetail.SEARCH_REFUSED
        return Outcome(kinds.WRONG_ORGANIZATION, code, error.status)
    except UpstreamError as error:
        # A 401 to a token that Partium has just issued says nothing about the key.
        return _no_answer(error, EventDetail.SEARCH_FAILED)
    return Outcome(kinds.ACCEPTED, EventDetail.ACCEPTED)


def _opens_catalog(client: FindClient, seconds: float) -> bool:
    """Whether the key was made for the Catalog API, whose keys may not search (Partium, Catalog API: getting started)."""
    try:
        return seconds > 0 and client.request("GET", "/1/catalog", total_seconds=seconds).status == 200
    except UpstreamError:
        return False


def _no_answer(error: UpstreamError, detail: EventDetail) -> Outcome:
    unverified = ApiKey.Verification.UNVERIFIED
    return Outcome(unverified, detail, error.status) if error.status else Outcome(unverified, EventDetail.UNREACHABLE)


class _OneToken:
    """The one token of a verification, as the bearer of the Find client."""

    def __init__(self, value: Plain, organization: str) -> None:
        self._value = value
        self._organization = organization

    def current(self) -> Bearer:
        return Bearer(self._value.reveal(), self._organization)

    def replace(self, rejected: Bearer) -> NoReturn:
        raise CredentialsRejected("Partium answered 401 to a token that it had just issued.", status=401)

    async def acurrent(self) -> Bearer:
        return self.current()

    async def areplace(self, rejected: Bearer) -> NoReturn:
        self.replace(rejected)


def refusal(outcome: Outcome) -> str:
    """Return the text for a person whose key was not accepted: what is wrong, and what to do next."""
    if outcome.verification == ApiKey.Verification.REJECTED:
        return _("Partium does not accept this key. Check that it was copied whole, and that it was not deleted there.")
    if outcome.verification == ApiKey.Verification.WRONG_ORGANIZATION:
        if outcome.code == EventDetail.CATALOG_KEY:
            return _("This key was made for the Catalog API. Create one for the Find API at Partium.")
        return _(
            "This key may not search in this organization: it belongs to another one, or it was made for another API. Create "
            "one for this organization and the Find API at Partium."
        )
    return _("Couldn't reach Partium to verify this key.")
