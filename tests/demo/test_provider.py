"""The demo's identity provider, started as its own process and used over HTTP as a browser and a site use it."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest
import requests

from example_project import demo_provider
from example_project.demo import sandbox_seed
from tests.demo.processes import DEADLINE_SECONDS, free_port, serving

pytestmark = pytest.mark.processes

CALLBACK_URL = "http://127.0.0.1:8000/partium/oidc/default/callback/"
CLIENT = ("example-site", "a-secret-of-this-test")


@dataclass(frozen=True)
class Provider:
    issuer: str
    metadata: dict[str, Any]
    directory: Path


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    directory = tmp_path_factory.mktemp("provider")
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "example_project.demo_provider", "--port", str(port)]
    command += ["--callback-url", CALLBACK_URL, "--directory", str(directory / "state"), "--access-token-minutes", "10"]
    environment = {**os.environ, "OIDC_RP_CLIENT_ID": CLIENT[0], "OIDC_RP_CLIENT_SECRET": CLIENT[1]}
    discovery_url = f"{issuer}/.well-known/openid-configuration"
    with serving(command, discovery_url, directory / "log", environment):
        response = requests.get(discovery_url, timeout=DEADLINE_SECONDS)
        assert response.status_code == 200
        yield Provider(issuer, response.json(), directory / "state")


@dataclass
class Login:
    """One browser at the provider's sign-in page."""

    browser: requests.Session
    page: requests.Response
    verifier: str
    nonce: str
    state: str

    def submit(self, username: str, password: str = "demo") -> requests.Response:
        fields = dict(re.findall(r'name="(transaction_id)" value="([^"]+)"', self.page.text))
        return self.browser.post(
            self.page.url,
            data={**fields, "username": username, "password": password},
            allow_redirects=False,
            timeout=DEADLINE_SECONDS,
        )


def open_login(provider: Provider, **overrides: str) -> Login:
    verifier, nonce, state = (secrets.token_urlsafe(48) for _ in range(3))
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    query = {
        "response_type": "code",
        "client_id": CLIENT[0],
        "redirect_uri": CALLBACK_URL,
        "scope": "openid email profile",
        "state": state,
        "nonce": nonce,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        "claims": demo_provider.CLAIMS_PARAMETER,
        **overrides,
    }
    browser = requests.Session()
    page = browser.get(
        f"{provider.metadata['authorization_endpoint']}?{urlencode({k: v for k, v in query.items() if v})}",
        allow_redirects=False,
        timeout=DEADLINE_SECONDS,
    )
    return Login(browser, page, verifier, nonce, state)


def answer(response: requests.Response) -> dict[str, str]:
    """What the provider sends the browser back to the site with."""
    assert response.status_code in {302, 303}, response.status_code
    location = response.headers["Location"]
    assert location.startswith(f"{CALLBACK_URL}?")
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


def redeem(provider: Provider, **form: str) -> requests.Response:
    return requests.post(provider.metadata["token_endpoint"], data=form, auth=CLIENT, timeout=DEADLINE_SECONDS)


def sign_in(provider: Provider, username: str) -> tuple[Login, dict[str, Any]]:
    login = open_login(provider)
    returned = answer(login.submit(username))
    assert returned["state"] == login.state
    response = redeem(
        provider,
        grant_type="authorization_code",
        code=returned["code"],
        redirect_uri=CALLBACK_URL,
        code_verifier=login.verifier,
    )
    assert response.status_code == 200
    return login, response.json()


def verified(provider: Provider, token: str, audience: str) -> dict[str, Any]:
    key = jwt.PyJWKClient(provider.metadata["jwks_uri"]).get_signing_key_from_jwt(token)
    return dict(jwt.decode(token, key, algorithms=["RS256"], audience=audience, issuer=provider.issuer))


def userinfo(provider: Provider, access_token: str) -> requests.Response:
    return requests.get(
        provider.metadata["userinfo_endpoint"],
        headers={"Authorization": f"Bearer {access_token}"},
        timeout=DEADLINE_SECONDS,
    )


def test_discovery_names_the_issuer_and_every_endpoint_of_a_relying_party(provider: Provider) -> None:
    assert provider.metadata["issuer"] == provider.issuer
    for name in ("authorization", "token", "userinfo", "end_session", "revocation"):
        assert provider.metadata[f"{name}_endpoint"].startswith(f"{provider.issuer}/")
    assert provider.metadata["code_challenge_methods_supported"] == ["S256"]
    assert provider.metadata["id_token_signing_alg_values_supported"] == ["RS256"]


@pytest.mark.parametrize("person", demo_provider.read_people().people, ids=lambda person: person.username)
def test_everybody_of_the_cast_signs_in_and_brings_their_claims(
    provider: Provider, person: demo_provider.Person
) -> None:
    login, tokens = sign_in(provider, person.username)

    id_token = verified(provider, tokens["id_token"], CLIENT[0])
    assert id_token["nonce"] == login.nonce
    digest = hashlib.sha256(tokens["access_token"].encode()).digest()[:16]
    assert id_token["at_hash"] == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    for claims in (id_token, userinfo(provider, tokens["access_token"]).json()):
        assert claims["sub"] == person.username
        assert claims["email"] == person.email
        assert claims["email_verified"] is True
        assert claims["name"] == person.name
        assert claims[demo_provider.ORGANIZATIONS_CLAIM] == list(person.organizations)
        assert claims[demo_provider.ROLES_CLAIM] == list(person.roles)


def test_the_access_token_is_a_jwt_that_says_who_where_and_for_how_long(provider: Provider) -> None:
    _, tokens = sign_in(provider, "ada")
    assert tokens["expires_in"] == 600
    access_token = verified(provider, tokens["access_token"], demo_provider.AUDIENCE)
    assert access_token["exp"] - access_token["iat"] == 600
    assert access_token[demo_provider.ORGANIZATIONS_CLAIM] == ["acme"]
    assert access_token[demo_provider.ROLES_CLAIM] == ["acme:developer"]


def test_a_refresh_rotates_and_a_reused_refresh_token_ends_the_whole_family(provider: Provider) -> None:
    _, first = sign_in(provider, "max")
    second = redeem(provider, grant_type="refresh_token", refresh_token=first["refresh_token"])
    assert second.status_code == 200
    assert second.json()["refresh_token"] != first["refresh_token"]
    assert second.json()["access_token"] != first["access_token"]
    assert userinfo(provider, second.json()["access_token"]).json()["name"] == "Max Planck"

    reused = redeem(provider, grant_type="refresh_token", refresh_token=first["refresh_token"])
    assert (reused.status_code, reused.json()["error"]) == (400, "invalid_grant")
    sibling = redeem(provider, grant_type="refresh_token", refresh_token=second.json()["refresh_token"])
    assert (sibling.status_code, sibling.json()["error"]) == (400, "invalid_grant")


def test_a_revoked_refresh_token_is_refused(provider: Provider) -> None:
    _, tokens = sign_in(provider, "max")
    revoked = requests.post(
        provider.metadata["revocation_endpoint"],
        data={"token": tokens["refresh_token"], "token_type_hint": "refresh_token"},
        auth=CLIENT,
        timeout=DEADLINE_SECONDS,
    )
    assert revoked.status_code == 200
    assert redeem(provider, grant_type="refresh_token", refresh_token=tokens["refresh_token"]).status_code == 400


def test_the_code_is_worth_nothing_with_another_verifier(provider: Provider) -> None:
    login = open_login(provider)
    response = redeem(
        provider,
        grant_type="authorization_code",
        code=answer(login.submit("ada"))["code"],
        redirect_uri=CALLBACK_URL,
        code_verifier=secrets.token_urlsafe(48),
    )
    assert (response.status_code, response.json()["error"]) == (400, "invalid_grant")


def test_without_pkce_there_is_no_sign_in_page(provider: Provider) -> None:
    login = open_login(provider, code_challenge="", code_challenge_method="")
    assert answer(login.page)["error"] == "invalid_request"


def test_nobody_is_sent_to_a_callback_that_is_not_the_sites(provider: Provider) -> None:
    login = open_login(provider, redirect_uri="http://127.0.0.1:8000/elsewhere/")
    assert login.page.status_code == 400
    assert "Location" not in login.page.headers


def test_the_wrong_client_secret_is_refused(provider: Provider) -> None:
    response = requests.post(
        provider.metadata["token_endpoint"],
        data={"grant_type": "refresh_token", "refresh_token": "x"},
        auth=(CLIENT[0], "wrong"),
        timeout=DEADLINE_SECONDS,
    )
    assert response.status_code == 401


def test_a_wrong_password_is_said_on_the_page_and_keeps_the_user_name(provider: Provider) -> None:
    response = open_login(provider).submit("ada", "wrong")
    assert response.status_code == 200
    assert 'role="alert"' in response.text
    assert 'value="ada"' in response.text


def test_the_sign_in_page_offers_everybody_and_loads_nothing_from_elsewhere(provider: Provider) -> None:
    page = html.unescape(open_login(provider).page.text)
    for person in demo_provider.read_people().people:
        assert f'value="{person.username}"' in page
        assert f"{person.name} <small>{person.description}</small>" in page
    assert not re.search(r"(src|href)\s*=\s*[\"'](https?:)?//|@import|url\(", page)


def test_one_click_signs_in_as_that_person(provider: Provider) -> None:
    login = open_login(provider)
    (form,) = (form for form in re.findall(r"<form.*?</form>", login.page.text, re.DOTALL) if 'value="grace"' in form)
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))
    response = login.browser.post(login.page.url, data=fields, allow_redirects=False, timeout=DEADLINE_SECONDS)
    assert "code" in answer(response)


def test_logging_out_leads_back_to_the_site_with_its_state(provider: Provider) -> None:
    login, tokens = sign_in(provider, "ada")
    query = {"id_token_hint": tokens["id_token"], "post_logout_redirect_uri": "http://127.0.0.1:8000/", "state": "s1"}
    response = login.browser.get(
        provider.metadata["end_session_endpoint"], params=query, allow_redirects=False, timeout=DEADLINE_SECONDS
    )
    assert response.status_code == 302
    assert response.headers["Location"] == "http://127.0.0.1:8000/?state=s1"


def test_logging_out_without_a_way_back_says_so(provider: Provider) -> None:
    response = requests.get(provider.metadata["end_session_endpoint"], timeout=DEADLINE_SECONDS)
    assert response.status_code == 200
    assert "You are signed out" in response.text


def test_partium_accepts_the_access_token_for_the_persons_own_organizations(provider: Provider, tmp_path: Path) -> None:
    _, tokens = sign_in(provider, "max")
    port, seed_file = free_port(), tmp_path / "sandbox.json"
    seed_file.write_text(json.dumps(sandbox_seed(provider.issuer, token_minutes=10)))
    command = [sys.executable, "-m", "partium_auth.testing.sandbox", "--port", str(port), "--seed-file", str(seed_file)]

    def search(token: str, organization: str) -> int:
        body = {
            "language": "en",
            "projection": ["results.id"],
            "matches": {"organization": organization, "text": "fan"},
        }
        headers = {"Authorization": f"Bearer {token}"}
        url = f"http://127.0.0.1:{port}/1/find/search"
        return requests.post(url, json=body, headers=headers, timeout=DEADLINE_SECONDS).status_code

    with serving(command, f"http://127.0.0.1:{port}/", tmp_path / "log", os.environ):
        assert search(tokens["access_token"], "acme") == 200
        assert search(tokens["access_token"], "globex") == 403
        assert search(tokens["id_token"], "acme") == 401


@pytest.mark.parametrize("path", ["/", "/users", "/settings", "/keys", "/api/users", "/api/config", "/login", "/sso"])
def test_the_management_pages_are_not_there(provider: Provider, path: str) -> None:
    assert requests.get(provider.issuer + path, timeout=DEADLINE_SECONDS).status_code == 404


def test_no_token_can_be_minted_for_a_person_without_their_password(provider: Provider) -> None:
    response = requests.post(f"{provider.issuer}/api/users/ada/token", json={}, timeout=DEADLINE_SECONDS)
    assert response.status_code == 404


def test_other_users_of_the_machine_cannot_read_the_providers_files(provider: Provider) -> None:
    assert provider.directory.stat().st_mode & 0o077 == 0
    for name in ("settings.yaml", "users.yaml"):
        assert (provider.directory / name).stat().st_mode & 0o077 == 0
