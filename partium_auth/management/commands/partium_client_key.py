"""``manage.py partium_client_key``: make a key pair that this site proves itself with at a provider (``private_key_jwt``)."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from partium_auth.exceptions import PartiumError
from partium_auth.models import IdentityProvider
from partium_auth.oidc import providers
from partium_auth.oidc.client_keys import public_jwk
from partium_auth.services import create_client_key


class Command(BaseCommand):
    help = (
        "Make a new key pair for private_key_jwt and print its public key. The private key is stored encrypted and never shown. "
        "The first key is used at once, a later one after a day: until then give the provider the public key, unless it "
        "reads this site's key set (partium_auth:jwks)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "provider", metavar="PROVIDER", help='short name of the provider; "default": that of the settings'
        )
        parser.add_argument(
            "--at-once",
            action="store_true",
            help="use the new key now and delete the old ones: somebody else may know them",
        )

    def handle(self, *args: Any, provider: str, at_once: bool, **options: Any) -> None:
        is_default = provider == providers.DEFAULT and providers.is_configured()
        row = None if is_default else IdentityProvider.objects.filter(slug=provider).first()
        if row is None and not is_default:
            raise CommandError("There is no such provider.")
        try:
            key = create_client_key(row, actor=None, at_once=at_once)
        except (PartiumError, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from None
        public = jwt.PyJWK(public_jwk(key)).key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.stdout.write(
            f"kid: {key.pk}\nalg: {key.algorithm}\nused from: {key.used_from.isoformat()}\n{public.decode()}"
        )
