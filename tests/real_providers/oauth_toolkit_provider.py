"""django-oauth-toolkit, in a process and a virtual environment of its own."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.demo.processes import DEADLINE_SECONDS, ROOT, free_port, serving
from tests.real_providers.real_provider import CLIENT_SECRET, RealProvider, Traits

HERE = Path(__file__).parent / "oauth_toolkit"


class OAuthToolkit(RealProvider):
    name = "django-oauth-toolkit"
    traits = Traits(version="3.4.1", back_channel=False, disabled_ends_login=True)

    def __init__(self, home: Path, directory: Path, site: str) -> None:
        self._url = f"http://127.0.0.1:{(port := free_port())}"
        self.issuer = f"{self._url}/o"
        self._site = site
        self._log = directory / "log"
        self._running = contextlib.ExitStack()
        (directory / "documented.py").write_text(f"from os import getenv as env\n{documented('OAUTH2_PROVIDER = ')}")
        (directory / "accounts").mkdir()
        (directory / "accounts" / "validators.py").write_text(documented("class Validator"))
        self._environment = {
            **os.environ,
            "PYTHONPATH": f"{HERE}:{directory}",
            "DJANGO_SETTINGS_MODULE": "provider_settings",
            "PROVIDER_DATABASE": str(directory / "db.sqlite3"),
            "OIDC_RSA_PRIVATE_KEY": new_key(),
        }
        python = str(home / "bin" / "python")
        migrate = [python, "-m", "django", "migrate", "--verbosity", "0"]
        subprocess.run(migrate, env=self._environment, check=True, timeout=DEADLINE_SECONDS)
        self._command = [python, "-m", "django", "runserver", "--noreload", f"127.0.0.1:{port}"]

    def start(self) -> None:
        discovery = f"{self.issuer}/.well-known/openid-configuration"
        self._running.enter_context(serving(self._command, discovery, self._log, self._environment))

    def stop(self) -> None:
        self._running.close()

    def site_settings(self) -> dict[str, Any]:
        return {
            "OIDC_RP_SCOPES": "openid email profile",
            "OIDC_OP_REVOCATION_ENDPOINT": f"{self.issuer}/revoke_token/",
        }

    def begin(self) -> None:
        self.subject = self.operate("begin", site=self._site, secret=CLIENT_SECRET)

    def operate(self, operation: str, **arguments: str) -> str:
        """Do one of the operations of ``provider_urls``."""
        response = requests.post(f"{self._url}/tests/{operation}/", json=arguments, timeout=DEADLINE_SECONDS)
        assert response.ok, self._log.read_text()
        return str(response.json()["subject"])

    def rotate_refresh_tokens(self) -> None:
        self.operate("rotate_refresh_tokens")

    def take_rights(self) -> None:
        self.operate("take_rights")

    def disable(self) -> None:
        self.operate("disable")

    def end_logins(self) -> None:
        self.operate("end_logins")

    def replace_key(self) -> None:
        self.operate("replace_key", pem=new_key())

    def asks_who(self, page: requests.Response) -> bool:
        return page.url.startswith(f"{self._url}/login/")


def new_key() -> str:
    """Return a private key as PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()


def documented(containing: str) -> str:
    """Return the block of docs/providers.md with these words."""
    page = (ROOT / "docs" / "providers.md").read_text()
    (block,) = (text for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if containing in text)
    return str(block)
