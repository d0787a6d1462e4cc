"""Decorators for the app's own views."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from django.core.exceptions import BadRequest
from django.db import connections, transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

V = TypeVar("V", bound=Callable[..., Any])


def never_atomic(view: V) -> V:
    """Return a view that runs without the transaction of ``ATOMIC_REQUESTS``, on every database.

    The app's views wait for other servers. An open transaction would occupy a connection meanwhile. On SQLite it would also
    block every other writer, including the token refresh that the view waits for.
    """
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


def utf8_only(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Return a view that answers 400 to a request whose ``Content-Type`` names another charset.

    Django decodes the query string with that charset, too, and UTF-7 can produce text that no database stores.
    """

    @wraps(view)
    def in_utf8(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.encoding is not None and codecs.lookup(request.encoding).name != "utf-8":
            raise BadRequest("The charset of a request must be UTF-8.")
        return view(request, *args, **kwargs)

    return in_utf8
