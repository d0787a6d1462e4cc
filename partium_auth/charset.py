"""Understanding requests in UTF-8 only."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.exceptions import BadRequest
from django.http import HttpRequest
from django.http.response import HttpResponseBase


def utf8_only(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Return a view that answers 400 to a request whose ``Content-Type`` names another charset.

    Django reads even the query string in it, and in some, UTF-7 say, one can write what no page, URL or database takes: half a
    surrogate pair. Browsers send UTF-8, whatever the form.
    """

    @wraps(view)
    def in_utf8(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.encoding is not None and codecs.lookup(request.encoding).name != "utf-8":
            raise BadRequest("Only UTF-8 is understood.")
        return view(request, *args, **kwargs)

    return in_utf8
