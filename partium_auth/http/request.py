"""What is sent, and where to: URL, headers, credentials, body."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import requests

from partium_auth.exceptions import UpstreamError
from partium_auth.http.loopback import is_loopback
from partium_auth.sealed.plain import Plain

Body: TypeAlias = bytes | str | Mapping[str, Any]

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"(?:[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?)?")
_BEARER = re.compile(r"[\x21-\x7e]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class InsecureURL(UpstreamError):
    """The URL is not called: not ``https`` (``http`` is for loopback only), with credentials in it, or not a URL."""

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=False)


def prepare(
    method: str,
    url: str,
    headers: Mapping[str, str],
    authorization: Plain | None,
    params: Mapping[str, Any] | None,
    json: Any,
    data: Body | None,
    files: Any,
) -> requests.PreparedRequest:
    """Check and encode what :meth:`Transport.send` was given."""
    for name, value in headers.items():  # requests and http.client would quote the value in their message
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"The header {name!r} has characters that cannot be sent.")
    prepared = requests.PreparedRequest()
    problem = ""
    try:
        prepared.prepare(
            method=method.upper(),
            url=_checked_url(url),
            headers=headers,
            params=params,
            data=_revealed(data),
            files=files,
            json=_revealed(json),
        )
    except requests.exceptions.InvalidJSONError:
        problem = "The JSON has a value that JSON has no form for, such as NaN."
    except requests.exceptions.RequestException:
        raise InsecureURL("That is not a URL that can be called; see PARTIUM_API_URL or the provider.") from None
    if problem:
        raise ValueError(problem)
    # Check again what requests has made of it: two URL parsers may disagree about the host.
    prepared.headers.setdefault("Host", urlsplit(_checked_url(str(prepared.url))).netloc)
    if authorization is not None:
        prepared.headers["Authorization"] = authorization.reveal()
    return prepared


def _revealed(body: Any) -> Any:
    if not isinstance(body, dict):
        return body
    return {name: value.reveal() if isinstance(value, Plain) else value for name, value in body.items()}


def basic_credentials(username: str, password: str | Plain) -> Plain:
    """Return the ``Authorization`` header of a user name and password in UTF-8 (RFC 7617)."""
    if ":" in username:
        raise ValueError("A user name for Basic authentication cannot have a colon in it (RFC 7617 §2).")
    password = Plain.of(password)
    if _CONTROL.search(username) or _CONTROL.search(password.reveal()):
        raise ValueError("User name and password cannot have control characters in them (RFC 7617 §2).")
    return Plain("Basic " + base64.b64encode(f"{username}:{password.reveal()}".encode()).decode("ascii"))


def bearer_credentials(token: str | Plain) -> Plain:
    """Return the ``Authorization`` header of a bearer token or API key (RFC 6750 §2.1)."""
    token = Plain.of(token)
    if not _BEARER.fullmatch(token.reveal()):
        raise ValueError("A bearer has to be printable ASCII without spaces, and not empty.")
    return Plain(f"Bearer {token.reveal()}")


def endpoint_of(url: str) -> str:
    """Return what messages quote of a URL: scheme, host and path."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if not host or parts.scheme not in {"http", "https"}:
        raise InsecureURL("Only absolute https:// URLs are called; see PARTIUM_API_URL or the provider.")
    if "@" in parts.netloc:
        raise InsecureURL(f"{endpoint_of(url)}: credentials do not belong in a URL; remove what stands before the @.")
    if parts.scheme == "http" and not is_loopback(host):
        raise InsecureURL(f"{endpoint_of(url)}: plain http:// is for loopback only; use https://.")
    return url
