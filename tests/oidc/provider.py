"""An OpenID provider whose answers a test bends: real HTTP, real signatures, strict about what a client has to send."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

CLIENT_ID = "the client"
CLIENT_SECRET = "the client's secret: 100 % + 32 bytes"
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"


@cache
def private_key(algorithm: str, number: int = 0) -> Any:
    """A private key for an algorithm; the same number is the same key."""
    if algorithm[:2] in {"RS", "PS"}:
        return rsa_key(number)
    if algorithm.startswith("ES"):
        return ec.generate_private_key({"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1()}[algorithm])
    return ed25519.Ed25519PrivateKey.generate()


@cache
def rsa_key(number: int) -> Any:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def jwk(algorithm: str, number: int = 0, **changes: Any) -> dict[str, Any]:
    """The public half as a JWK; a change to None leaves a member out."""
    public = private_key(algorithm, number).public_key()
    key = get_default_algorithms()[algorithm].to_jwk(public, as_dict=True)
    key = {**key, "kid": f"{algorithm}-{number}", "use": "sig", "alg": algorithm, **changes}
    return {name: value for name, value in key.items() if value is not None}


def half_hash(value: str, name: str = "sha256") -> str:
    digest = hashlib.new(name, value.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()


@dataclass
class Answer:
    """What an endpoint answers instead."""

    status: int = 200
    body: Any = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    hangs: bool = False
    closes: bool = False


@dataclass
class Code:
    request: dict[str, str]
    claims: dict[str, Any]


class BendableProvider:
    """One provider. What a test may bend are the attributes that :meth:`reset` sets."""

    def __init__(self) -> None:
        self.released = threading.Event()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                provider.handle(self)

            def do_POST(self) -> None:
                provider.handle(self)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *args: None  # type: ignore[method-assign]  # a relying party that hangs up
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()
        self.reset()

    def reset(self) -> None:
        self.released.set()
        self.released = threading.Event()
        self.issuer = self.url
        self.algorithm = "RS256"
        self.key_number = 0
        self.header: dict[str, Any] = {}
        self.jwks = [jwk("RS256")]
        self.claims: dict[str, Any] = {"sub": "ann-1", "email": "ann@example.com", "email_verified": True}
        self.userinfo_claims: dict[str, Any] = {}
        self.changed_claims: dict[str, Any] = {}
        self.sign: Callable[[dict[str, Any]], str] = self.sign_properly
        self.metadata: dict[str, Any] = {}
        self.answers: dict[str, Answer] = {}
        self.response_headers: dict[str, dict[str, str]] = {}
        self.sends_issuer = False
        self.client_authentication = "client_secret_basic"
        self.client_jwks: list[dict[str, Any]] = []
        self.assertion_audience = self.url
        self.used_assertions: set[str] = set()
        self.requires_push = False
        self.pushed: dict[str, dict[str, str]] = {}
        self.decode_basic: Callable[[str], str] = unquote_plus
        self.refresh_tokens: dict[str, str] = {}
        self.revoked: list[str] = []
        self.codes: dict[str, Code] = {}
        self.calls: list[str] = []
        self.forms: list[dict[str, str]] = []
        self.issued: list[str] = [CLIENT_SECRET]

    def stop(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(30)

    # --- what the browser does ------------------------------------------------------------------------------------

    def authorize(self, url: str, **claims: Any) -> dict[str, str]:
        """Log a person in at the authorization endpoint and return the parameters of the redirect back."""
        request = {name: values[0] for name, values in parse_qs(urlsplit(url).query, strict_parsing=True).items()}
        assert url.startswith(f"{self.url}/authorize?")
        if self.requires_push or "request_uri" in request:
            assert request.keys() == {"client_id", "request_uri"}
            request = {**self.pushed.pop(request["request_uri"]), "client_id": request["client_id"]}
        assert request["response_type"] == "code"
        assert request["client_id"] == CLIENT_ID
        assert request["code_challenge_method"] == "S256"
        assert "openid" in request["scope"].split()
        code = self.secret()
        self.codes[code] = Code(request, {**self.claims, **claims})
        answer = {"code": code, "state": request["state"]}
        return answer | ({"iss": self.issuer} if self.sends_issuer else {})

    # --- what the relying party's server does ----------------------------------------------------------------------

    def discovery(self) -> dict[str, Any]:
        document = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "end_session_endpoint": f"{self.url}/logout",
            "revocation_endpoint": f"{self.url}/revoke",
            "authorization_response_iss_parameter_supported": self.sends_issuer,
            "token_endpoint_auth_methods_supported": [self.client_authentication],
            **({"require_pushed_authorization_requests": True} if self.requires_push else {}),
            "pushed_authorization_request_endpoint": f"{self.url}/par",
            **self.metadata,
        }
        return {name: value for name, value in document.items() if value is not None}

    def id_token_claims(self, code: Code, access_token: str) -> dict[str, Any]:
        now = int(time.time())
        hash_name = "sha512" if self.algorithm == "EdDSA" else f"sha{self.algorithm[2:]}"
        claims = {
            "iss": self.issuer,
            "aud": CLIENT_ID,
            "exp": now + 300,
            "iat": now,
            "nonce": code.request.get("nonce"),
            "at_hash": half_hash(access_token, hash_name),
            "sid": "session-1",
            **code.claims,
            **self.changed_claims,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def sign_properly(self, claims: dict[str, Any]) -> str:
        header = {"kid": f"{self.algorithm}-{self.key_number}", **self.header}
        header = {name: value for name, value in header.items() if value is not None}
        return jwt.encode(claims, private_key(self.algorithm, self.key_number), self.algorithm, headers=header)

    def logout_token(self, **changes: Any) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 120,
            "jti": secrets.token_hex(8),
            "events": {LOGOUT_EVENT: {}},
            "sid": "session-1",
            **changes,
        }
        return self.sign({name: value for name, value in claims.items() if value is not None})

    def secret(self) -> str:
        value = secrets.token_urlsafe(24)
        self.issued.append(value)
        return value

    def handle(self, http: BaseHTTPRequestHandler) -> None:
        path = urlsplit(http.path).path
        body = http.rfile.read(int(http.headers.get("Content-Length") or 0))
        self.calls.append(path)
        answer = self.answers.get(path)
        if answer is None:
            form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
            answer = {
                "/.well-known/openid-configuration": lambda: Answer(body=self.discovery()),
                "/jwks": lambda: Answer(body={"keys": self.jwks}),
                "/token": lambda: self.token(http, form),
                "/userinfo": lambda: self.userinfo(http),
                "/revoke": lambda: self.revoke(http, form),
                "/par": lambda: self.push(http, form),
            }.get(path, lambda: Answer(404))()
        if answer.hangs:
            self.released.wait(20)
        if answer.hangs or answer.closes:
            http.close_connection = True
            return
        data = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        try:
            http.send_response(answer.status)
            headers = {"Content-Type": answer.content_type, **self.response_headers.get(path, {}), **answer.headers}
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                http.send_header(name, value)
            http.end_headers()
            http.wfile.write(data)
        except OSError:
            pass

    def is_client(self, http: BaseHTTPRequestHandler, form: dict[str, str]) -> bool:
        if self.client_authentication == "client_secret_basic":
            encoded = http.headers.get("Authorization", "").removeprefix("Basic ")
            name, _, secret = base64.b64decode(encoded).decode().partition(":")
            return (self.decode_basic(name), self.decode_basic(secret)) == (
                CLIENT_ID,
                CLIENT_SECRET,
            ) and "client_secret" not in form
        if "Authorization" in http.headers or form.get("client_id") != CLIENT_ID:
            return False
        if self.client_authentication == "private_key_jwt":
            return self.is_signed_by_client(form)
        return form.get("client_secret") == (
            CLIENT_SECRET if self.client_authentication == "client_secret_post" else None
        )

    def is_signed_by_client(self, form: dict[str, str]) -> bool:
        """RFC 7523 §3, and each assertion works once."""
        token = form.get("client_assertion", "")
        if form.get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer":
            return False
        if "client_secret" in form or token in self.used_assertions:
            return False
        self.used_assertions.add(token)
        kid = jwt.get_unverified_header(token)["kid"]
        (key,) = (key for key in self.client_jwks if key["kid"] == kid)
        public = jwt.PyJWK(key)
        required = ["iss", "sub", "aud", "exp", "iat", "jti"]
        claims = jwt.decode(
            token, public.key, [key["alg"]], audience=self.assertion_audience, options={"require": required}
        )
        assert isinstance(claims["aud"], str)
        return bool(claims["iss"] == claims["sub"] == CLIENT_ID and 0 < claims["exp"] - claims["iat"] <= 300)

    def push(self, http: BaseHTTPRequestHandler, form: dict[str, str]) -> Answer:
        """RFC 9126 §2."""
        if not self.is_client(http, form):
            return Answer(401, {"error": "invalid_client"})
        request_uri = f"urn:ietf:params:oauth:request_uri:{self.secret()}"
        self.pushed[request_uri] = form
        return Answer(201, {"request_uri": request_uri, "expires_in": 60})

    def token(self, http: BaseHTTPRequestHandler, form: dict[str, str]) -> Answer:
        self.forms.append(form)
        if not self.is_client(http, form):
            return Answer(401, {"error": "invalid_client", "error_description": "private words"})
        if form.get("grant_type") == "refresh_token":
            if self.refresh_tokens.pop(form.get("refresh_token", ""), None) is None:
                return Answer(400, {"error": "invalid_grant", "error_description": "private words"})
            return Answer(body=self.tokens())
        code = self.codes.pop(form.get("code", ""), None)
        challenge = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if (
            code is None
            or form.get("grant_type") != "authorization_code"
            or form.get("redirect_uri") != code.request["redirect_uri"]
            or code.request["code_challenge"] != base64.urlsafe_b64encode(challenge).rstrip(b"=").decode()
        ):
            return Answer(400, {"error": "invalid_grant", "error_description": "private words"})
        tokens = self.tokens()
        id_token = self.sign(self.id_token_claims(code, tokens["access_token"]))
        self.issued.append(id_token)
        self.userinfo_of = {**code.claims, **self.userinfo_claims}
        return Answer(body={**tokens, "id_token": id_token})

    def tokens(self) -> dict[str, Any]:
        refresh_token = self.secret()
        self.refresh_tokens[refresh_token] = "valid"
        return {
            "access_token": self.secret(),
            "refresh_token": refresh_token,
            "expires_in": 600,
            "token_type": "Bearer",
        }

    def userinfo(self, http: BaseHTTPRequestHandler) -> Answer:
        if http.headers.get("Authorization", "").removeprefix("Bearer ") not in self.issued:
            return Answer(401, {"error": "invalid_token"})
        return Answer(body={name: value for name, value in self.userinfo_of.items() if value is not None})

    def revoke(self, http: BaseHTTPRequestHandler, form: dict[str, str]) -> Answer:
        if not self.is_client(http, form):
            return Answer(401)
        self.revoked.append(form["token"])
        return Answer()


@contextmanager
def bendable_provider() -> Iterator[BendableProvider]:
    provider = BendableProvider()
    try:
        yield provider
    finally:
        provider.stop()


def callback_url(path: str, parameters: dict[str, str]) -> str:
    return f"{path}?{urlencode(parameters)}"
