"""Which error responses are Partium's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from partium_auth.exceptions import Problem, UnexpectedResponse
from partium_auth.http.transport import Response, parse_retry_after


def require_json_error(response: Response, what: str) -> None:
    """Trust an error status only if the body is a JSON object: a firewall in front of Partium sends the same statuses.

    Args:
        response: with a status that decides about a credential.
        what: what was asked for, such as "Partium API key exchange", to begin the message with.

    Raises:
        UnexpectedResponse: the body is a page, empty, or anything else.
    """
    try:
        is_json_object = isinstance(response.json(), dict)
    except UnexpectedResponse:
        is_json_object = False
    if not is_json_object:
        raise UnexpectedResponse(
            f"{what}: {response.url} answered {response.status}, but with no JSON: perhaps a firewall or a proxy did; "
            "check what stands between, and the URL.",
            status=response.status,
            retry_after=parse_retry_after(response.headers),
        )


_MAX_PROBLEMS, _MAX_CHARACTERS = 20, 300


def problems_of(response: Response) -> tuple[Problem, ...]:
    """Return what a 422 says is wrong. Its form is not documented: ``detail``, ``details`` or ``errors``, a text or a list."""
    try:
        body = response.json()
    except UnexpectedResponse:
        return ()
    found: Any = None
    if isinstance(body, Mapping):
        found = next((body[name] for name in ("detail", "details", "errors", "message") if body.get(name)), None)
    problems = [_problem(one) for one in (found if isinstance(found, list) else [found])[:_MAX_PROBLEMS]]
    return tuple(problem for problem in problems if problem.field or problem.message)


def _problem(found: Any) -> Problem:
    if not isinstance(found, Mapping):
        return Problem("", found[:_MAX_CHARACTERS] if isinstance(found, str) else "")
    field, message = found.get("field") or found.get("loc"), found.get("message") or found.get("msg")
    if isinstance(field, list):  # FastAPI: ["body", "matches", "filters", 0]
        field = ".".join(str(one) for one in field if one != "body")
    return Problem(*(str(text or "")[:_MAX_CHARACTERS] for text in (field, message)))
