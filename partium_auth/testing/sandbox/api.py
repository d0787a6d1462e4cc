"""Partium's API as documented: a request in, a response out. Sockets, faults and the call log are the server's.

What is documented, and what had to be assumed, is written in ``docs/sandbox.md``.
"""

from __future__ import annotations

import base64
import binascii
import email.message
import email.policy
import email.utils
import json
import math
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from email.parser import BytesHeaderParser
from http import HTTPStatus
from typing import Any

from . import find
from .catalog import catalog_of
from .issuers import Issuers, IssuerUnavailable
from .state import CredentialKind, Issued, Rejected, State, fingerprint

MAX_SEARCH_BYTES = 5_767_168  # 5.5 MiB, image and input together
_MULTIPART_OVERHEAD_BYTES = 65_536
_MAX_OTHER_BYTES = 65_536
_MAX_SEARCHES = 1_000
_DEFAULT_LIMIT, _MAX_LIMIT = 10, 100
_MAX_TEXT = 1_000

PROJECTION_FIELDS = tuple(
    f"results.{name}"
    for name in (
        "id",
        "partiumId",
        "name",
        "nameLanguage",
        "previewData",
        "images",
        "mountingLocationsCount",
        "createdAt",
        "modifiedAt",
        "attributes",
        "highlights",
    )
)


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


class ApiError(Exception):
    """An answer of 400 or above."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        headers: dict[str, str] | None = None,
        field: str | None = None,
        organization: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.field = field
        self.organization = organization

    def response(self) -> Response:
        """The error as a JSON answer."""
        document: dict[str, Any] = {
            "status": self.status,
            "error": HTTPStatus(self.status).phrase.lower().replace(" ", "_"),
            "message": str(self),
        }
        if self.field is not None:
            document["details"] = [{"field": self.field, "message": str(self)}]
        return json_response(document, self.status, self.headers, self.organization)


def json_response(
    document: Any, status: int = 200, headers: dict[str, str] | None = None, organization: str | None = None
) -> Response:
    """An answer in JSON."""
    # An error may name a field that the caller made up, even one that UTF-8 cannot hold.
    body = json.dumps(document, ensure_ascii=status >= 400).encode()
    return Response(status, body, {"Content-Type": "application/json"} | (headers or {}), organization)


def http_date(seconds: float) -> str:
    """An HTTP date (RFC 9110 section 5.6.7), rounded up: a ``Retry-After`` must not be too early."""
    return email.utils.formatdate(math.ceil(seconds), usegmt=True)


@dataclass(frozen=True)
class _Search:
    organization: str
    language: int
    found: find.Found
    projection: tuple[str, ...]
    image_id: str | None
    at: float


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
        self._searches: OrderedDict[str, _Search] = OrderedDict()

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
        return "state" if path.startswith("/1/find/search/") and path.count("/") == 4 else "other"

    def needs_length(self, endpoint: str, method: str) -> bool:
        """Whether a request without ``Content-Length`` is refused with 411: where a body is part of the request."""
        return method == "POST" and endpoint in ("refresh", "search")

    def max_body_bytes(self, endpoint: str, content_type: str) -> int:
        """The largest body that is read at all."""
        if endpoint != "search":
            return _MAX_OTHER_BYTES
        multipart = content_type.lower().startswith("multipart/")
        return MAX_SEARCH_BYTES + (_MULTIPART_OVERHEAD_BYTES if multipart else 0)

    def credential(self, endpoint: str, request: Request) -> tuple[CredentialKind, str | None]:
        """What a request identifies itself with, for the call log: the kind and the fingerprint."""
        if endpoint == "refresh":
            try:
                token = json.loads(request.body)["refresh_token"]
            except (ValueError, TypeError, LookupError, RecursionError):
                return "none", None
            return ("refresh", fingerprint(token)) if isinstance(token, str) and token else ("none", None)
        scheme, value = _authorization(request)
        if scheme == "basic":
            pair = _basic(value)
            return ("password", fingerprint(":".join(pair))) if pair else ("password", None)
        if scheme != "bearer" or not value:
            return "none", None
        mark = fingerprint(value)
        kind = self._state.kind_of(mark)
        if kind == "unknown" and endpoint == "auth":
            kind = "api_key"  # a bearer is nothing else here
        return kind, mark

    def answer(self, endpoint: str, request: Request) -> Response:
        """Carry a request out."""
        handlers: dict[str, tuple[str, Callable[[Request], Response]]] = {
            "auth": ("POST", self._auth),
            "refresh": ("POST", self._refresh),
            "search": ("POST", self._search),
            "state": ("GET", self._search_state),
        }
        try:
            if endpoint not in handlers:
                raise ApiError(404, "There is nothing at this path.")
            method, handler = handlers[endpoint]
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
                issued = self._state.exchange_password(*pair)
            elif scheme == "bearer":
                issued = self._state.exchange_key(value)
            else:
                raise Rejected("No credentials: use Basic with user name and password, or Bearer with an API key.")
        except Rejected as error:
            challenge = 'Basic realm="Partium", charset="UTF-8", Bearer realm="Partium"'
            raise ApiError(401, str(error), headers={"WWW-Authenticate": challenge}) from None
        return self._tokens(issued)

    def _refresh(self, request: Request) -> Response:
        document = _json_object(request.body, _content_type(request))
        token = document.get("refresh_token")
        if not isinstance(token, str) or not token:
            raise ApiError(422, "A refresh token is required, as a string.", field="refresh_token")
        try:
            return self._tokens(self._state.refresh(token))
        except Rejected as error:
            headers = {"WWW-Authenticate": 'Bearer realm="Partium", error="invalid_token"'}
            raise ApiError(401, str(error), headers=headers) from None

    def _tokens(self, issued: Issued) -> Response:
        settings = self._state.settings
        lifetime = issued.expires_in
        document: dict[str, Any] = {"access_token": issued.access_token, "token_type": "Bearer"}
        if settings.send_expires_in:
            document["expires_in"] = int(lifetime) if float(lifetime).is_integer() else lifetime
        if issued.refresh_token is not None:
            document["refresh_token"] = issued.refresh_token
        if settings.naming == "camel":
            document = {_camel(name): value for name, value in document.items()}
        only = issued.organizations[0] if len(issued.organizations) == 1 else None
        return json_response(document, headers={"Cache-Control": "no-store", "Pragma": "no-cache"}, organization=only)

    # Find API

    def _opened(self, request: Request) -> tuple[str, ...]:
        """The organizations that the bearer opens."""
        scheme, value = _authorization(request)
        if scheme != "bearer" or not value:
            raise ApiError(401, "No bearer credential.", headers={"WWW-Authenticate": 'Bearer realm="Partium"'})
        try:
            bearer = self._state.bearer(value)
            opened = bearer.organizations if bearer else self._issuers.organizations(value)
            if opened is None:
                raise Rejected("Unknown API key or access token.")
        except Rejected as error:
            headers = {"WWW-Authenticate": 'Bearer realm="Partium", error="invalid_token"'}
            raise ApiError(401, str(error), headers=headers) from None
        except IssuerUnavailable as error:
            raise ApiError(503, str(error), headers={"Retry-After": "1"}) from None
        return opened

    def _admit(self, organization: str, opened: tuple[str, ...]) -> None:
        """Refuse what the credential does not open, and what is over the organization's rate."""
        if organization not in opened or self._state.organization(organization) is None:
            raise ApiError(403, "These credentials do not open this organization.", organization=organization)
        wait_seconds = self._state.admit(organization)
        if wait_seconds is not None:
            headers = {"Retry-After": http_date(self._state.now() + wait_seconds)}
            raise ApiError(429, "Over the agreed rate.", headers=headers, organization=organization)

    def _search(self, request: Request) -> Response:
        opened = self._opened(request)
        content_type = _content_type(request)
        image: bytes | None = None
        if content_type.get_content_type() == "multipart/form-data":
            document, image = _multipart(request.body, content_type)
        else:
            document = _json_object(request.body, content_type)
        asked = _validated(document, has_image=image is not None)
        self._admit(asked.organization, opened)
        organization = self._state.organization(asked.organization)
        assert organization is not None
        language = find.language_index(asked.language or organization.default_language, organization.default_language)
        image_id = None
        if image is None:
            found = find.search_text(asked.organization, language, asked.text or "")
        else:
            if find.image_format(image) is None:
                raise ApiError(415, "The format of the image is not recognized.", organization=asked.organization)
            image_id = str(uuid.uuid4())
            found = find.search_image(asked.organization, language, image, asked.text)
        search = _Search(asked.organization, language, found, asked.projection, image_id, self._state.now())
        session_id = str(uuid.uuid4())
        with self._lock:
            self._searches[session_id] = search
            while len(self._searches) > _MAX_SEARCHES:
                self._searches.popitem(last=False)
        return json_response(
            {
                "sessionId": session_id,
                "imageId": image_id,
                "results": self._results(search, 0, asked.limit, request.base_url),
            },
            organization=asked.organization,
        )

    def _search_state(self, request: Request) -> Response:
        opened = self._opened(request)
        session_id = request.path.rpartition("/")[2]
        with self._lock:
            search = self._searches.get(session_id)
        if search is None or search.at + self._state.settings.search_lifetime_seconds <= self._state.now():
            raise ApiError(404, "There is no such search, or it has expired.")
        self._admit(search.organization, opened)
        offset = _whole(request.query.get("offset", "0"), "offset", 0, None, search.organization)
        limit = _whole(request.query.get("limit", str(_DEFAULT_LIMIT)), "limit", 1, _MAX_LIMIT, search.organization)
        return json_response(
            {
                "sessionId": session_id,
                "imageId": search.image_id,
                "offset": offset,
                "limit": limit,
                "total": len(search.found.parts),
                "results": self._results(search, offset, limit, request.base_url),
            },
            organization=search.organization,
        )

    @staticmethod
    def _results(search: _Search, offset: int, limit: int, base_url: str) -> list[dict[str, Any]]:
        parts = catalog_of(search.organization).parts
        page = search.found.parts[offset : offset + limit]
        whole = [
            find.result(parts[one], search.language, search.found.words, f"{base_url}/media/parts") for one in page
        ]
        names = [name.removeprefix("results.") for name in search.projection]
        return [{name: result[name] for name in names} for result in whole]


@dataclass(frozen=True)
class _Asked:
    organization: str
    text: str | None
    language: str | None
    projection: tuple[str, ...]
    limit: int


def _validated(document: dict[str, Any], *, has_image: bool) -> _Asked:  # noqa: C901 - one check after another
    """The search that a document asks for.

    Raises:
        ApiError: 422, naming the field, for anything that is not documented.
    """
    for name in document:
        if name not in ("language", "projection", "matches", "resultOptions"):
            raise ApiError(422, "Unknown field.", field=name[:100])
    matches = document.get("matches")
    if not isinstance(matches, dict):
        raise ApiError(422, "An object with the organization is required.", field="matches")
    for name in matches:
        if name not in ("organization", "text"):
            raise ApiError(422, "Unknown field.", field=f"matches.{name[:100]}")
    organization = matches.get("organization")
    if not isinstance(organization, str) or not organization:
        raise ApiError(422, "The organization's id is required, as a string.", field="matches.organization")
    text = matches.get("text")
    if text is not None and (not isinstance(text, str) or len(text) > _MAX_TEXT):
        raise ApiError(422, f"A string of at most {_MAX_TEXT} characters.", field="matches.text")
    if not has_image and not (text or "").strip():
        raise ApiError(422, "A search needs a text or an image.", field="matches.text")
    language = document.get("language")
    if language is not None and (not isinstance(language, str) or not language):
        raise ApiError(422, "A language tag such as en.", field="language")
    projection = document.get("projection", ["results.id", "results.name"])
    if not isinstance(projection, list) or not projection:
        raise ApiError(422, "A list of fields.", field="projection")
    for index, name in enumerate(projection):
        if name not in PROJECTION_FIELDS:
            raise ApiError(
                422, f"Unknown field; known are {', '.join(PROJECTION_FIELDS)}.", field=f"projection[{index}]"
            )
    options = document.get("resultOptions", {})
    if not isinstance(options, dict) or set(options) - {"limit"}:
        raise ApiError(422, "An object with a limit and nothing else.", field="resultOptions")
    limit = options.get("limit", _DEFAULT_LIMIT)
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= _MAX_LIMIT:
        raise ApiError(422, f"A whole number from 1 to {_MAX_LIMIT}.", field="resultOptions.limit")
    return _Asked(organization, text, language, tuple(dict.fromkeys(projection)), limit)


def _whole(value: str, name: str, least: int, most: int | None, organization: str) -> int:
    if value.isascii() and value.isdecimal() and len(value) <= 9:
        number = int(value)
        if number >= least and (most is None or number <= most):
            return number
    upper = f" to {most}" if most is not None else ""
    raise ApiError(422, f"A whole number from {least}{upper}.", field=name, organization=organization)


def _authorization(request: Request) -> tuple[str, str]:
    """Scheme (lower case) and credentials of the ``Authorization`` header; empty where there is none."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower(), value.strip()


def _basic(value: str) -> tuple[str, str] | None:
    """User name and password of Basic credentials in UTF-8 (RFC 7617)."""
    try:
        username, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return (username, password) if colon else None


def _content_type(request: Request) -> email.message.Message:
    """The ``Content-Type`` header on its own, to ask for type and parameters."""
    message = email.message.Message()
    message["Content-Type"] = request.headers.get("Content-Type", "application/octet-stream")
    return message


def _json_object(body: bytes, content_type: email.message.Message, name: str = "") -> dict[str, Any]:
    where = name or "body"
    if content_type.get_content_type() != "application/json":
        raise ApiError(422, "The content type has to be application/json.", field=where)
    try:
        document = json.loads(body.decode())
    except (ValueError, RecursionError):
        raise ApiError(422, "This is not JSON in UTF-8.", field=where) from None
    if not isinstance(document, dict):
        raise ApiError(422, "This is not a JSON object.", field=where)
    return document


def _multipart(body: bytes, content_type: email.message.Message) -> tuple[dict[str, Any], bytes]:
    """The parts ``input`` and ``image`` of a form (RFC 7578).

    Written out here because the standard library's message parser is made for text and takes seconds over 5 MiB.
    """
    boundary = content_type.get_param("boundary")
    if not isinstance(boundary, str) or not boundary:
        raise ApiError(422, "The multipart body has no boundary.", field="body")
    delimiter = b"\r\n--" + boundary.encode("utf-8", "surrogateescape")
    first, *parts = (b"\r\n" + body).split(delimiter)
    if first.strip() or not parts or not parts[-1].startswith(b"--"):
        raise ApiError(422, "The multipart body is not well formed.", field="body")
    found: dict[str, tuple[email.message.Message, bytes]] = {}
    for part in parts[:-1]:
        # Spaces may follow the delimiter; then come the headers, an empty line, and the content.
        head, empty_line, content = part.lstrip(b" \t").removeprefix(b"\r\n").partition(b"\r\n\r\n")
        headers = BytesHeaderParser(policy=email.policy.compat32).parsebytes(head + b"\r\n\r\n")
        name = headers.get_param("name", header="content-disposition")
        if not empty_line or not isinstance(name, str) or name not in ("input", "image") or name in found:
            raise ApiError(422, "The form has the parts input and image, once each.", field="body")
        found[name] = headers, content
    if set(found) != {"input", "image"}:
        raise ApiError(422, "The form has the parts input and image, once each.", field="body")
    if sum(len(content) for _, content in found.values()) > MAX_SEARCH_BYTES:
        raise ApiError(413, "Image and input together are over 5.5 MiB.")
    headers, content = found["input"]
    return _json_object(content, headers, "input"), found["image"][1]


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
