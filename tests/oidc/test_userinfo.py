"""How the claims of userinfo are merged with those of the ID token."""

from __future__ import annotations

from typing import Any

import pytest

from partium_auth.oidc import userinfo


def test_email_verified_counts_only_with_the_address_of_the_same_source() -> None:
    id_token = {"sub": "ann", "email": "ann@example.com", "email_verified": True}
    merged = userinfo.merged(id_token, {"sub": "ann", "email": "root@example.com"})
    assert merged == {"sub": "ann", "email": "root@example.com"}


@pytest.mark.parametrize("said", [{}, {"email_verified": False}])
def test_userinfo_does_not_verify_the_address_of_the_id_token(said: dict[str, Any]) -> None:
    id_token = {"sub": "ann", "email": "root@example.com", **said}
    assert userinfo.merged(id_token, {"sub": "ann", "email_verified": True}) == id_token


def test_what_is_about_the_login_itself_comes_from_the_id_token_alone() -> None:
    id_token = {"iss": "https://p.example", "sub": "ann", "sid": "1", "exp": 1}
    merged = userinfo.merged(id_token, {"iss": "https://evil.example", "sub": "ann", "sid": "2", "name": "Ann"})
    assert merged == {**id_token, "name": "Ann"}
