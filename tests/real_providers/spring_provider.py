"""Spring Authorization Server: the page of Java in ``spring/``."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from tests.demo.processes import DEADLINE_SECONDS, free_port, serving
from tests.real_providers.real_provider import CLIENT_SECRET, RealProvider, Traits

SOURCE = Path(__file__).parent / "spring" / "Provider.java"


class Spring(RealProvider):
    name = "Spring Authorization Server"
    traits = Traits(version="1.5.3", back_channel=False, disabled_ends_login=False)
    subject = "ann"

    def __init__(self, home: Path, directory: Path, site: str) -> None:
        self.issuer = f"http://127.0.0.1:{(port := free_port())}"
        self._administration = f"http://127.0.0.1:{(administration_port := free_port())}"
        self._log = directory / "log"
        self._running = contextlib.ExitStack()
        libraries = f"{home}/*"
        compiler = ["javac", "-proc:none", "-cp", libraries, "-d", str(directory), str(SOURCE)]
        subprocess.run(compiler, check=True, timeout=DEADLINE_SECONDS)
        java = ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{directory}:{libraries}"]
        self._command = [*java, "Provider", str(port), str(administration_port), site, CLIENT_SECRET]

    def start(self) -> None:
        self._running.enter_context(serving(self._command, self._administration + "/up", self._log, os.environ))

    def stop(self) -> None:
        self._running.close()

    def site_settings(self) -> dict[str, Any]:
        return {"OIDC_RP_SCOPES": "openid email profile"}

    def begin(self) -> None:
        self._operate("begin")

    def _operate(self, operation: str) -> None:
        response = requests.get(f"{self._administration}/{operation}", timeout=DEADLINE_SECONDS)
        assert response.ok, self._log.read_text()

    def rotate_refresh_tokens(self) -> None:
        self._operate("rotate_refresh_tokens")

    def take_rights(self) -> None:
        self._operate("take_rights")

    def disable(self) -> None:
        self._operate("disable")

    def end_logins(self) -> None:
        self._operate("end_logins")

    def replace_key(self) -> None:
        """The old key is published no more."""
        self._operate("replace_key")

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """Answer 503: a restarted process would have forgotten everybody."""
        self._operate("down")
        try:
            yield
        finally:
            self._operate("up")

    def asks_who(self, page: requests.Response) -> bool:
        return page.url.startswith(f"{self.issuer}/login")
