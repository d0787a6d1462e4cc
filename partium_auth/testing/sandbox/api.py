"""Partium's API as documented: a request in, a response out. Sockets, faults and the call log are elsewhere.

What is documented, and what had to be assumed, is written in ``docs/sandbox.md``.
"""

from __future__ import annotations

import base64
import email.message
import email.parser
import email.utils
import json
import math
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from . import find
from .catalog import LANGUAGES, PARTS, Part
from .issuers import Issuers, IssuerUnavailable
from .pictures import is_image
from .state import CredentialKind, Issued, Rejected, State, fingerprint

MAX_BODY_BYTES = 5_767_168
"""5.5 MiB, of a whole request."""

_DEFAULT_LIMIT, _MAX_LIMIT = 10, 100
_MAX_TEXT = 1_000

RESULT_FIELDS = tuple(find.result(PARTS[0], "", LANGUAGES[0], (), ""))
"""What a projection may name, with ``results.`` before it."""


@dataclass(frozen=True)
class Request:
    """What came in.

    Attributes:
        query: of the address, one value per name.
        base_url: how the caller reached the sandbox, for addresses in answers.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: email.message.Message = field(repr=False)
    body: bytes = field(repr=False)
    base_url: str


@dataclass(frozen=True)
class Response:
    """What goes out. ``organization`` is for the call log."""

    status: int
    body: bytes = field(default=b"", repr=False)
    headers: dict[str, str] = field(default_factory=dict)
    organization: str | None = None


@dataclass(eq=False)
class ApiError(Exception):
    """An answer of 400 or above; ``field`` names what is wrong with a request (422)."""

    status: int
    message: str
    headers: dict[str, str] | None = None
    field: str | None = None
    organization: str | None = None

    def response(self) -> Response:
        """The error as a JSON answer."""
        error = HTTPStatus(self.status).phrase.lower().replace(" ", "_")
        document: dict[str, Any] = {"status": self.status, "error": error, "message": self.message}
        if self.field is not None:
            document["details"] = [{"field": self.field, "message": self.message}]
        return json_response(document, self.status, self.headers, self.organization)


def json_response(
    document: Any, status: int = 200, headers: dict[str, str] | None = None, organization: str | None = None
) -> Response:
    """An answer in JSON."""
    return Response(
        status, json.dumps(document).encode(), {"Content-Type": "application/json"} | (headers or {}), organization
    )


def http_date(seconds: float) -> str:
    """An HTTP date (RFC 9110 section 5.6.7), rounded up: a ``Retry-After`` must not be too early."""
    return email.utils.formatdate(math.ceil(seconds), usegmt=True)


@dataclass(frozen=True)
class _Search:
    """A search that was made, for its further pages."""

    id: str
    organization: str
    language: str
    words: tuple[str, ...]
    parts: tuple[Part, ...]
    fields: tuple[str, ...]
    image_id: str | None
    made_at: float


class PartiumApi:
    """The endpoints.

    Args:
        state: organizations, credentials, clock.
        issuers: the connected identity providers.
    """

    def __init__(self, state: State, issuers: Issuers) -> None:
        self._state = state
        self._issuers = issuers
        self._lock = threading.Lock()
        self._searches: dict[str, _Search] = {}
        self._handlers: dict[str, tuple[str, Callable[[Request], Response]]] = {
            "auth": ("POST", self._auth),
            "refresh": ("POST", self._refresh),
            "search": ("POST", self._search),
            "state": ("GET", self._search_state),
        }

    def clear(self) -> None:
        """Forget all searches."""
        with self._lock:
            self._searches.clear()

    # Routing

    def endpoint(self, path: str) -> str:
        """The name of the endpoint at a path; ``other`` where there is none."""
        settings = self._state.settings
        if path in settings.auth_paths:
            return "auth"
        if path in settings.refresh_paths:
            return "refresh"
        if path == "/1/find/search":
            return "search"
        return "state" if path.startswith("/1/find/search/") else "other"

    def needs_body(self, endpoint: str, method: str) -> bool:
        """Whether a request without ``Content-Length`` is answered with 411."""
        return method == "POST" and endpoint in ("refresh", "search")

    def credential(self, endpoint: str, request: Request) -> tuple[CredentialKind, str | None]:
        """What a request identifies itself with, for the call log: the kind and the fingerprint."""
        if endpoint == "refresh":
            try:
                token = json.loads(request.body)["refresh_token"]
            except (ValueError, TypeError, LookupError):
                token = None
            return ("refresh", fingerprint(token)) if isinstance(token, str) and token else ("none", None)
        scheme, value = _authorization(request)
        if scheme == "basic":
            pair = _basic(value)
            return "password", fingerprint(":".join(pair)) if pair else None
        if scheme != "bearer" or not value:
            return "none", None
        mark = fingerprint(value)
        kind = self._state.kind_of(mark)
        # At /auth a bearer can be nothing else, also where the sandbox does not know it.
        return "api_key" if kind == "unknown" and endpoint == "auth" else kind, mark

    def answer(self, endpoint: str, request: Request) -> Response:
        """Carry a request out."""
        try:
            if endpoint not in self._handlers:
                raise ApiError(404, "There is nothing at this path.")
            method, handler = self._handlers[endpoint]
            if request.method != method:
                raise ApiError(405, f"Use {method}.", headers={"Allow": f"{method}, OPTIONS"})
            return handler(request)
        except ApiError as error:
            return error.response()

    # Authentication API

    def _auth(self, request: Request) -> Response:
        scheme, value = _authorization(request)
        try:
            if scheme == "basic":
                pair = _basic(value)
                if pair is None:
                    raise Rejected("The Basic credentials are not base64 of UTF-8 with a colon (RFC 7617).")
                return self._tokens(self._state.exchange_password(*pair))
            if scheme == "bearer":
                return self._tokens(self._state.exchange_key(value))
            raise Rejected("No credentials: use Basic with user name and password, or Bearer with an API key.")
        except Rejected as error:
            challenge = 'Basic realm="Partium", charset="UTF-8", Bearer realm="Partium"'
            raise ApiError(401, str(error), headers={"WWW-Authenticate": challenge}) from None

    def _refresh(self, request: Request) -> Response:
        token = _json_object(request.body, _content_type(request)).get("refresh_token")
        if not isinstance(token, str) or not token:
            raise ApiError(422, "A refresh token is required, as a string.", field="refresh_token")
        try:
            return self._tokens(self._state.refresh(token))
        except Rejected as error:
            raise _invalid_token(str(error)) from None

    def _tokens(self, issued: Issued) -> Response:
        settings = self._state.settings
        document: dict[str, Any] = {"access_token": issued.access_token, "token_type": "Bearer"}
        if settings.send_expires_in:
            seconds = issued.lifetime_seconds
            document["expires_in"] = int(seconds) if seconds == int(seconds) else seconds
        if issued.refresh_token is not None:
            document["refresh_token"] = issued.refresh_token
        if settings.naming == "camel":
            document = {_camel(name): value for name, value in document.items()}
        only = issued.organizations[0] if len(issued.organizations) == 1 else None
        return json_response(document, headers={"Cache-Control": "no-store"}, organization=only)

    # Find API

    def _search(self, request: Request) -> Response:
        opened = self._opened_organizations(request)
        content_type = _content_type(request)
        image: bytes | None = None
        if content_type.get_content_type() == "multipart/form-data":
            document, image = _multipart(request.body, content_type)
        else:
            document = _json_object(request.body, content_type)
        asked = _validated(document, has_image=image is not None)
        self._require_access(asked.organization, opened)
        organization = self._state.organization(asked.organization)
        default_language = organization.default_language if organization else "en"
        language = find.language_of(asked.language or default_language, default_language)
        words = find.words_of(asked.text)
        if image is None:
            parts = find.search_text(asked.organization, language, words)
        elif is_image(image):
            parts = find.search_image(asked.organization, language, image, words)
        else:
            raise ApiError(415, "The format of the image is not recognized.", organization=asked.organization)
        search = _Search(
            id=str(uuid.uuid4()),
            organization=asked.organization,
            language=language,
            words=words,
            parts=parts,
            fields=asked.fields,
            image_id=None if image is None else str(uuid.uuid4()),
            made_at=self._state.now(),
        )
        with self._lock:
            self._searches[search.id] = search
        return self._page(request, search, 0, asked.limit, {})

    def _search_state(self, request: Request) -> Response:
        opened = self._opened_organizations(request)
        with self._lock:
            search = self._searches.get(request.path.rpartition("/")[2])
        if search is None or search.made_at + self._state.settings.search_lifetime_seconds <= self._state.now():
            raise ApiError(404, "There is no such search, or it has expired.")
        self._require_access(search.organization, opened)
        offset, limit = _query_number(request, "offset", 0), _query_number(request, "limit", _DEFAULT_LIMIT)
        _require(1 <= limit <= _MAX_LIMIT, "limit", f"A whole number from 1 to {_MAX_LIMIT}.")
        return self._page(
            request, search, offset, limit, {"offset": offset, "limit": limit, "total": len(search.parts)}
        )

    @staticmethod
    def _page(request: Request, search: _Search, offset: int, limit: int, more: dict[str, Any]) -> Response:
        whole = [
            find.result(part, search.organization, search.language, search.words, f"{request.base_url}/media/parts")
            for part in search.parts[offset : offset + limit]
        ]
        results = [{name: one[name] for name in search.fields} for one in whole]
        document = {"sessionId": search.id, "imageId": search.image_id, **more, "results": results}
        return json_response(document, organization=search.organization)

    def _opened_organizations(self, request: Request) -> tuple[str, ...]:
        """The organizations that the bearer of a request opens."""
        scheme, value = _authorization(request)
        if scheme != "bearer" or not value:
            raise ApiError(401, "No bearer credential.", headers={"WWW-Authenticate": 'Bearer realm="Partium"'})
        try:
            opened = self._state.organizations_of(value)
            if opened is None:
                opened = self._issuers.organizations_of(value)
        except Rejected as error:
            raise _invalid_token(str(error)) from None
        except IssuerUnavailable as error:
            raise ApiError(503, str(error), headers={"Retry-After": "1"}) from None
        if opened is None:
            raise _invalid_token("Unknown API key or access token.")
        return opened

    def _require_access(self, organization: str, opened: tuple[str, ...]) -> None:
        """Answer 403 where the credential does not open the organization, 429 where it is over its rate."""
        if organization not in opened or self._state.organization(organization) is None:
            raise ApiError(403, "These credentials do not open this organization.", organization=organization)
        wait_seconds = self._state.seconds_until_allowed(organization)
        if wait_seconds:
            headers = {"Retry-After": http_date(self._state.now() + wait_seconds)}
            raise ApiError(429, "Over the agreed rate.", headers=headers, organization=organization)


@dataclass(frozen=True)
class _Asked:
    organization: str
    text: str
    language: str | None
    fields: tuple[str, ...]
    limit: int


def _require(fits: bool, name: str, message: str) -> None:
    if not fits:
        raise ApiError(422, message, field=name)


def _validated(document: dict[str, Any], *, has_image: bool) -> _Asked:
    """The search that a document asks for. Anything that is not documented is 422 and names the field."""
    _require_known(document, "", ("language", "projection", "matches", "resultOptions"))
    matches, options = document.get("matches"), document.get("resultOptions", {})
    _require(isinstance(matches, dict), "matches", "An object with the organization is required.")
    _require(isinstance(options, dict), "resultOptions", "An object with a limit.")
    assert isinstance(matches, dict)
    _require_known(matches, "matches.", ("organization", "text"))
    _require_known(options, "resultOptions.", ("limit",))

    organization, text = matches.get("organization"), matches.get("text", "")
    _require(isinstance(organization, str) and organization != "", "matches.organization", "The id, as a string.")
    is_text = isinstance(text, str) and len(text) <= _MAX_TEXT
    _require(is_text, "matches.text", f"A string of at most {_MAX_TEXT} characters.")
    _require(has_image or text.strip() != "", "matches.text", "A search needs a text or an image.")
    language = document.get("language")
    _require(language is None or isinstance(language, str), "language", "A language tag such as en.")
    projection = document.get("projection", ["results.id", "results.name"])
    _require(isinstance(projection, list) and projection != [], "projection", "A list of fields.")
    known = {f"results.{name}": name for name in RESULT_FIELDS}
    for index, name in enumerate(projection):
        is_known = isinstance(name, str) and name in known
        _require(is_known, f"projection[{index}]", f"Unknown field; known are {', '.join(known)}.")
    limit = options.get("limit", _DEFAULT_LIMIT)
    is_number = isinstance(limit, int) and not isinstance(limit, bool) and 1 <= limit <= _MAX_LIMIT
    _require(is_number, "resultOptions.limit", f"A whole number from 1 to {_MAX_LIMIT}.")
    return _Asked(str(organization), text, language, tuple(known[name] for name in projection), limit)


def _require_known(document: dict[str, Any], prefix: str, names: tuple[str, ...]) -> None:
    for name in document:
        _require(name in names, prefix + name, "Unknown field.")


def _query_number(request: Request, name: str, default: int) -> int:
    value = request.query.get(name, str(default))
    _require(value.isascii() and value.isdecimal(), name, "A whole number.")
    return int(value)


def _invalid_token(message: str) -> ApiError:
    return ApiError(401, message, headers={"WWW-Authenticate": 'Bearer realm="Partium", error="invalid_token"'})


def _authorization(request: Request) -> tuple[str, str]:
    """Scheme (lower case) and credentials of the ``Authorization`` header; empty where there is none."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower(), value.strip()


def _basic(value: str) -> tuple[str, str] | None:
    """User name and password of Basic credentials in UTF-8 (RFC 7617)."""
    try:
        username, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
    except ValueError:
        return None
    return (username, password) if colon else None


def _content_type(request: Request) -> email.message.Message:
    """The ``Content-Type`` header on its own, to ask for type and parameters."""
    message = email.message.Message()
    message["Content-Type"] = request.headers.get("Content-Type", "application/octet-stream")
    return message


def _json_object(body: bytes, content_type: email.message.Message, name: str = "body") -> dict[str, Any]:
    is_json = content_type.get_content_type() == "application/json"
    _require(is_json, name, "The content type has to be application/json.")
    try:
        document = json.loads(body.decode())
    except ValueError:
        raise ApiError(422, "This is not JSON in UTF-8.", field=name) from None
    _require(isinstance(document, dict), name, "This is not a JSON object.")
    assert isinstance(document, dict)
    return document


def _multipart(body: bytes, content_type: email.message.Message) -> tuple[dict[str, Any], bytes]:
    """The parts ``input`` and ``image`` of a form (RFC 7578).

    The standard library's message parser is made for text and takes seconds for 5 MiB.
    """
    boundary = str(content_type.get_param("boundary", "")).encode()
    found: dict[str, tuple[email.message.Message, bytes]] = {}
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary)[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        headers = email.parser.BytesHeaderParser().parsebytes(head)
        found[str(headers.get_param("name", header="content-disposition"))] = headers, content
    _require(boundary != b"" and set(found) == {"input", "image"}, "body", "The form has the parts input and image.")
    headers, content = found["input"]
    return _json_object(content, headers, "input"), found["image"][1]


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
