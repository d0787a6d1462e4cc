"""Verifying and revoking the selected keys: one page of the list at a time, commands do more."""

from __future__ import annotations

import time
import uuid
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext, ngettext

from partium_auth.admin.permissions import actor_of
from partium_auth.exceptions import EncryptionError
from partium_auth.models import ApiKey, Organization
from partium_auth.services import keys
from partium_auth.services.key_verification import Outcome, refusal

VERIFY_SECONDS = 20.0
"""No key is begun after this time: a request must not outlast the patience of a worker or a proxy."""

NAMED = 20
"""A message names at most so many keys."""


def verify_keys(request: HttpRequest, chosen: list[ApiKey]) -> None:
    """Verify keys at Partium, and tell the person what came back for each."""
    answers: dict[tuple[int, str], list[ApiKey]] = {}
    started = time.monotonic()
    for number, key in enumerate(chosen):
        if time.monotonic() - started > VERIFY_SECONDS:
            left = len(chosen) - number
            text = ngettext(
                "%(count)d key was not verified, because Partium answers slowly. Select it again.",
                "%(count)d keys were not verified, because Partium answers slowly. Select them again.",
                left,
            )
            messages.warning(request, text % {"count": left})
            break
        try:
            answer = _describe(keys.verify_key(key, actor=actor_of(request)))
        except (ValidationError, EncryptionError):
            answer = messages.ERROR, gettext("This key is already revoked, or its stored value can't be decrypted.")
        answers.setdefault(answer, []).append(key)
    for (level, text), done in answers.items():
        _tell(request, level, done, text)


def revoke_keys(request: HttpRequest, chosen: list[ApiKey]) -> None:
    """Revoke keys, and tell the person so."""
    for key in chosen:
        keys.revoke_key(key, actor=actor_of(request))
    if chosen:
        _tell(request, messages.SUCCESS, chosen, gettext("Revoked. The stored value was erased."))


def _describe(outcome: Outcome) -> tuple[int, str]:
    """Return the message about a stored key that was verified, and its level."""
    if outcome.verification == ApiKey.Verification.ACCEPTED:
        return messages.SUCCESS, gettext("Partium accepted it.")
    if outcome.verification == ApiKey.Verification.REJECTED:
        return messages.ERROR, gettext("Partium no longer accepts this key. Create a new key at Partium and rotate.")
    if outcome.verification == ApiKey.Verification.UNVERIFIED:
        return messages.WARNING, gettext("Couldn't reach Partium. The key's status is unchanged.")
    return messages.ERROR, refusal(outcome)


def _tell(request: HttpRequest, level: int, done: list[ApiKey], text: str) -> None:
    names = [str(key) for key in done[:NAMED]] + ["…"] * (len(done) > NAMED)
    messages.add_message(request, level, f"{', '.join(names)}: {text}")


def what_stops(chosen: list[Any]) -> tuple[list[tuple[Organization, ApiKey]], list[tuple[Organization, bool]]]:
    """Return what changes when these keys are revoked.

    Returns:
        The organizations whose key in use is among them, each with the key that takes over, and the organizations that lose
        their last usable key, each with whether people's searches depend on its keys.
    """
    organizations = {key.organization_id: key.organization for key in chosen}
    pks = {key.pk for key in chosen}
    taking_over: list[tuple[Organization, ApiKey]] = []
    losing: list[tuple[Organization, bool]] = []
    serving: dict[uuid.UUID, list[ApiKey]] = {}
    for key in ApiKey.objects.usable().in_serving_order().filter(organization__in=organizations):
        serving.setdefault(key.organization_id, []).append(key)
    for organization_id, usable in serving.items():
        organization = organizations[organization_id]
        if usable[0].pk not in pks:
            continue
        if following := next((key for key in usable if key.pk not in pks), None):
            taking_over.append((organization, following))
        else:
            losing.append((organization, organization.token_source != Organization.TokenSource.USER))
    return taking_over, losing


def posted_ids(request: HttpRequest) -> list[uuid.UUID]:
    """Return the primary keys that a form has sent, separated by commas."""
    found = []
    for part in request.POST.get("keys", "").split(","):
        try:
            found.append(uuid.UUID(part.strip()))
        except ValueError:
            continue
    return found


def too_many(request: HttpRequest, count: int, at_most: int) -> bool:
    """Return whether more keys are selected than one page shows; then the person is told about the commands."""
    if count > at_most:
        text = gettext("Select at most %(count)d keys at a time. For more: manage.py partium_keys")
        messages.error(request, text % {"count": at_most})
    return count > at_most
