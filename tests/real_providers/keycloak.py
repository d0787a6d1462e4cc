"""A real Keycloak, and in it a realm of the tests."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from tests.demo.processes import DEADLINE_SECONDS, free_port, serving
from tests.real_providers.real_provider import RealProvider, Traits
from tests.real_providers.visitor import Visitor

REALM = (Path(__file__).parent / "realm.json").read_text()
ADMIN = "admin"
START_SECONDS = 600  # 22 on a quiet machine
ANN = {
    "username": "ann",
    "email": "ann@example.com",
    "emailVerified": True,
    "firstName": "Ann",
    "lastName": "Otis",
    "enabled": True,
    "credentials": [{"type": "password", "value": "demo"}],
}


class Keycloak(RealProvider):
    """The server's process and its admin API; it can be stopped and started again with the same data."""

    name = "Keycloak"
    traits = Traits(version="26.5.5", back_channel=True, disabled_ends_login=True)

    def __init__(self, home: Path, directory: Path, site: str) -> None:
        self._url = f"http://127.0.0.1:{(port := free_port())}"
        self._settings = json.loads(REALM.replace("SITE", site))
        self.issuer = f"{self._url}/realms/{self._settings['realm']}"
        self._log = directory / "log"
        database = f"jdbc:h2:file:{directory / 'db'};NON_KEYWORDS=VALUE"
        options = [f"--http-port={port}", "--http-host=127.0.0.1", "--db=dev-file", f"--db-url={database}"]
        self._command = [str(home / "bin" / "kc.sh"), "start-dev", *options]
        self._running = contextlib.ExitStack()
        self._token = ""
        self._organizations: dict[str, str] = {}

    def start(self) -> None:
        account = {"KC_BOOTSTRAP_ADMIN_USERNAME": ADMIN, "KC_BOOTSTRAP_ADMIN_PASSWORD": ADMIN}
        environment = {**os.environ, **account, "JAVA_OPTS_APPEND": "-XX:TieredStopAtLevel=1"}  # starts sooner
        server = serving(
            self._command, f"{self._url}/realms/master", self._log, environment, deadline_seconds=START_SECONDS
        )
        self._running.enter_context(server)
        if not self._organizations:
            self._call("POST", "", self._settings)
            self._organizations = {row["alias"]: row["id"] for row in self.admin("GET", "/organizations")}

    def stop(self) -> None:
        self._running.close()

    def admin(self, method: str, path: str = "", body: Any = None) -> Any:
        """Call the realm's admin API."""
        return self._call(method, f"/{self._settings['realm']}{path}", body)

    def _call(self, method: str, path: str, body: Any) -> Any:
        for is_last in (False, True):
            response = requests.request(
                method,
                f"{self._url}/admin/realms{path}",
                json=body,
                headers={"Authorization": f"Bearer {self._token}"},
                timeout=DEADLINE_SECONDS,
            )
            if response.status_code != 401 or is_last:
                break
            form = {"grant_type": "password", "client_id": "admin-cli", "username": ADMIN, "password": ADMIN}
            token_url = f"{self._url}/realms/master/protocol/openid-connect/token"
            self._token = requests.post(token_url, data=form, timeout=DEADLINE_SECONDS).json()["access_token"]
        assert response.ok, response.text
        return response.json() if response.content else None

    def site_settings(self) -> dict[str, Any]:
        return {
            "OIDC_RP_SCOPES": "openid email profile organization:*",
            "PARTIUM_CLAIMS": "partium_auth.contrib.claims.keycloak",
        }

    def begin(self) -> None:
        self.admin("PUT", "", {"revokeRefreshToken": False})
        for user in self.admin("GET", "/users"):
            self.admin("DELETE", f"/users/{user['id']}")
        self.admin("DELETE", "/events")
        self.admin("POST", "/users", ANN)
        self.subject = self.admin("GET", "/users?username=ann")[0]["id"]
        for organization in self._organizations.values():
            self.admin("POST", f"/organizations/{organization}/members", self.subject)
        self._role("POST")

    def rotate_refresh_tokens(self) -> None:
        self.admin("PUT", "", {"revokeRefreshToken": True})

    def take_rights(self) -> None:
        self.leave("globex")
        self._role("DELETE")

    def leave(self, organization: str) -> None:
        """Take ann out of an organization."""
        self.admin("DELETE", f"/organizations/{self._organizations[organization]}/members/{self.subject}")

    def _role(self, method: str) -> None:
        self.admin(method, f"/users/{self.subject}/role-mappings/realm", [self.admin("GET", "/roles/acme:developer")])

    def disable(self) -> None:
        path = f"/users/{self.subject}"
        self.admin("PUT", path, {**self.admin("GET", path), "enabled": False})

    def end_logins(self) -> None:
        self.admin("POST", f"/users/{self.subject}/logout")

    def replace_key(self) -> None:
        """Add a key of a higher priority; the old one stays published."""
        realm = self.admin("GET")
        keys = self.admin("GET", "/components?type=org.keycloak.keys.KeyProvider")
        component = {
            "name": f"key {len(keys)}",
            "parentId": realm["id"],
            "providerId": "rsa-generated",
            "providerType": "org.keycloak.keys.KeyProvider",
            "config": {"priority": [str(1000 + len(keys))]},
        }
        self.admin("POST", "/components", component)

    def asks_who(self, page: requests.Response) -> bool:
        return "kc-form-login" in page.text

    def sign_in(self, visitor: Visitor, page: requests.Response) -> requests.Response:
        """Where a realm has organizations, Keycloak asks for the user name first."""
        assert self.asks_who(page), page.text
        return visitor.submit(visitor.submit(page, username="ann"), password="demo")

    @contextlib.contextmanager
    def roles_in_userinfo_only(self) -> Iterator[None]:
        client = self.admin("GET", "/clients?clientId=site")[0]
        (mapper,) = client["protocolMappers"]
        path = f"/clients/{client['id']}/protocol-mappers/models/{mapper['id']}"
        try:
            self.admin("PUT", path, {**mapper, "config": {**mapper["config"], "id.token.claim": "false"}})
            yield
        finally:
            self.admin("PUT", path, mapper)

    def count(self, event: str) -> int:
        """How often something happened, as the server's own events say."""
        return len(self.admin("GET", f"/events?type={event}&max=1000"))
