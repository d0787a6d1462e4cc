"""Decorators for the app's own views."""

from __future__ import annotations

import codecs
import copy
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from django.core.exceptions import BadRequest
from django.db import connections, transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views.debug import get_exception_reporter_filter

V = TypeVar("V", bound=Callable[..., Any])


def never_atomic(view: V) -> V:
    """Return a view that runs outside of ``ATOMIC_REQUESTS``, on every database.

    The app's views wait for other servers. A transaction that is open meanwhile would keep a connection busy and, on SQLite,
    block every other writer, the token refresh that the view waits for among them.
    """
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


def utf8_only(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Return a view that answers 400 to a request whose ``Content-Type`` names another charset.

    Django decodes even the query string with that charset, and UTF-7 for example can produce text that no database stores.
    """

    @wraps(view)
    def in_utf8(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.encoding is not None and codecs.lookup(request.encoding).name != "utf-8":
            raise BadRequest("Only UTF-8 is understood.")
        return view(request, *args, **kwargs)

    return in_utf8


def hide_secrets_in_debug(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Return a view whose sensitive variables are hidden on Django's page for developers, too: people type real passwords there."""

    @wraps(view)
    def hiding(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        hides = copy.copy(get_exception_reporter_filter(request))
        hides.is_active = lambda request: True  # type: ignore[method-assign]
        request.exception_reporter_filter = hides
        return view(request, *args, **kwargs)

    return hiding
