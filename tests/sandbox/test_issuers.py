"""Access tokens of a connected identity provider as bearers, with a real provider on a port and real signatures."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from partium_auth.testing.sandbox import PartiumSandbox

from .conftest import Caller

_RSA, _OTHER_RSA = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
_EC = ec.generate_private_key(ec.SECP256R1())
_ED = ed25519.Ed25519PrivateKey.generate()


class FakeIssuer:
    """Discovery, keys and userinfo of an OpenID provider; tests bend its attributes."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.keys: list[dict[str, Any]] = [
            RSAAlgorithm.to_jwk(_RSA.public_key(), as_dict=True) | {"kid": "rsa", "use": "sig"},
            ECAlgorithm.to_jwk(_EC.public_key(), as_dict=True) | {"kid": "ec"},
            OKPAlgorithm.to_jwk(_ED.public_key(), as_dict=True) | {"kid": "ed"},
        ]
        self.opaque: dict[str, dict[str, Any]] = {}
        self.answers: dict[str, tuple[int, bytes]] = {}
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                status, body = issuer.answers.get(self.path) or issuer.answer(self.path, self.headers["Authorization"])
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def answer(self, path: str, authorization: str | None) -> tuple[int, bytes]:
        if path == "/.well-known/openid-configuration":
            document = {"issuer": self.url, "jwks_uri": f"{self.url}/keys", "userinfo_endpoint": f"{self.url}/userinfo"}
            return 200, json.dumps(document).encode()
        if path == "/keys":
            return 200, json.dumps({"keys": self.keys}).encode()
        if path == "/userinfo":
            claims = self.opaque.get((authorization or "").removeprefix("Bearer "))
            return (200, json.dumps(claims).encode()) if claims else (401, b"")
        return 404, b""

    def token(self, key: Any = _RSA, algorithm: str = "RS256", kid: str | None = "rsa", **claims: Any) -> str:
        whole = {"iss": self.url, "sub": "anna", "exp": time.time() + 300} | claims
        return jwt.encode(
            {name: value for name, value in whole.items() if value is not None},
            key,
            algorithm,
            headers={"kid": kid} if kid else {},
        )

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def issuer(sandbox: PartiumSandbox) -> Iterator[FakeIssuer]:
    made = FakeIssuer()
    sandbox.add_issuer(made.url, ["acme"])
    yield made
    made.stop()


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"),
    [(_RSA, "RS256", "rsa"), (_RSA, "PS256", "rsa"), (_EC, "ES256", "ec"), (_ED, "EdDSA", "ed")],
)
def test_a_signed_token_opens_the_organizations_of_its_issuer(
    issuer: FakeIssuer, caller: Caller, key: Any, algorithm: str, kid: str
) -> None:
    token = issuer.token(key, algorithm, kid)
    assert caller.search(token, "acme").status_code == 200
    assert caller.search(token, "globex").status_code == 403


@pytest.mark.parametrize("listed", [["globex"], "globex", "other globex", ["globex", 7]])
def test_a_claim_says_which_organizations_instead(issuer: FakeIssuer, caller: Caller, listed: Any) -> None:
    token = issuer.token(organizations=listed)
    assert caller.search(token, "globex").status_code == 200
    assert caller.search(token, "acme").status_code == 403


@pytest.mark.parametrize("listed", [[], "", 7, {}])
def test_a_claim_that_lists_nothing_opens_nothing(issuer: FakeIssuer, caller: Caller, listed: Any) -> None:
    assert caller.search(issuer.token(organizations=listed)).status_code == 403


def test_the_claim_can_have_another_name(sandbox: PartiumSandbox, issuer: FakeIssuer, caller: Caller) -> None:
    sandbox.add_issuer(issuer.url, [], organizations_claim="groups")
    assert caller.search(issuer.token(groups=["globex"], organizations=["acme"]), "globex").status_code == 200
    assert caller.search(issuer.token(organizations=["acme"])).status_code == 403


def test_an_organization_that_does_not_exist_is_not_opened_by_a_claim(issuer: FakeIssuer, caller: Caller) -> None:
    assert caller.search(issuer.token(organizations=["unheard-of"]), "unheard-of").status_code == 403


@pytest.mark.parametrize(
    "make",
    [
        lambda issuer: issuer.token(_OTHER_RSA),
        lambda issuer: issuer.token(exp=time.time() - 1),
        lambda issuer: issuer.token(exp=None),
        lambda issuer: issuer.token(exp="never"),
        lambda issuer: issuer.token(nbf=time.time() + 60),
        lambda issuer: issuer.token(kid="unknown"),
        lambda issuer: issuer.token(kid=None),
        lambda issuer: issuer.token(_EC, "ES256", "rsa"),
        lambda issuer: issuer.token(iss="https://elsewhere.example"),
        lambda issuer: issuer.token(iss=issuer.url + "/"),
        lambda issuer: issuer.token(None, "none"),
        lambda issuer: issuer.token("a secret that is long enough for it", "HS256"),
        lambda issuer: issuer.token() + "x",
        lambda issuer: "a.b.c",
    ],
)
def test_a_token_that_is_not_valid_is_401(
    issuer: FakeIssuer, caller: Caller, make: Callable[[FakeIssuer], str]
) -> None:
    response = caller.search(make(issuer))
    assert response.status_code == 401
    assert "invalid_token" in response.headers["WWW-Authenticate"]


def test_the_audience_counts_where_one_is_configured(
    sandbox: PartiumSandbox, issuer: FakeIssuer, caller: Caller
) -> None:
    assert caller.search(issuer.token(aud="somebody")).status_code == 200
    sandbox.add_issuer(issuer.url, ["acme"], audience="partium")
    assert caller.search(issuer.token(aud="somebody")).status_code == 401
    assert caller.search(issuer.token()).status_code == 401
    assert caller.search(issuer.token(aud=["other", "partium"])).status_code == 200


def test_keys_are_remembered_and_fetched_again_for_an_unknown_kid(issuer: FakeIssuer, caller: Caller) -> None:
    for jti in ("1", "2", "3"):
        assert caller.search(issuer.token(jti=jti)).status_code == 200
    assert issuer.asked.count("/keys") == 1
    issuer.keys = [RSAAlgorithm.to_jwk(_OTHER_RSA.public_key(), as_dict=True) | {"kid": "next"}]
    assert caller.search(issuer.token(_OTHER_RSA, kid="next")).status_code == 200
    assert issuer.asked.count("/keys") == 2


def test_a_token_expires_by_the_sandboxs_clock_even_if_remembered(
    sandbox: PartiumSandbox, issuer: FakeIssuer, caller: Caller
) -> None:
    token = issuer.token(exp=time.time() + 30)
    assert caller.search(token).status_code == 200
    sandbox.advance_clock(31)
    assert caller.search(token).status_code == 401


def test_an_opaque_token_is_sent_to_userinfo(issuer: FakeIssuer, caller: Caller) -> None:
    issuer.opaque = {"opaque-1": {"sub": "anna"}, "opaque-2": {"sub": "gus", "organizations": ["globex"]}}
    assert caller.search("opaque-1").status_code == 200
    assert caller.search("opaque-2", "globex").status_code == 200
    issuer.opaque = {}
    assert caller.search("opaque-1").status_code == 401


def test_an_answer_about_nobody_opens_nothing(issuer: FakeIssuer, caller: Caller) -> None:
    issuer.opaque = {"opaque": {"name": "nobody"}}
    assert caller.search("opaque").status_code == 401


def test_the_sandboxs_own_expired_tokens_are_shown_to_nobody(
    sandbox: PartiumSandbox, issuer: FakeIssuer, caller: Caller
) -> None:
    token = caller.exchange().json()["access_token"]
    sandbox.advance_clock(601)
    assert caller.search(token).status_code == 401
    assert issuer.asked == []


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/.well-known/openid-configuration", (500, b"")),
        ("/.well-known/openid-configuration", (200, b"<html>")),
        ("/.well-known/openid-configuration", (200, b"[]")),
        ("/.well-known/openid-configuration", (302, b"")),
        ("/.well-known/openid-configuration", (200, b'{"issuer": "https://elsewhere.example"}')),
        ("/keys", (500, b"")),
        ("/keys", (401, b"")),
    ],
)
def test_an_issuer_that_cannot_be_asked_is_503_with_seconds(
    issuer: FakeIssuer, caller: Caller, path: str, answer: tuple[int, bytes]
) -> None:
    issuer.answers[path] = answer
    response = caller.search(issuer.token())
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"


def test_an_issuer_that_is_down_is_503(sandbox: PartiumSandbox, caller: Caller) -> None:
    gone = FakeIssuer()
    sandbox.add_issuer(gone.url, ["acme"])
    gone.stop()
    assert caller.search(gone.token()).status_code == 503
    assert caller.search("opaque").status_code == 503


def test_a_token_of_nobody_is_401_without_issuers(caller: Caller) -> None:
    assert caller.search(jwt.encode({"iss": "x"}, _RSA, "RS256")).status_code == 401


def test_a_providers_token_is_not_exchanged(issuer: FakeIssuer, caller: Caller) -> None:
    assert caller.exchange(issuer.token()).status_code == 401
