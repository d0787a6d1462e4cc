"""Find the key that a token was signed with (RFC 7517, RFC 7515 §4.1.4), and verify the signature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import jwt
from jwt.exceptions import PyJWTError

from partium_auth.oidc import documents
from partium_auth.oidc.errors import Refused
from partium_auth.oidc.provider import HMAC_ALGORITHMS, Provider

_CURVES = {"ES256": ("P-256",), "ES384": ("P-384",), "ES512": ("P-521",), "EdDSA": ("Ed25519", "Ed448")}
MAX_TOKEN_CHARACTERS = 64 * 1024


def verify_signature(provider: Provider, jwks_uri: str, token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims of a JWT that the provider signed. No claim is checked here.

    Args:
        provider: who must have signed it; its list says which algorithms are allowed.
        jwks_uri: where its keys are.
        token: the JWT.

    Raises:
        Refused: no JWT, algorithm not allowed, no key or several keys match, signature wrong.
        UpstreamError: the key set is not known and could not be fetched.
    """
    if not isinstance(token, str) or len(token) > MAX_TOKEN_CHARACTERS:
        raise Refused("jwt", "not a JWT of a reasonable size.")
    try:
        header = jwt.get_unverified_header(token)
    except (PyJWTError, ValueError, RecursionError):  # PyJWT before 2.15 lets JSON's recursion through
        raise Refused("jwt", "not a JWT.") from None
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in provider.signing_algorithms:
        raise Refused("alg", "signed with an algorithm that is not allowed for this provider.")
    if "crit" in header:
        raise Refused("jwt", "the header names extensions that must be understood (RFC 7515 §4.1.11).")
    kid = header.get("kid")
    if algorithm in HMAC_ALGORITHMS:
        return header, _decode(token, algorithm, _secret(provider))
    if provider.signing_key is not None:
        return header, _decode(token, algorithm, _configured(provider.signing_key, algorithm))
    key_set = documents.get(jwks_uri)
    try:
        return header, _decode(token, algorithm, _published(provider, key_set, algorithm, kid))
    except Refused:
        # The provider may have changed its keys since, also under the same kid or without any.
        newer = documents.get_newer(jwks_uri, than=key_set)
        if newer is None:
            raise
    return header, _decode(token, algorithm, _published(provider, newer, algorithm, kid))


def matching_keys(
    keys: Sequence[Any], algorithm: str, kid: object, *, verify_kid: bool = True
) -> list[Mapping[str, Any]]:
    """Return the keys of a set that a token with this header may be signed with.

    ``kty`` and ``crv`` must be the algorithm's, ``use`` and ``key_ops`` must allow signatures, ``alg``, where given, must be
    the same (RFC 7517 §4). With a ``kid`` only keys with that ``kid`` match, or else keys without one.
    """
    usable = [key for key in keys if isinstance(key, Mapping) and _is_for(key, algorithm)]
    if kid is None or not verify_kid:
        return usable
    return [key for key in usable if key.get("kid") == kid] or [key for key in usable if key.get("kid") is None]


def _decode(token: str, algorithm: str, key: Any) -> dict[str, Any]:
    # oidc.signed_tokens checks the claims.
    names = ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")
    try:
        claims: dict[str, Any] = jwt.decode(
            token, key, algorithms=[algorithm], options=cast("Any", {f"verify_{name}": False for name in names})
        )
    except (PyJWTError, ValueError, TypeError, RecursionError):
        raise Refused("signature", "wrong, or made with a key that the provider does not publish.") from None
    return claims


def _secret(provider: Provider) -> bytes:
    """Return the key of HMAC: always the client secret, never a published key."""
    if not provider.client_secret:
        raise Refused("alg", "HMAC needs a client secret.")
    return provider.client_secret.encode()


def _configured(key: str | Mapping[str, Any], algorithm: str) -> Any:
    return key if isinstance(key, str) else _parse(key, algorithm)


def _published(provider: Provider, key_set: Mapping[str, Any], algorithm: str, kid: object) -> jwt.PyJWK:
    keys = key_set.get("keys")
    found = matching_keys(keys if isinstance(keys, list) else [], algorithm, kid, verify_kid=provider.verify_kid)
    if not found:
        raise Refused("kid", "the provider publishes no key that matches.")
    if len(found) > 1:
        raise Refused("kid", "several of the provider's keys match.")
    return _parse(found[0], algorithm)


def _is_for(key: Mapping[str, Any], algorithm: str) -> bool:
    family = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}.get(algorithm[:2])
    operations = key.get("key_ops")
    return (
        key.get("kty") == family
        and (algorithm not in _CURVES or key.get("crv") in _CURVES[algorithm])
        and key.get("use") in (None, "sig")
        and key.get("alg") in (None, algorithm)
        and (operations is None or (isinstance(operations, list) and "verify" in operations))
    )


def _parse(key: Mapping[str, Any], algorithm: str) -> jwt.PyJWK:
    try:
        return jwt.PyJWK(dict(key), algorithm=algorithm)
    except (PyJWTError, ValueError, TypeError, KeyError):
        raise Refused("kid", "the provider's key cannot be read.") from None
