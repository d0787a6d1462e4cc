"""A real Keycloak, a realm of its own for each test, and a browser without JavaScript."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator
from html import unescape
from http.cookiejar import Cookie
from pathlib import Path
from typing import Any

import pytest
import requests
from pytest_django import Settings
from requests.cookies import RequestsCookieJar

from partium_auth.models import Organization
from partium_auth.oidc import documents
from tests.demo.processes import DEADLINE_SECONDS, free_port, serving
from tests.node_provider.conftest import chromium  # noqa: F401  # a fixture

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


class Keycloak:
    """The server's process and its admin API; it can be stopped and started again with the same data."""

    def __init__(self, home: Path, directory: Path) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self._log = directory / "log"
        database = f"jdbc:h2:file:{directory / 'db'};NON_KEYWORDS=VALUE"
        options = [f"--http-port={port}", "--http-host=127.0.0.1", "--db=dev-file", f"--db-url={database}"]
        self._command = [str(home / "bin" / "kc.sh"), "start-dev", *options]
        self._running = contextlib.ExitStack()
        self._token = ""

    def start(self) -> None:
        account = {"KC_BOOTSTRAP_ADMIN_USERNAME": ADMIN, "KC_BOOTSTRAP_ADMIN_PASSWORD": ADMIN}
        environment = {**os.environ, **account, "JAVA_OPTS_APPEND": "-XX:TieredStopAtLevel=1"}  # starts sooner
        server = serving(
            self._command, f"{self.url}/realms/master", self._log, environment, deadline_seconds=START_SECONDS
        )
        self._running.enter_context(server)

    def stop(self) -> None:
        self._running.close()

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Call the admin API below ``/admin/realms``."""
        for is_last in (False, True):
            response = requests.request(
                method,
                f"{self.url}/admin/realms{path}",
                json=body,
                headers={"Authorization": f"Bearer {self._token}"},
                timeout=DEADLINE_SECONDS,
            )
            if response.status_code != 401 or is_last:
                break
            form = {"grant_type": "password", "client_id": "admin-cli", "username": ADMIN, "password": ADMIN}
            token_url = f"{self.url}/realms/master/protocol/openid-connect/token"
            self._token = requests.post(token_url, data=form, timeout=DEADLINE_SECONDS).json()["access_token"]
        assert response.ok, response.text
        return response.json() if response.content else None


class Realm:
    """The realm of ``realm.json``, which a test may change, and a person of the test's own."""

    def __init__(self, keycloak: Keycloak, site: str) -> None:
        self.keycloak = keycloak
        self._settings = json.loads(REALM.replace("SITE", site))
        self.issuer = f"{keycloak.url}/realms/{self._settings['realm']}"
        keycloak.admin("POST", "", self._settings)
        self._organizations = {row["alias"]: row["id"] for row in self.admin("GET", "/organizations")}
        self.ann = ""

    def admin(self, method: str, path: str = "", body: Any = None) -> Any:
        return self.keycloak.admin(method, f"/{self._settings['realm']}{path}", body)

    def begin(self, **settings: Any) -> None:
        """Make ann anew, in two organizations and with one role; the server's events begin anew, too."""
        self.admin("PUT", "", {"revokeRefreshToken": False, **settings})
        self.admin("DELETE", "/events")
        self.admin("POST", "/users", ANN)
        self.ann = self.admin("GET", "/users?username=ann")[0]["id"]
        for organization in self._organizations.values():
            self.admin("POST", f"/organizations/{organization}/members", self.ann)
        self._role("POST")

    def end(self) -> None:
        self.admin("DELETE", f"/users/{self.ann}")

    def leave(self, organization: str) -> None:
        """Take ann out of an organization."""
        self.admin("DELETE", f"/organizations/{self._organizations[organization]}/members/{self.ann}")

    def take_role(self) -> None:
        self._role("DELETE")

    def _role(self, method: str) -> None:
        self.admin(method, f"/users/{self.ann}/role-mappings/realm", [self.admin("GET", "/roles/acme:developer")])

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


@pytest.fixture(scope="session")
def keycloak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keycloak]:
    home = Path(os.environ.get("KEYCLOAK_HOME", ""))
    if not (home / "bin" / "kc.sh").is_file():
        pytest.skip("needs KEYCLOAK_HOME; `make providers` downloads Keycloak")
    keycloak = Keycloak(home, tmp_path_factory.mktemp("keycloak"))
    keycloak.start()
    yield keycloak
    keycloak.stop()


@pytest.fixture(scope="session")
def _realm(keycloak: Keycloak, live_server: Any) -> Realm:
    return Realm(keycloak, live_server.url)


@pytest.fixture
def realm(_realm: Realm, settings: Settings, request: pytest.FixtureRequest, transactional_db: None) -> Iterator[Realm]:
    """A parameter changes the realm's settings."""
    realm = _realm
    realm.begin(**getattr(request, "param", {}))
    documents.forget()
    settings.OIDC_OP_ISSUER = realm.issuer
    settings.OIDC_RP_CLIENT_ID = "site"
    settings.OIDC_RP_CLIENT_SECRET = "a-secret-of-the-tests"
    settings.OIDC_RP_SCOPES = "openid email profile organization:*"
    settings.PARTIUM_CLAIMS = "partium_auth.contrib.claims.keycloak"
    settings.ROOT_URLCONF = "tests.node_provider.site"
    settings.LOGIN_REDIRECT_URL = "/page/home/"
    for org_id in ("acme", "globex"):
        Organization.objects.create(org_id=org_id, display_name=org_id.title())
    yield realm
    realm.end()


class Cookies(RequestsCookieJar):
    """As browsers do on this machine: cookies for https are sent over http, too. May be used by several threads."""

    def set_cookie(self, cookie: Cookie, *args: Any, **kwargs: Any) -> None:
        cookie.secure = False
        super().set_cookie(cookie, *args, **kwargs)

    def __iter__(self) -> Iterator[Cookie]:  # type: ignore[override]  # the stubs take it for a mapping
        with self._cookies_lock:  # type: ignore[attr-defined]
            return iter(list(super().__iter__()))


class Visitor:
    """A browser without JavaScript: it keeps cookies, follows redirects and submits forms."""

    def __init__(self, site: str) -> None:
        self.site = site
        self.browser = requests.Session()
        self.browser.cookies = Cookies()

    def get(self, url: str) -> requests.Response:
        if url.startswith("/"):
            url = self.site + url
        return self.browser.get(url, headers={"Accept": "text/html"}, timeout=DEADLINE_SECONDS)

    def wait_for(self, url: str) -> requests.Response:
        """Open a page, and reload it while it says so (``<meta http-equiv="refresh">``)."""
        page = self.get(url)
        while reloads := re.search(r'http-equiv="refresh" content="(\d+)"', page.text):
            time.sleep(int(reloads[1]))
            page = self.get(page.url)
        return page

    def open_login(self, next_url: str = "/page/home/") -> requests.Response:
        """Return what the provider shows, or the site's page if the provider asks nothing."""
        return self.get(f"/partium/login/default/?next={next_url}")

    def submit(self, page: requests.Response, **fields: str) -> requests.Response:
        """Submit the first form of a page."""
        form = re.search(r"<form.*?</form>", page.text, re.DOTALL)
        assert form is not None, page.text
        hidden = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', form[0]))
        action = re.search(r"""action=["']([^"']+)""", form[0])
        assert action is not None
        target = requests.compat.urljoin(page.url, unescape(action[1]))
        headers = {"Accept": "text/html", "Referer": page.url}
        answer = self.browser.post(target, data=hidden | fields, headers=headers, timeout=DEADLINE_SECONDS)
        goes_on = answer.headers.get("Refresh", "").partition("url=")[2]
        return self.get(goes_on) if goes_on else answer

    def log_in(self, next_url: str = "/page/home/") -> requests.Response:
        return self.sign_in(self.open_login(next_url))

    def sign_in(self, page: requests.Response) -> requests.Response:
        """Where a realm has organizations, Keycloak asks for the user name first."""
        assert asks_who(page), page.text
        return self.submit(self.submit(page, username="ann"), password="demo")

    def log_out(self) -> requests.Response:
        return self.submit(self.get("/page/home/"))


def asks_who(page: requests.Response) -> bool:
    """Whether the provider asks."""
    return "kc-form-login" in page.text


@pytest.fixture
def visitor(realm: Realm, live_server: Any) -> Visitor:
    return Visitor(live_server.url)
