"""Which exception an answer becomes, and how long it asks to be left alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from partium_auth.exceptions import (
    CredentialsRejected,
    LengthRequired,
    NotPermitted,
    PayloadTooLarge,
    RateLimited,
    ServiceUnavailable,
    UnprocessableRequest,
    UnsupportedImage,
    UpstreamError,
)
from partium_auth.http.transport import Response, parse_retry_after, raise_for_status

NOW = datetime(2026, 11, 6, 8, 49, 37, tzinfo=UTC)


def response(status: int, **headers: str) -> Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, CaseInsensitiveDict(names), b"s3cret", "https://api.partium.io/1/find/search")


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_success_raises_nothing(status: int) -> None:
    raise_for_status(response(status), "Partium search")


@pytest.mark.parametrize(
    ("status", "kind", "advice"),
    [
        (401, CredentialsRejected, "log in again or check the key"),
        (403, NotPermitted, "check their organization"),
        (411, LengthRequired, "Content-Length"),
        (413, PayloadTooLarge, "smaller image"),
        (415, UnsupportedImage, "JPEG or PNG"),
        (422, UnprocessableRequest, "check organization, language"),
        (429, RateLimited, "slow down"),
        (503, ServiceUnavailable, "try again later"),
        (301, UpstreamError, "redirects are not followed; check the URL"),
        (308, UpstreamError, "redirects are not followed; check the URL"),
        (304, UpstreamError, "redirects are not followed"),
        (101, UpstreamError, "check the URL"),
        (400, UpstreamError, "check the URL"),
        (404, UpstreamError, "check the URL"),
        (500, UpstreamError, "their side; try again later"),
        (502, UpstreamError, "their side; try again later"),
    ],
)
def test_each_status_has_its_exception_with_advice(status: int, kind: type[UpstreamError], advice: str) -> None:
    with pytest.raises(UpstreamError, match=advice) as caught:
        raise_for_status(response(status), "Partium search")
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert caught.value.sent
    assert caught.value.retry_after is None
    assert str(caught.value).startswith(f"Partium search: https://api.partium.io/1/find/search answered {status}: ")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("status", [429, 503, 500])
def test_the_time_to_wait_is_handed_on(status: int) -> None:
    with pytest.raises(UpstreamError, match="Asked to wait 17 s") as caught:
        raise_for_status(response(status, Retry_After="17"), "Partium search")
    assert caught.value.retry_after == 17


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1", 1),
        ("120", 120),
        (" 5 ", 5),
        ("007", 7),
        ("0", 1),
        ("301", 300),
        ("9" * 5000, 300),
        ("0" * 5000 + "9", 9),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("5, 10", None),
        ("soon", None),
        ("٣", None),
        ("Fri, 06 Nov 2026 08:50:07 GMT", 30),
        ("Friday, 06-Nov-26 08:50:07 GMT", 30),
        ("Fri Nov  6 08:50:07 2026", 30),
        ("Fri, 06 Nov 2026 08:49:37 GMT", 1),
        ("Fri, 06 Nov 2026 08:00:00 GMT", 1),
        ("Sat, 07 Nov 2026 08:00:00 GMT", 300),
        ("Fri, 99 Nov 2026 08:50:07 GMT", None),
        ("Fri, 06 Nov 2026 25:61:61 GMT", None),
    ],
)
def test_retry_after_in_both_forms(value: str, seconds: int | None) -> None:
    assert parse_retry_after(response(429, Retry_After=value).headers, now=NOW) == seconds


def test_a_date_is_read_against_the_date_of_the_answer() -> None:
    headers = response(429, Retry_After="Sat, 01 Jan 2000 00:00:20 GMT", Date="Sat, 01 Jan 2000 00:00:00 GMT").headers
    assert parse_retry_after(headers, now=NOW) == 20


def test_a_date_that_cannot_be_read_gives_way_to_the_clock() -> None:
    headers = response(429, Retry_After=format_datetime(NOW + timedelta(seconds=9), usegmt=True), Date="now").headers
    assert parse_retry_after(headers, now=NOW) == 9
    assert parse_retry_after(headers) in range(1, 301)


def test_no_header_is_no_time_to_wait() -> None:
    assert parse_retry_after(response(429, Date="Sat, 01 Jan 2000 00:00:00 GMT").headers) is None


@given(st.text() | st.from_regex(r"[A-Za-z]{3}, \d+ [A-Za-z]{3} \d+ \d\d:\d\d:\d\d[ +\-A-Z0-9]*"), st.text())
def test_nothing_that_an_upstream_sends_makes_it_raise(value: str, date: str) -> None:
    seconds = parse_retry_after({"Retry-After": value, "Date": date})
    assert seconds is None or 1 <= seconds <= 300


@given(st.integers(min_value=0, max_value=10**12))
def test_any_number_of_seconds_is_clamped(number: int) -> None:
    assert parse_retry_after({"Retry-After": str(number)}) == max(1, min(number, 300))


@given(
    st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2199, 1, 1)),  # noqa: DTZ001
    st.integers(min_value=-(10**6), max_value=10**6),
)
def test_any_date_is_read_relative_to_the_date_of_the_answer(naive: datetime, seconds: int) -> None:
    date = naive.replace(microsecond=0, tzinfo=UTC)
    headers = {
        "Date": format_datetime(date, usegmt=True),
        "Retry-After": format_datetime(date + timedelta(seconds=seconds), usegmt=True),
    }
    assert parse_retry_after(headers) == max(1, min(seconds, 300))
