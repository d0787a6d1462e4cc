"""Which keys and algorithms count, and what happens when a provider changes them."""

from __future__ import annotations

import json
import warnings
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from django.test import Client
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

from partium_auth.models import Grant
from partium_auth.oidc import providers
from tests.oidc.conftest import Browser, Refusals, add_provider
from tests.oidc.provider import Answer, BendableProvider, jwk, private_key


def rotate(op: BendableProvider, number: int) -> None:
    op.key_number, op.jwks = number, [jwk("RS256", number)]


def made_up_logout_token(op: BendableProvider) -> int:
    token = jwt.encode({"iss": op.issuer}, private_key("RS256", 9), "RS256", headers={"kid": "made-up"})
    return Client().post("/partium/backchannel-logout/default/", {"logout_token": token}).status_code


def test_a_made_up_logout_token_does_not_keep_logins_from_new_keys(browser: Browser, op: BendableProvider) -> None:
    browser.log_in()
    assert made_up_logout_token(op) == 400
    rotate(op, 1)
    assert browser.log_in().headers["Location"] == "/home/"


def test_made_up_logout_tokens_fetch_the_keys_once_in_a_while(browser: Browser, op: BendableProvider) -> None:
    browser.log_in()
    before = op.calls.count("/jwks")
    for _ in range(3):
        made_up_logout_token(op)
    assert op.calls.count("/jwks") == before + 1


def test_keys_may_change_twice_in_a_moment(browser: Browser, op: BendableProvider) -> None:
    for number in (0, 1, 2):
        rotate(op, number)
        assert browser.log_in().headers["Location"] == "/home/", number


@pytest.mark.parametrize("old", ["gone", "stays"])
def test_a_key_set_that_moved_is_found(browser: Browser, op: BendableProvider, old: str) -> None:
    browser.log_in()
    op.answers["/keys"] = Answer(body={"keys": [jwk("RS256", 1)]})
    op.metadata = {"jwks_uri": f"{op.url}/keys"}
    op.key_number = 1
    if old == "gone":
        op.answers["/jwks"] = Answer(404)
    assert browser.log_in().headers["Location"] == "/home/"


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"])
def test_every_asymmetric_algorithm_is_allowed_by_default(
    browser: Browser, op: BendableProvider, algorithm: str
) -> None:
    op.algorithm, op.jwks = algorithm, [jwk(algorithm)]
    assert browser.log_in().headers["Location"] == "/home/"


@pytest.mark.parametrize("published_as", ["EdDSA", "Ed25519", None])
@pytest.mark.parametrize("signed_as", ["EdDSA", "Ed25519"])
def test_ed25519_has_two_names(
    browser: Browser, op: BendableProvider, published_as: str | None, signed_as: str
) -> None:
    """RFC 9864; oidc-provider 9 offers both."""
    op.algorithm, op.jwks = "EdDSA", [jwk("EdDSA", alg=published_as)]
    jws = jwt.PyJWS()
    jws.register_algorithm("Ed25519", OKPAlgorithm())

    def sign(claims: dict[str, Any]) -> str:
        return jws.encode(json.dumps(claims).encode(), private_key("EdDSA", 0), signed_as, {"kid": "EdDSA-0"})

    op.sign = sign
    assert browser.log_in().headers["Location"] == "/home/"


def test_a_short_rsa_key_is_refused(browser: Browser, op: BendableProvider, refused: Refusals) -> None:
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # that is the point
    op.jwks = [{**RSAAlgorithm.to_jwk(short.public_key(), as_dict=True), "kid": "RS256-0"}]

    def sign(claims: dict[str, Any]) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return jwt.encode(claims, short, "RS256", headers={"kid": "RS256-0"})

    op.sign = sign
    refused.check(browser.log_in(), browser, "kid")
    assert "1024 bits" in refused.caplog.text


def test_a_key_that_is_listed_twice_is_one_key(browser: Browser, op: BendableProvider) -> None:
    op.jwks = [jwk("RS256"), jwk("RS256", alg=None)]
    assert browser.log_in().headers["Location"] == "/home/"


def test_a_refused_algorithm_is_named_in_the_log(browser: Browser, op: BendableProvider, refused: Refusals) -> None:
    add_provider(op, "strict", signing_algorithms="ES256")
    refused.check(browser.log_in("strict"), browser, "alg")
    assert "'RS256'; allowed are ES256" in refused.caplog.text


def test_a_provider_without_a_choice_of_algorithms_allows_all_and_an_unknown_one_none(
    op: BendableProvider, db: None
) -> None:
    assert "Ed25519" in providers.from_row(add_provider(op, "all")).signing_algorithms
    assert providers.from_row(add_provider(op, "unknown", signing_algorithms="XY256")).signing_algorithms == ()


def test_a_nonce_has_at_most_43_characters(browser: Browser, op: BendableProvider) -> None:
    op.authorize(browser.start())
    assert [len(code.request["nonce"]) for code in op.codes.values()] == [43]


@pytest.mark.parametrize("has_ended", [False, True])
def test_a_logout_token_with_another_algorithm_than_the_logins_ends_nothing(
    browser: Browser, op: BendableProvider, has_ended: bool
) -> None:
    op.jwks = [jwk("RS256"), jwk("ES256")]
    browser.log_in()
    if has_ended:  # as after a log-out that began here: the provider tells us of it, too
        browser.client.post("/partium/logout/")
    op.algorithm = "ES256"
    url = "/partium/backchannel-logout/default/"
    assert Client().post(url, {"logout_token": op.logout_token()}).status_code == 400
    assert (Grant.objects.get().revoked_at is not None) is has_ended
    op.algorithm = "RS256"
    assert Client().post(url, {"logout_token": op.logout_token()}).status_code == 200
    assert Grant.objects.get().revoked_at is not None
