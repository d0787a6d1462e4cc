"""People who are logged in, and the requests that their browsers send."""

from __future__ import annotations

import io
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest
from django.utils import timezone

from partium_auth.accounts import sessions
from partium_auth.models import Grant, Membership, Organization
from partium_auth.partium.token_response import TokenResponse
from partium_auth.tokens.verified_login import VerifiedLogin


def log_in(name: str, tokens: TokenResponse) -> tuple[str, Grant]:
    """Log somebody in. Returns the key of their session, and their grant."""
    organization, _ = Organization.objects.get_or_create(org_id="acme", defaults={"display_name": "Acme"})
    user = get_user_model().objects.create_user(name)
    Membership.objects.create(user=user, organization=organization)
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore()
    request.session.create()
    request.session[SESSION_KEY] = str(user.pk)
    request.session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    request.session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    grant = sessions.begin(request, VerifiedLogin(Grant.Kind.PASSWORD, {}, tokens, timezone.now(), user=user))
    request.session.save()
    assert request.session.session_key
    return request.session.session_key, grant


class Unavailable(Exception):
    """The site answered 503."""


class Browser:
    """Sends requests of one session to a handler, without a server or a socket in between."""

    def __init__(self, handler: WSGIHandler, path: str, session_key: str) -> None:
        self._handler = handler
        self._environ: dict[str, Any] = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": path,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_COOKIE": f"{settings.SESSION_COOKIE_NAME}={session_key}",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": io.StringIO(),
        }

    def get(self) -> None:
        """Send one request, and read the answer. Raises Unavailable where the site answers 503."""
        response = self._handler(dict(self._environ), _start_response)
        body = b"".join(response)
        response.close()
        if body != b"yes":
            raise RuntimeError("The request did not do what is measured.")


def _start_response(status: str, headers: Any, error: Any = None) -> Any:
    if status.startswith("503"):
        raise Unavailable
    if not status.startswith("200"):
        raise RuntimeError(f"The request was answered {status}.")


def handler(middleware: list[str]) -> WSGIHandler:
    """Make a handler as a server's process has it."""
    before, settings.MIDDLEWARE = settings.MIDDLEWARE, middleware
    try:
        return WSGIHandler()
    finally:
        settings.MIDDLEWARE = before
