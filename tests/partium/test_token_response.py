"""What is taken for tokens, and what is not."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from partium_auth.exceptions import CredentialsRejected, NotPermitted, RateLimited, UnexpectedResponse, UpstreamError
from partium_auth.http.transport import Response
from partium_auth.partium.token_response import MAX_LIFETIME_SECONDS, TokenResponse, parse_token_response

URL = "https://api.partium.io/1/auth"
WHAT = "Partium API key exchange"


def response(body: object, status: int = 200, content_type: str = "application/json", **headers: str) -> Response:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {"Content-Type": content_type} | {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, CaseInsensitiveDict(names), raw, URL)


def parse(body: object, **options: Any) -> TokenResponse:
    return parse_token_response(response(body, **options), what=WHAT)


def jwt(claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"eyJhbGciOiJub25lIn0.{payload}.sig"


# --- accepted


def test_the_names_of_rfc_6749() -> None:
    body = {
        "access_token": "at",
        "token_type": "Bearer",
        "expires_in": 600,
        "refresh_token": "rt",
        "scope": "openid find",
        "id_token": "a.b.c",
    }
    assert parse(body) == TokenResponse("at", "rt", 600, "a.b.c")


def test_the_names_in_camel_case() -> None:
    body = {"accessToken": "at", "tokenType": "bearer", "expiresIn": 300, "refreshToken": "rt", "idToken": "a.b.c"}
    assert parse(body) == TokenResponse("at", "rt", 300, "a.b.c")


def test_null_is_missing() -> None:
    body = {"access_token": None, "accessToken": "at", "refresh_token": None, "expires_in": None, "token_type": None}
    assert parse({**body, "scope": None, "id_token": None}) == TokenResponse("at", None, 600)


def test_unknown_members_and_media_types_do_not_matter() -> None:
    assert parse({"access_token": "at", "x": {}}, content_type="text/plain").access_token == "at"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1, 1),
        (600.9, 600),
        ("600", 600),
        (" 90 ", 90),
        ("90.5", 90),
        (10**12, MAX_LIFETIME_SECONDS),
        (1e300, MAX_LIFETIME_SECONDS),
    ],
)
def test_a_lifetime_in_any_form_of_a_number(value: object, seconds: int) -> None:
    assert parse({"access_token": "at", "expires_in": value}).lifetime_seconds == seconds


@pytest.mark.parametrize("token_type", ["Bearer", "bearer", "BEARER", "BearerToken"])
def test_token_types_that_mean_bearer(token_type: str) -> None:
    assert parse({"access_token": "at", "token_type": token_type}).access_token == "at"


def test_a_missing_lifetime_is_that_of_the_jwt_by_its_own_clock() -> None:
    assert parse({"access_token": jwt({"iat": 1_000_000, "exp": 1_000_300})}).lifetime_seconds == 300


def test_a_jwt_without_iat_is_read_against_the_current_time() -> None:
    assert 3500 < parse({"access_token": jwt({"exp": time.time() + 3600})}).lifetime_seconds <= 3600


@pytest.mark.parametrize(
    "token",
    [
        "opaque",
        "a.b",
        "a.b.c",
        "a.!!!.c",
        "..",
        jwt({}),
        jwt([]),
        jwt("x"),
        jwt({"exp": "soon"}),
        jwt({"exp": True, "iat": 0}),
        jwt({"iat": 1000, "exp": 1000}),
        jwt({"iat": 1000, "exp": 900}),
        jwt({"exp": 1000}),
        jwt({"iat": None, "exp": 1000}),
        jwt({"iat": 0, "exp": float("inf")}),
        jwt({"iat": 0, "exp": float("nan")}),
    ],
)
def test_a_token_that_says_nothing_useful_lives_for_ten_minutes(token: str) -> None:
    assert parse({"access_token": token}).lifetime_seconds == 600


def test_the_lifetime_in_the_answer_counts_more_than_the_jwt() -> None:
    assert parse({"access_token": jwt({"iat": 0, "exp": 300}), "expires_in": 60}).lifetime_seconds == 60


def test_a_refresh_token_may_have_spaces() -> None:
    """RFC 6749 A.17: VSCHAR. It goes into a form, not into a header as an access token does."""
    assert parse({"access_token": "at", "refresh_token": "a ~b"}).refresh_token == "a ~b"


# --- refused

REFUSED: list[tuple[object, str]] = [
    (b"", "an empty body"),
    (b"  ", "an empty body"),
    (b"<html>s3cret</html>", "something else"),
    (b'{"access_token": "s3cret"', "something else"),
    (b'{"access_token": "s3cret", "expires_in": NaN}', "something else"),
    (b'{"access_token": "s3cret", "expires_in": -Infinity}', "something else"),
    (b"null", "a JSON object was expected"),
    (["s3cret"], "a JSON object was expected"),
    ("s3cret", "a JSON object was expected"),
    ({}, "access_token is missing"),
    ({"access_token": None, "refresh_token": "s3cret"}, "access_token is missing"),
    ({"error": "s3cret"}, "access_token is missing"),
    ({"access_token": ""}, "access_token is empty"),
    ({"access_token": 42}, "access_token is not a string"),
    ({"access_token": ["s3cret"]}, "access_token is not a string"),
    ({"access_token": "s3cret x"}, "access_token has characters"),
    ({"access_token": "s3cret\n"}, "access_token has characters"),
    ({"access_token": "s3cret\x7f"}, "access_token has characters"),
    ({"access_token": "s3cretü"}, "access_token has characters"),
    ({"access_token": "s3cret", "refresh_token": ""}, "refresh_token is empty"),
    ({"access_token": "s3cret", "refresh_token": []}, "refresh_token is not a string"),
    ({"access_token": "s3cret", "refreshToken": "a\r\nb"}, "refresh_token has characters"),
    ({"access_token": "s3cret", "id_token": {}}, "id_token is not a string"),
    ({"access_token": "s3cret", "token_type": "DPoP"}, "token_type is not Bearer"),
    ({"access_token": "s3cret", "token_type": 1}, "token_type is not Bearer"),
    ({"access_token": "s3cret", "expires_in": True}, "expires_in is not a number"),
    ({"access_token": "s3cret", "expires_in": "soon"}, "expires_in is not a number"),
    ({"access_token": "s3cret", "expires_in": "NaN"}, "expires_in is not a number"),
    ({"access_token": "s3cret", "expires_in": "1e3"}, "expires_in is not a number"),
    ({"access_token": "s3cret", "expires_in": ""}, "expires_in is not a number"),
    ({"access_token": "s3cret", "expires_in": [600]}, "expires_in is not a number"),
    (b'{"access_token": "s3cret", "expires_in": 1e999}', "expires_in is not a finite number"),
    ({"access_token": "s3cret", "expires_in": 0}, "expires_in is not positive"),
    ({"access_token": "s3cret", "expires_in": 0.5}, "expires_in is not positive"),
    ({"access_token": "s3cret", "expires_in": -600}, "expires_in is not positive"),
    ({"access_token": "s3cret", "expires_in": "-1"}, "expires_in is not positive"),
]


@pytest.mark.parametrize(("body", "problem"), REFUSED)
def test_anything_else_is_an_error_that_names_endpoint_and_problem(body: object, problem: str) -> None:
    with pytest.raises(UnexpectedResponse, match=problem) as caught:
        parse(body)
    assert URL in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert caught.value.status == 200
    assert caught.value.sent


@pytest.mark.parametrize(
    ("status", "kind"), [(401, CredentialsRejected), (429, RateLimited), (302, UpstreamError), (500, UpstreamError)]
)
def test_tokens_with_an_error_status_are_an_error(status: int, kind: type[UpstreamError]) -> None:
    with pytest.raises(kind) as caught:
        parse({"access_token": "s3cret"}, status=status)
    assert str(caught.value).startswith(f"{WHAT}: {URL} answered {status}")


def test_the_repr_shows_no_token() -> None:
    tokens = parse({"access_token": "s3cret-a", "refresh_token": "s3cret-r", "id_token": "s3cret-i"})
    assert repr(tokens) == "TokenResponse(lifetime_seconds=600)"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=5,
)
NAMES = ["access_token", "accessToken", "refresh_token", "expires_in", "expiresIn", "token_type", "scope", "id_token"]


@given(st.dictionaries(st.sampled_from(NAMES), JSON) | JSON)
def test_any_json_gives_usable_tokens_or_the_one_error(body: object) -> None:
    try:
        tokens = parse(body)
    except UnexpectedResponse:
        return
    assert isinstance(tokens.lifetime_seconds, int)
    assert 1 <= tokens.lifetime_seconds <= MAX_LIFETIME_SECONDS
    for token in (tokens.access_token, tokens.refresh_token, tokens.id_token):
        assert token is None or (token and token.isascii() and token.isprintable() and " " not in token)


@given(st.binary())
def test_any_bytes_give_the_one_error(body: bytes) -> None:
    with pytest.raises(UnexpectedResponse):
        parse(b"\x00" + body)


@given(st.from_regex(r"[!-~]+", fullmatch=True), st.integers(min_value=1, max_value=10**7))
def test_any_good_answer_comes_back_as_it_was(token: str, seconds: int) -> None:
    snake = parse({"access_token": token, "refresh_token": token, "expires_in": seconds})
    camel = parse({"accessToken": token, "refreshToken": token, "expiresIn": str(seconds)})
    assert snake == camel == TokenResponse(token, token, seconds)


@given(JSON)
def test_any_claims_in_a_jwt_give_a_usable_lifetime(claims: object) -> None:
    for body in (claims, {"exp": claims}, {"exp": claims, "iat": 0}, {"exp": 10**9, "iat": claims}):
        assert 1 <= parse({"access_token": jwt(body)}).lifetime_seconds <= MAX_LIFETIME_SECONDS


@pytest.mark.parametrize("status", [400, 403, 422])
@pytest.mark.parametrize("body", [b"", b"<html>s3cret</html>", b'"s3cret"', b"[]"])
def test_a_refusal_that_does_not_look_like_the_apis_is_no_refusal(status: int, body: bytes) -> None:
    with pytest.raises(UnexpectedResponse, match=f"answered {status}, but with no JSON") as caught:
        parse(body, status=status, Retry_After="7")
    assert (caught.value.status, caught.value.retry_after) == (status, 7)
    assert "s3cret" not in str(caught.value)


def test_a_refusal_in_json_is_one() -> None:
    with pytest.raises(NotPermitted):
        parse({"message": "no"}, status=403)
