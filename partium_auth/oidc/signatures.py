"""Find the key that a token was signed with (RFC 7517, RFC 7515 §4.1.4), and verify the signature."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError

from partium_auth.exceptions import UpstreamError
from partium_auth.oidc import documents
from partium_auth.oidc.errors import Refused
from partium_auth.oidc.metadata import Metadata, metadata_of
from partium_auth.oidc.provider import HMAC_ALGORITHMS, Provider

_CURVES = {
    "ES256": ("P-256",),
    "ES384": ("P-384",),
    "ES512": ("P-521",),
    "ES256K": ("secp256k1",),
    "EdDSA": ("Ed25519", "Ed448"),
    "Ed25519": ("Ed25519",),
    "Ed448": ("Ed448",),
}
_KEY_MATERIAL = ("kty", "crv", "n", "e", "x", "y")
MIN_RSA_BITS = 2048  # RFC 7518 §3.3
MAX_TOKEN_CHARACTERS = 64 * 1024


def verify_signature(
    provider: Provider, metadata: Metadata, token: str, *, reason: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims of a JWT that the provider signed. No claim is checked here.

    Args:
        provider: who must have signed it; its list says which algorithms are allowed.
        reason: what its keys are fetched anew for; see ``documents.get_newer``.

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
        raise Refused("alg", f"{str(algorithm)[:20]!r}; allowed are {' '.join(provider.signing_algorithms)}.")
    if "crit" in header:
        raise Refused("jwt", "the header names extensions that must be understood (RFC 7515 §4.1.11).")
    if algorithm in HMAC_ALGORITHMS:
        return header, _decode(token, algorithm, _secret(provider))
    if provider.signing_key is not None:
        return header, _decode(token, algorithm, _configured(provider.signing_key, algorithm))
    try:
        return header, _decode_with_published_key(provider, metadata.jwks_uri, token, header, reason)
    except (Refused, UpstreamError):
        moved_to = _moved_jwks_uri(provider, metadata, reason)
        if not moved_to:
            raise
    return header, _decode_with_published_key(provider, moved_to, token, header, reason)


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


def _decode_with_published_key(
    provider: Provider, jwks_uri: str, token: str, header: Mapping[str, Any], reason: str
) -> dict[str, Any]:
    algorithm, kid = header["alg"], header.get("kid")
    public_only = not provider.is_typed(jwks_uri)
    key_set = documents.get(jwks_uri, public_only=public_only)
    try:
        return _decode_published(provider, key_set, token, algorithm, kid)
    except Refused:
        # The provider may have changed its keys since, also under the same kid or without any.
        newer = documents.get_newer(jwks_uri, than=key_set, reason=reason, public_only=public_only)
        if newer is None:
            raise
    return _decode_published(provider, newer, token, algorithm, kid)


def _moved_jwks_uri(provider: Provider, metadata: Metadata, reason: str) -> str:
    """Return where the provider's keys are now, by a newer discovery document; an empty string where they have not moved."""
    if not provider.discovery_url:
        return ""
    if documents.get_newer(provider.discovery_url, documents.get(provider.discovery_url), reason=reason) is None:
        return ""
    now = metadata_of(provider).jwks_uri
    return now if now != metadata.jwks_uri else ""


@cache
def _jws() -> jwt.PyJWS:
    jws = jwt.PyJWS()
    for name in ("Ed25519", "Ed448"):  # RFC 9864; PyJWT knows them as EdDSA only
        jws.register_algorithm(name, OKPAlgorithm())
    return jws


def _decode(token: str, algorithm: str, key: Any) -> dict[str, Any]:
    # oidc.signed_tokens checks the claims.
    try:
        claims = json.loads(_jws().decode(token, key, algorithms=[algorithm]))
    except (PyJWTError, ValueError, TypeError, RecursionError):
        raise Refused("signature", "wrong, or made with a key that the provider does not publish.") from None
    if not isinstance(claims, dict):
        raise Refused("jwt", "the claims are not a JSON object.")
    return claims


def _secret(provider: Provider) -> bytes:
    """Return the key of HMAC: always the client secret, never a published key."""
    if not provider.client_secret:
        raise Refused("alg", "HMAC needs a client secret.")
    return provider.client_secret.encode()


def _configured(key: str | Mapping[str, Any], algorithm: str) -> Any:
    if not isinstance(key, str):
        return _parse(key, algorithm)
    with contextlib.suppress(PyJWTError, ValueError, TypeError):  # a value that is no key fails with the signature
        if algorithm[:2] in {"RS", "PS"}:
            _refuse_short_rsa(RSAAlgorithm(RSAAlgorithm.SHA256).prepare_key(key))
    return key


def _decode_published(
    provider: Provider, key_set: Mapping[str, Any], token: str, algorithm: str, kid: object
) -> dict[str, Any]:
    keys = key_set.get("keys")
    found = matching_keys(keys if isinstance(keys, list) else [], algorithm, kid, verify_kid=provider.verify_kid)
    # A key may be listed twice: count it once.
    distinct = list({tuple(str(key.get(name)) for name in _KEY_MATERIAL): key for key in reversed(found)}.values())
    if not distinct:
        raise Refused("kid", "the provider publishes no key that matches.")
    if len(distinct) > 1 and provider.verify_kid:
        raise Refused("kid", "several of the provider's keys match.")
    for key in distinct[1:]:
        with contextlib.suppress(Refused):
            return _decode(token, algorithm, _parse(key, algorithm))
    return _decode(token, algorithm, _parse(distinct[0], algorithm))


def _is_for(key: Mapping[str, Any], algorithm: str) -> bool:
    family = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}.get(algorithm[:2])
    # The same key by its old and by its new name (RFC 9864).
    names = {algorithm, "EdDSA", key.get("crv")} if family == "OKP" else {algorithm}
    operations = key.get("key_ops")
    return (
        key.get("kty") == family
        and (algorithm not in _CURVES or key.get("crv") in _CURVES[algorithm])
        and key.get("use") in (None, "sig")
        and (key.get("alg") is None or key.get("alg") in names)
        and (operations is None or (isinstance(operations, list) and "verify" in operations))
    )


def _parse(key: Mapping[str, Any], algorithm: str) -> Any:
    try:
        parsed = jwt.PyJWK(dict(key), algorithm="EdDSA" if key.get("kty") == "OKP" else algorithm).key
    except (PyJWTError, ValueError, TypeError, KeyError):
        raise Refused("kid", "the provider's key cannot be read.") from None
    _refuse_short_rsa(parsed)
    return parsed


def _refuse_short_rsa(key: Any) -> None:
    if isinstance(key, RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        raise Refused("kid", f"an RSA key of {key.key_size} bits; at least {MIN_RSA_BITS} are needed.")
