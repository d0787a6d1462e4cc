"""One class for everything that a relying party refuses."""

from __future__ import annotations

from partium_auth.exceptions import PartiumError


class Refused(PartiumError):
    """Something that came from a provider or a browser is not what it has to be, so nobody is logged in or out.

    Args:
        check: the name of the check that failed, such as ``"aud"``: a word for the log, never a value from outside.
        detail: for a developer; no token, and nothing that was read from outside unless it is harmless.
    """

    def __init__(self, check: str, detail: str = "") -> None:
        super().__init__(f"{check}: {detail}" if detail else check)
        self.check = check
        self.detail = detail
