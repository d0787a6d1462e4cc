"""The type of a request behind the middleware, for annotations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpRequest

if TYPE_CHECKING:
    from partium_auth.session import PartiumSession


class PartiumRequest(HttpRequest):
    """A request behind ``PartiumMiddleware``: it has ``request.partium``. Only for annotations; Django makes the requests."""

    partium: PartiumSession
