"""The portal's pages."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.files.uploadedfile import UploadedFile
from django.http import Http404, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from example_project import session_panel
from example_project.forms import (
    DEFAULT_LIMIT,
    LANGUAGES,
    LIMITS,
    MAX_IMAGE_BYTES,
    MAX_PAGE,
    PageForm,
    PhotoSearchForm,
    TextSearchForm,
    default_language,
)
from example_project.parts import Card, card
from example_project.problems import EXPIRED, Problem, keys_url, problem_of
from partium_auth import PartiumRequest, policy
from partium_auth.conf import conf
from partium_auth.exceptions import LoginRequired, PartiumError, UnprocessableRequest
from partium_auth.forms import FacetForm, chosen_filters
from partium_auth.models import ApiKeyUsage
from partium_auth.views import organization

if TYPE_CHECKING:
    from partium_auth.partium.paginator import ResultPage

logger = logging.getLogger(__name__)

FRAGMENT_HEADER = "X-Fragment"
"""The page's own JavaScript sends this with a search: it wants the results alone."""

EXAMPLES = (_("fan"), _("oil filter"), _("ball bearing"), _("pressure sensor"))


@dataclass(frozen=True)
class Found:
    """What a search found, for the page.

    Args:
        cards: this page of parts.
        first: number of the first of them, from 1.
        shown: number of the last of them; with JavaScript, as many are on the page.
        from_photo: whether it was a photo.
        more_url: leads to further parts; empty where there are none.
    """

    cards: tuple[Card, ...]
    first: int
    shown: int
    text: str = ""
    from_photo: bool = False
    more_url: str = ""
    facets: FacetForm | None = None


def _found(page: ResultPage, *, text: str = "", from_photo: bool = False, facets: FacetForm | None = None) -> Found:
    session_id, limit = page.paginator.session_id, page.paginator.per_page
    query = urlencode({"session": session_id, "page": page.number + 1, "limit": limit})
    return Found(
        cards=tuple(card(part) for part in page),
        first=page.start_index(),
        shown=page.end_index(),
        text=text,
        from_photo=from_photo,
        more_url=f"{reverse('more')}?{query}" if page.has_next() and session_id and page.number < MAX_PAGE else "",
        facets=facets,
    )


def _problem(request: PartiumRequest, error: PartiumError) -> Problem:
    """Return what a visitor reads; a developer reads the log. The middleware answers LoginRequired with the login page."""
    if isinstance(error, LoginRequired):
        raise error
    logger.warning("%s: %s", type(error).__name__, error)
    return problem_of(request, error)


def _render(request: PartiumRequest, template: str, context: dict[str, Any], status: int = 200) -> HttpResponse:
    page = {
        "organization": request.partium.organization,
        "organizations": request.partium.organizations,
        "after_switch": reverse("search"),  # a part of one organization is not found in another
        "keys_url": keys_url(request),
        "session": session_panel.describe(request),
    }
    return render(request, template, {**page, **context}, status=status)


def _key_usage(request: PartiumRequest) -> dict[str, int] | None:
    """Return how much the organization's keys were used in the last 30 days; None for people who do not manage them."""
    organization = request.partium.organization
    if organization is None or not policy.may_manage_keys(request.user, organization):
        return None
    return ApiKeyUsage.objects.recent().filter(api_key__organization=organization).totals()


def _search_page(
    request: PartiumRequest,
    form: TextSearchForm | PhotoSearchForm,
    *,
    result: Found | None = None,
    problem: Problem | None = None,
) -> HttpResponse:
    context = {
        "form": form,
        "languages": LANGUAGES,
        "limits": LIMITS,
        "default_limit": DEFAULT_LIMIT,
        "default_language": default_language(),
        "max_image_bytes": MAX_IMAGE_BYTES,
        "examples": EXAMPLES,
        "result": result,
        "problem": problem,
        "is_fragment": FRAGMENT_HEADER in request.headers,
    }
    status = problem.status if problem else 200
    if context["is_fragment"]:
        response = render(request, "portal/results.html", context, status=status)
    else:
        response = _render(request, "portal/search.html", {**context, "key_usage": _key_usage(request)}, status)
    patch_vary_headers(response, [FRAGMENT_HEADER])
    if problem and problem.retry_after:
        response.headers["Retry-After"] = str(problem.retry_after)
    return response


def _empty_form() -> TextSearchForm:
    return TextSearchForm(initial={"language": default_language(), "limit": DEFAULT_LIMIT})


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def search(request: PartiumRequest) -> HttpResponse:
    """The search page: words in the query string, or a photo in a form.

    A login in between leads back to the words, but loses the photo: the login page says so.
    """
    try:
        if request.method == "POST" and not request.user.is_authenticated:
            raise LoginRequired("Nobody is logged in.")
        return _search(request)
    except LoginRequired:
        if request.method == "POST":
            text = _("Your session has ended, and the photo was not searched. Log in, then choose the photo again.")
            messages.warning(request, text)
        raise


@login_required
def _search(request: PartiumRequest) -> HttpResponse:
    form: TextSearchForm | PhotoSearchForm
    if request.method == "POST":
        form = PhotoSearchForm(request.POST, request.FILES)
    elif request.GET.keys() & {"text", "language", "limit", "within"} or chosen_filters(request.GET):
        form = TextSearchForm(request.GET)
    else:
        return _search_page(request, _empty_form(), problem=_standing_problem(request))
    if not form.is_valid():
        return _search_page(request, form, problem=_form_problem(form))
    wanted = form.cleaned_data
    photo: UploadedFile[bytes] | None = wanted.get("image")
    try:
        result = request.partium.client.search(
            text=wanted.get("text"),
            image=photo.file if photo else None,
            filters=chosen_filters(request.GET),
            within=wanted.get("within"),
            facets=photo is None,
            limit=wanted["limit"] + 1,  # one more part tells that another page follows
            language=wanted["language"],
        )
    except PartiumError as error:
        return _search_page(request, form, problem=_problem(request, error))
    found = _found(
        result.paginator(wanted["limit"]).page(1),
        text=wanted.get("text", ""),
        from_photo=photo is not None,
        facets=FacetForm(result.facets, request.GET) if photo is None else None,
    )
    return _search_page(request, form, result=found)


def _standing_problem(request: PartiumRequest) -> Problem | None:
    """Return what makes every search fail, such as a missing key, so that people know before they type."""
    try:
        request.partium.state()
    except PartiumError as error:
        return _problem(request, error)
    return None


def _form_problem(form: TextSearchForm | PhotoSearchForm) -> Problem:
    """Return the form's first message: a fragment does not contain the form."""
    return Problem("invalid_form", _("Nothing was searched yet"), str(next(iter(form.errors.values()))[0]), 422)


@login_required
@never_cache
@require_GET
def more(request: PartiumRequest) -> HttpResponse:
    """Further results of a search made before."""
    form = PageForm(request.GET)
    if not form.is_valid():
        raise Http404
    wanted = form.cleaned_data
    try:
        page = request.partium.client.paginator(str(wanted["session"]), wanted["limit"]).page(wanted["page"])
    except PartiumError as error:
        problem = EXPIRED if getattr(error, "status", None) == 404 else _problem(request, error)
        return _search_page(request, _empty_form(), problem=problem)
    return _search_page(request, _empty_form(), result=_found(page))


@login_required
@never_cache
@require_GET
def machines(request: PartiumRequest) -> HttpResponse:
    """The machines of the organization, and what they consist of; never cached, because it depends on the person."""
    root = request.GET.get("root", "")[:200]
    try:
        nodes = request.partium.client.hierarchy(root or None)
    except UnprocessableRequest as error:
        raise Http404 from error
    except PartiumError as error:
        return _search_page(request, _empty_form(), problem=_problem(request, error))
    return _render(request, "portal/machines.html", {"nodes": nodes, "root": root, "name": request.GET.get("name", "")})


@login_required
@never_cache
@require_http_methods(["GET", "POST"])
def part(request: PartiumRequest, number: str) -> HttpResponse:
    """One part; Partium learns that it was looked at, or that it was the right one."""
    report = request.partium.client.report
    if request.method == "POST":
        report.confirmed_link(request.POST.dict())
        messages.success(request, _("Thank you. Partium learns from this which parts fit which search."))
        return redirect("part", number)
    try:
        found = request.partium.client.search(text=number, limit=5)
    except PartiumError as error:
        return _search_page(request, _empty_form(), problem=_problem(request, error))
    shown = next((one for one in found.parts if one.id == number), None)
    if shown is None:
        raise Http404
    report.viewed_link(request.GET.dict())
    large = shown.image(min_width=600)
    link = {name: value for name, value in request.GET.items() if name.startswith("partium_")}
    return _render(request, "portal/part.html", {"part": shown, "card": card(shown), "large": large, "link": link})


@never_cache
@require_http_methods(["GET", "POST"])
def session_state(request: PartiumRequest) -> HttpResponse:
    """Return the state of the session's token as JSON. GET only reads it; POST uses the token, as a search does."""
    problem = None
    if request.method == "POST":
        try:
            request.partium.token()
        except PartiumError as error:
            problem = _problem(request, error)
        if FRAGMENT_HEADER not in request.headers:
            # A browser without JavaScript: the panel is on the page that the form was on.
            if problem:
                messages.warning(request, f"{problem.title}. {problem.text}")
            return redirect("search")
    state = session_panel.describe(request)
    if problem:
        state["problem"] = {"code": problem.code, "title": problem.title, "retry_after": problem.retry_after}
    return JsonResponse(state)


def switch_organization(request: PartiumRequest) -> HttpResponseBase:
    """Switch as the app does, and say so on the next page."""
    response = organization(request)
    if response.status_code == 302:
        text = _("You are now at %(organization)s.") % {"organization": request.partium.organization}
        messages.success(request, text)
    return response


@login_required
@never_cache
@require_GET
def in_the_browser(request: PartiumRequest) -> HttpResponse:
    """How a page's own JavaScript searches: with a token from the token endpoint, refreshed while the page is open."""
    problem = _standing_problem(request)
    context = {"sdk_url": conf.find_sdk_url, "api_url": conf.api_url, "problem": problem, "after_switch": request.path}
    return _render(request, "portal/in_the_browser.html", context, status=problem.status if problem else 200)
