"""Partium's Authentication API: exchange credentials for access tokens."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from partium_auth.http.transport import Call, Transport
from partium_auth.partium.token_response import TokenResponse, parse_token_response
from partium_auth.sealed.plain import Plain


class AuthenticationAPI:
    """The three ways to an access token (Partium, general aspects: authentication).

    Each call is sent once: on a connection of its own, never to a second path, never again once bytes were sent.

    Args:
        transport: what sends.
        base_url: such as ``https://api.partium.io``.
        auth_path: where credentials are exchanged, such as ``/1/auth``.
        refresh_path: where a refresh token is, such as ``/auth/refresh``.
        observe: told of every call, with ``"exchange"`` or ``"refresh"``; see ``Transport.send``.

    Every method takes ``before_send``, called when the connection stands, immediately before the first byte; what it
    raises aborts the request and comes out unchanged. Every method raises ``CredentialsRejected`` (401) and the other
    subclasses of ``UpstreamError``; ``sent`` is False only where it is certain that nothing was sent.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        base_url: str,
        auth_path: str,
        refresh_path: str,
        observe: Callable[[str, Call], object] | None = None,
    ) -> None:
        base_url = base_url.rstrip("/")
        self._transport = transport
        self._observe = observe
        self._auth_url = f"{base_url}/{auth_path.removeprefix('/')}"
        self._refresh_url = f"{base_url}/{refresh_path.removeprefix('/')}"

    def exchange_password(
        self, username: str, password: str | Plain, *, before_send: Callable[[], object] | None = None
    ) -> TokenResponse:
        """Exchange a Partium user's name and password, sent as Basic in UTF-8 (RFC 7617).

        Raises:
            ValueError: a colon in the user name, or a control character in either.
        """
        password = Plain.of(password)
        return self._post("Partium login", self._auth_url, before_send, basic=(username, password))

    def exchange_api_key(self, key: str | Plain, *, before_send: Callable[[], object] | None = None) -> TokenResponse:
        """Exchange an API key, sent as a bearer.

        Raises:
            ValueError: the key is empty, or has characters that a header cannot hold.
        """
        key = Plain.of(key)
        return self._post("Partium API key exchange", self._auth_url, before_send, bearer=key)

    def refresh(self, refresh_token: str | Plain, *, before_send: Callable[[], object] | None = None) -> TokenResponse:
        """Get new tokens for a refresh token; Partium may or may not rotate it."""
        refresh_token = Plain.of(refresh_token)
        json = {"refresh_token": refresh_token}
        return self._post("Partium token refresh", self._refresh_url, before_send, json=json)

    def _post(self, what: str, url: str, before_send: Callable[[], object] | None, **credential: Any) -> TokenResponse:
        endpoint = "refresh" if url == self._refresh_url else "exchange"
        observe = None if self._observe is None else functools.partial(self._observe, endpoint)
        response = self._transport.send(
            "POST", url, credential=True, before_send=before_send, observe=observe, **credential
        )
        return parse_token_response(response, what=what)
