"""A person's own memberships: what an invitation has opened, declining it, and leaving an organization."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render, resolve_url
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_http_methods

from partium_auth import policy
from partium_auth.accounts import sessions
from partium_auth.accounts.error_pages import error_response
from partium_auth.accounts.redirects import memberships_url, next_field, next_url_of
from partium_auth.exceptions import LoginRequired
from partium_auth.host.decorators import utf8_only
from partium_auth.models import Invitation, Membership, Organization, Origin, Role
from partium_auth.services import members

NEW = dt.timedelta(hours=1)
"""For so long after the login that accepted an invitation, the page that this login leads to tells of it."""


@dataclass(frozen=True)
class _Belonging:
    """One organization of the person.

    Args:
        organization: which one.
        role: the highest that the person has there.
        may_leave: an administrator or an invitation has given a membership.
        stays: claims have given a membership, which leaving does not end.
        invitation: the newest that the person has accepted there, or None.
    """

    organization: Organization
    role: Role
    may_leave: bool
    stays: bool
    invitation: Invitation | None


@login_not_required  # a visitor is sent to the app's own login page
@utf8_only
@require_http_methods(["GET", "HEAD", "POST"])
@csrf_protect
@never_cache
def memberships(request: HttpRequest) -> HttpResponse:
    """The person's memberships. A POST of ``leave`` (Partium's id) leaves an organization: it asks first, unless ``confirmed``.

    A login that has accepted an invitation leads here (``joined``); ``declined`` marks the invitation, and leaves.
    """
    if not request.user.is_authenticated:
        return error_response(request, LoginRequired("Nobody is logged in."))
    belongings = _belongings(request.user)
    next_url = next_url_of(request)
    if request.method == "POST":
        chosen = next((one for one in belongings if one.organization.org_id == request.POST.get("leave")), None)
        if chosen is not None and chosen.may_leave:
            if "confirmed" not in request.POST:
                return _confirmation(request, chosen, next_url)
            _leave(request, chosen)
        return HttpResponseRedirect(memberships_url(next_url, joined="joined" in request.POST))
    since = timezone.now() - NEW
    joined = [one for one in belongings if "joined" in request.GET and _accepted_since(one.invitation, since)]
    context = {
        "text": {"title": _("You have been invited") if joined else _("Your organizations")},
        "joined": joined,
        "belongings": [one for one in belongings if one not in joined],
        **_next(next_url),
    }
    return render(request, "partium_auth/memberships.html", context)


def _confirmation(request: HttpRequest, chosen: _Belonging, next_url: str) -> HttpResponse:
    is_developer = chosen.role == Role.DEVELOPER
    context = {
        "text": {"title": _("Leave %(organization)s?") % {"organization": chosen.organization}},
        "chosen": chosen,
        "cancel_url": memberships_url(next_url, joined=False),
        "is_last_developer": is_developer and not policy.has_developer(chosen.organization, besides=request.user.pk),
        **_next(next_url),
    }
    return render(request, "partium_auth/leave.html", context)


def _next(next_url: str) -> dict[str, Any]:
    return {
        "next": next_url,
        "next_field": next_field(),
        "target": next_url or resolve_url(settings.LOGIN_REDIRECT_URL),
    }


def _leave(request: HttpRequest, chosen: _Belonging) -> None:
    actor = sessions.actor_of(request)
    if "declined" in request.POST and chosen.invitation is not None:
        members.decline_invitation(chosen.invitation, actor=actor)
    else:
        members.leave_organization(chosen.organization, actor=actor)
    sessions.choose_organization(request, request.user)
    text = _("You have left %(organization)s.") % {"organization": chosen.organization}
    messages.success(request, text, fail_silently=True)


def _accepted_since(invitation: Invitation | None, moment: dt.datetime) -> bool:
    return invitation is not None and invitation.accepted_at is not None and invitation.accepted_at >= moment


def _belongings(user: Any) -> list[_Belonging]:
    accepted = Invitation.objects.filter(accepted_by=user.pk, declined_at=None).order_by("accepted_at")
    invitations = {row.organization_id: row for row in accepted.select_related("organization", "invited_by")}
    found: dict[Organization, list[Membership]] = {}
    for row in policy.memberships_by_joining(user).filter(organization__is_active=True):
        found.setdefault(row.organization, []).append(row)
    return [
        _Belonging(
            organization,
            Role.DEVELOPER if any(row.role == Role.DEVELOPER for row in rows) else Role.MEMBER,
            may_leave=any(row.origin == Origin.ADMIN for row in rows),
            stays=any(row.origin == Origin.CLAIMS for row in rows),
            invitation=invitations.get(organization.pk),
        )
        for organization, rows in found.items()
    ]
