"""The Partium sandbox: Partium's HTTP API as documented, on this machine, for tests and demos.

    with PartiumSandbox.start() as sandbox:
        key = sandbox.add_key("acme")
        sandbox.fail("refresh", status=503, times=1)

``python -m partium_auth.testing.sandbox --port 8900`` runs one on its own; :class:`SandboxControl` then controls it from
other processes. No Django is needed. See ``docs/sandbox.md``.
"""

from .calls import Call
from .control import Fault, SandboxControl, SandboxControls
from .partium_sandbox import PartiumSandbox
from .pictures import part_png
from .seed import (
    ACME,
    ACME_KEY,
    ACME_PASSWORD,
    ACME_USERNAME,
    GLOBEX,
    GLOBEX_KEY,
    GLOBEX_PASSWORD,
    GLOBEX_USERNAME,
)
from .state import fingerprint

__all__ = [
    "ACME",
    "ACME_KEY",
    "ACME_PASSWORD",
    "ACME_USERNAME",
    "GLOBEX",
    "GLOBEX_KEY",
    "GLOBEX_PASSWORD",
    "GLOBEX_USERNAME",
    "Call",
    "Fault",
    "PartiumSandbox",
    "SandboxControl",
    "SandboxControls",
    "fingerprint",
    "part_png",
]
