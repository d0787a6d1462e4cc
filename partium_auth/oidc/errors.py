"""The exceptions of a relying party: what it refuses, and what a provider refuses it."""

from __future__ import annotations

from partium_auth.exceptions import PartiumError, UpstreamError


class Refused(PartiumError):
    """A provider or a browser sent something that fails a check, so nobody is logged in or out.

    Args:
        check: the name of the check that failed, such as ``"aud"``: a word for the log, never a value from outside.
        detail: for the log: what was seen and what was expected; values from outside only escaped and cut, never a token.
    """

    def __init__(self, check: str, detail: str = "") -> None:
        super().__init__(f"{check}: {detail}" if detail else check)
        self.check = check
        self.detail = detail


class RegistrationRefused(UpstreamError):
    """The provider refuses our client, whoever logs in: client id, secret, authentication, redirect URI or a policy is wrong."""
