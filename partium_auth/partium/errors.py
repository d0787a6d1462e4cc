"""Which error responses are Partium's own."""

from __future__ import annotations

from partium_auth.exceptions import UnexpectedResponse
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
