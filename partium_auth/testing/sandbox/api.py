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
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from . import find
from .catalog import LANGUAGES, PARTS, Part, parts_of
from .catalog_api import Store
from .issuers import Issuers, IssuerUnavailable
from .pictures import is_image
from .state import CredentialKind, Issued, Permission, Rejected, State, fingerprint

MAX_BODY_BYTES = 5_767_168
"""5.5 MiB, of a whole request."""

_MAX_EVENTS = 10_000
EVENTS = ("part_detail_enter", "part_confirmed_search", "part_search_relevancy")
"""The last name is an assumption."""

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

    def response(self, form: str = "common") -> Response:
        """The error as a JSON answer."""
        if form == "other":
            where = [] if self.field is None else ["body", *self.field.split(".")]
            detail: Any = [{"loc": where, "msg": self.message, "type": "value_error"}] if where else self.message
            return json_response({"detail": detail}, self.status, self.headers, self.organization)
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
    facets: bool
    image_id: str | None


class PartiumApi:
    """The endpoints."""

    def __init__(self, state: State, issuers: Issuers) -> None:
        self._state = state
        self._issuers = issuers
        self._lock = threading.Lock()
        self._searches: dict[str, _Search] = {}
        self.events: deque[dict[str, Any]] = deque(maxlen=_MAX_EVENTS)
        self._stored = Store()
        self._handlers: dict[str, tuple[str, Callable[[Request], Response]]] = {
            "auth": ("POST", self._auth),
            "refresh": ("POST", self._refresh),
            "search": ("POST", self._search),
            "state": ("GET", self._search_state),
            "filters": ("GET", self._filters),
            "events": ("POST", self._event),
            "catalog": ("", self._catalog),
        }

    def clear(self) -> None:
        """Forget all searches."""
        with self._lock:
            self._searches.clear()
            self.events.clear()
            self._stored = Store()

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
        if path == "/1/analytics/events":
            return "events"
        known = (("/1/find/search/", "state"), ("/1/find/filters/", "filters"), ("/1/catalog", "catalog"))
        return next((name for prefix, name in known if path.startswith(prefix)), "other")

    def needs_body(self, endpoint: str, method: str) -> bool:
        """Whether a request without ``Content-Length`` is answered with 411."""
        return method == "POST" and endpoint in ("refresh", "search", "events", "catalog")

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
        # At /auth every bearer is an API key, even an unknown one.
        return "api_key" if kind == "unknown" and endpoint == "auth" else kind, mark

    def answer(self, endpoint: str, request: Request) -> Response:
        """Carry a request out."""
        try:
            if endpoint not in self._handlers:
                raise ApiError(404, "There is nothing at this path.")
            method, handler = self._handlers[endpoint]
            if method and request.method != method:
                raise ApiError(405, f"Use {method}.", headers={"Allow": f"{method}, OPTIONS"})
            return handler(request)
        except ApiError as error:
            return error.response(self._state.settings.form)

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
        asked = _validated(document, has_image=image is not None, strict=self._state.settings.strict)
        self._require_access(asked.organization, opened)
        organization = self._state.organization(asked.organization)
        default_language = organization.default_language if organization else "en"
        language = find.language_of(asked.language or default_language, default_language)
        words = find.words_of(asked.text)
        if image is None and not words:
            parts = parts_of(asked.organization)
        elif image is None:
            parts = find.search_text(asked.organization, language, words)
        elif is_image(image):
            parts = find.search_image(asked.organization, language, image, words)
        else:
            raise ApiError(415, "The format of the image is not recognized.", organization=asked.organization)
        parts = find.narrowed(parts, language, asked.filters, asked.hierarchy)
        search = _Search(
            id=str(uuid.uuid4()),
            organization=asked.organization,
            language=language,
            words=words,
            parts=parts,
            fields=asked.fields,
            facets=asked.facets,
            image_id=None if image is None else str(uuid.uuid4()),
        )
        with self._lock:
            self._searches[search.id] = search
        more = {"smartFilters": find.smart_filters(search.parts, language)} if search.facets else {}
        return self._page(request, search, asked.skip, asked.limit, more)

    def _search_state(self, request: Request) -> Response:
        opened = self._opened_organizations(request)
        with self._lock:
            search = self._searches.get(request.path.rpartition("/")[2])
        if search is None:
            raise ApiError(404, "There is no such search.")
        self._require_access(search.organization, opened)
        if self._state.settings.strict and (unknown := request.query.keys() - {"skip", "limit"}):
            raise ApiError(422, "Unknown parameter.", field=min(unknown))
        skip, limit = _query_number(request, "skip", 0), _query_number(request, "limit", _DEFAULT_LIMIT)
        _require(1 <= limit <= _MAX_LIMIT, "limit", f"A whole number from 1 to {_MAX_LIMIT}.")
        return self._page(request, search, skip, limit, {})

    def _page(self, request: Request, search: _Search, skip: int, limit: int, more: dict[str, Any]) -> Response:
        whole = [
            find.result(part, search.organization, search.language, search.words, f"{request.base_url}/media/parts")
            for part in search.parts[skip : skip + limit]
        ]
        results = [{name: one[name] for name in search.fields} for one in whole]
        settings = self._state.settings
        if settings.form == "other":
            results = [find.in_other_form(one) for one in results]
        if settings.send_total:
            more["resultsTotalCount" if settings.form == "common" else "total"] = len(search.parts)
        document = {"sessionId": search.id, "imageId": search.image_id, **more, "results": results}
        return json_response(document, organization=search.organization)

    def _filters(self, request: Request) -> Response:
        """Nodes of the hierarchy, attributes and their values; the organization is a parameter, or the only one."""
        opened = self._opened_organizations(request)
        query, size = request.query, _query_number(request, "pageSize", 20)
        _require(1 <= size <= _MAX_LIMIT, "pageSize", f"A whole number from 1 to {_MAX_LIMIT}.")
        organization = query.get("organization") or opened[0]
        self._require_access(organization, opened)
        language = find.language_of(query.get("language", ""), "en")
        known, text = find.values_of(parts_of(organization), language), query.get("text", "").lower()
        found: list[Any]
        if request.path == "/1/find/filters/hierarchy":
            nodes = find.nodes_below(query.get("rootId") or query.get("rootPartiumId"), organization, language)
            _require(nodes is not None, "rootId", "There is no such node.")
            found = nodes or []
        elif request.path == "/1/find/filters/attributes":
            found = [{"label": label} for label in known if text in label.lower()]
        elif request.path in ("/1/find/filters/attributes/options", "/1/find/filters/filters/options"):
            values: Mapping[str, int] = known.get(query.get("label", ""), {})
            found = [{"value": value, "count": count} for value, count in values.items() if text in value.lower()]
        else:
            raise ApiError(404, "There is nothing at this path.")
        start = (max(1, _query_number(request, "page", 1)) - 1) * size
        page = found[start : start + size]
        if self._state.settings.form == "other" and "attributes" in request.path:
            page = [one.get("label") or one["value"] for one in page]
        return json_response({"results": page}, organization=organization)

    def _event(self, request: Request) -> Response:
        """Take an Analytics event (Partium, Analytics API)."""
        opened = self._opened_organizations(request)
        body = _json_object(request.body, _content_type(request))
        event, data, person = body.get("event"), body.get("data"), body.get("external_user_id")
        _require(event in EVENTS, "event", f"One of {', '.join(EVENTS)}.")
        _require(isinstance(data, dict), "data", "An object.")
        _require(person is None or isinstance(person, str), "external_user_id", "A string.")
        assert isinstance(data, dict)
        for name in ("partium_id", "search_session_id"):
            _require(_is_uuid(data.get(name)), f"data.{name}", "A UUID.")
        index = data.get("index")
        # Partium's pages show a string and a number; their pattern is a string's.
        is_number = isinstance(index, str | int) and not isinstance(index, bool) and str(index).isdecimal()
        _require(index is None or is_number, "data.index", "Digits, as a string.")
        now = datetime.fromtimestamp(self._state.now(), UTC).replace(tzinfo=None)
        answer = {"event_id": str(uuid.uuid4()), "created_at": now.isoformat(timespec="microseconds")}
        self.events.append({"event": event, "data": data, "external_user_id": person, **answer})
        return json_response(answer, organization=opened[0] if len(opened) == 1 else None)

    def _catalog(self, request: Request) -> Response:
        """The Catalog API: wants a key that was made for it."""
        opened = self._opened_organizations(request, permission="catalog")
        resource = request.path.removeprefix("/1/catalog").strip("/")
        if request.method == "GET" and resource in ("", "status"):
            name = self._state.organization(opened[0])
            overview = {"name": name.display_name if name else opened[0], "available_languages": list(LANGUAGES)}
            return json_response(self._stored.status() if resource else overview, organization=opened[0])
        if not self._stored.knows(resource):
            raise ApiError(404, "There is nothing at this path.")
        if request.method not in ("POST", "DELETE"):
            raise ApiError(405, "Use POST or DELETE.", headers={"Allow": "POST, DELETE, OPTIONS"})
        if self._state.settings.maintenance:
            return json_response({"detail": "The catalog is under maintenance; writes are refused."}, 503)
        try:
            items = json.loads(request.body)
        except ValueError:
            items = None
        is_list = isinstance(items, list) and all(isinstance(one, dict) for one in items)
        _require(is_list, "body", "A list of objects.")
        return json_response(
            self._stored.write(resource, items, remove=request.method == "DELETE"), organization=opened[0]
        )

    def _opened_organizations(self, request: Request, *, permission: Permission = "find") -> tuple[str, ...]:
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
        if self._state.permission_of(value) != permission:
            raise ApiError(403, "This key was not made for this API.")
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
    facets: bool
    limit: int
    skip: int
    filters: list[tuple[str, list[str]]]
    hierarchy: list[str]


def _require(fits: bool, name: str, message: str) -> None:
    if not fits:
        raise ApiError(422, message, field=name)


def _validated(document: dict[str, Any], *, has_image: bool, strict: bool) -> _Asked:
    """The search that a document asks for. What is wrong is 422 and names the field; if strict, also what is unknown."""
    if strict:
        _require_known(document, "", ("language", "fallbackLanguages", "projection", "matches", "resultOptions"))
    matches, options = document.get("matches"), document.get("resultOptions", {})
    _require(isinstance(matches, dict), "matches", "An object with the organization is required.")
    _require(isinstance(options, dict), "resultOptions", "An object with a limit.")
    assert isinstance(matches, dict)
    if strict:
        _require_known(matches, "matches.", ("organization", "text", "filters", "hierarchy"))
        _require_known(options, "resultOptions.", ("limit", "skip"))
    filters, hierarchy = matches.get("filters", []), matches.get("hierarchy", [])
    _require(isinstance(filters, list), "matches.filters", "A list.")
    for index, one in enumerate(filters):
        is_filter = isinstance(one, dict) and isinstance(one.get("label"), str) and _is_texts(one.get("values"))
        _require(is_filter, f"matches.filters[{index}]", "An object with a label and a list of values.")
    _require(_is_texts(hierarchy), "matches.hierarchy", "A list of ids.")
    _require(_is_texts(document.get("fallbackLanguages", [])), "fallbackLanguages", "A list of languages.")

    organization, text = matches.get("organization"), matches.get("text", "")
    _require(isinstance(organization, str) and organization != "", "matches.organization", "The id, as a string.")
    is_text = isinstance(text, str) and len(text) <= _MAX_TEXT
    _require(is_text, "matches.text", f"A string of at most {_MAX_TEXT} characters.")
    is_something = has_image or text.strip() != "" or bool(filters) or bool(hierarchy)
    _require(is_something, "matches.text", "A search needs a text, an image, filters or a hierarchy.")
    language = document.get("language")
    _require(language is None or isinstance(language, str), "language", "A language tag such as en.")
    projection = document.get("projection", ["results.id", "results.name"])
    _require(isinstance(projection, list) and projection != [], "projection", "A list of fields.")
    known = {f"results.{name}": name for name in RESULT_FIELDS}
    for index, name in enumerate(projection):
        is_known = isinstance(name, str) and (name in known or name == "smartFilters")
        _require(is_known, f"projection[{index}]", f"Unknown field; known are {', '.join(known)}.")
    limit = options.get("limit", _DEFAULT_LIMIT)
    is_number = isinstance(limit, int) and not isinstance(limit, bool) and 1 <= limit <= _MAX_LIMIT
    _require(is_number, "resultOptions.limit", f"A whole number from 1 to {_MAX_LIMIT}.")
    skip = options.get("skip", 0)
    _require(
        isinstance(skip, int) and not isinstance(skip, bool) and skip >= 0, "resultOptions.skip", "A whole number."
    )
    return _Asked(
        str(organization),
        text,
        language,
        tuple(known[name] for name in projection if name in known),
        "smartFilters" in projection,
        limit,
        skip,
        [(one["label"], one["values"]) for one in filters],
        hierarchy,
    )


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_uuid(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(uuid.UUID(value))
    except ValueError:
        return False


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
