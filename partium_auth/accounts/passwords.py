"""Logging in with a Partium user name and password: Partium verifies them by exchanging them for tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

from django.utils import timezone

from partium_auth.accounts import login_calls, matching
from partium_auth.conf import conf
from partium_auth.exceptions import CredentialsRejected
from partium_auth.host import upstream
from partium_auth.models import Grant
from partium_auth.oidc.errors import Refused
from partium_auth.sealed.plain import Plain
from partium_auth.tokens.state import PARTIUM
from partium_auth.tokens.verified_login import VerifiedLogin


@dataclass
class TypedPassword:
    """A user name and a password typed into this app's own login page. Its ``repr`` does not show the password.

    Args:
        username: exactly as it was typed.
        password: the same.
        address: the IP address that they come from.
        login: set by :func:`log_in` where Partium knows them.
        refusal: set by :func:`log_in` where it does, but the person is not let in here.
    """

    username: str
    password: str | Plain = field(repr=False)
    address: str | None = None
    login: VerifiedLogin | None = None
    refusal: Refused | None = None


def log_in(typed: TypedPassword, hooks: matching.Hooks) -> VerifiedLogin | None:
    """Verify a user name and a password at Partium and find or create the account; None where either fails.

    Raises:
        UpstreamFails: Partium fails, and nothing was sent.
        TooManyLogins: others wait for Partium, and nothing was sent.
        UpstreamError: Partium cannot be asked, so nothing is known about the password.
    """
    if not typed.username or not typed.password:
        return None
    issued_at = timezone.now()
    try:
        with login_calls.turn(PARTIUM), login_calls.noted_outcome(PARTIUM):
            tokens = upstream.authentication_api().exchange_password(typed.username, Plain.of(typed.password))
    except (CredentialsRejected, ValueError):
        return None
    # Partium is the issuer, and a user name the only claim that it makes.
    claims = {"iss": conf.api_url, "sub": typed.username}
    login = VerifiedLogin(
        Grant.Kind.PASSWORD, claims, tokens, issued_at, authenticated_seconds_ago=0.0, address=typed.address
    )
    try:
        matching.record_login(login, hooks)
    except Refused as e:
        typed.refusal = e
        return None
    typed.login = login
    return login
