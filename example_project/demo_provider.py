"""The demo's company identity provider: nanoidp, with the demo's people and with pages that need no internet.

nanoidp is a real OpenID provider (code flow with PKCE, rotating refresh tokens, signed JWTs), but its pages load style
sheets from a public host, and its management pages are open to everyone. So this module starts it with pages of its own
and answers 404 to everything that a relying party does not need.

``python -m example_project.demo_provider --port 9000 --callback-url …``; the client's id and secret come from the
environment (``OIDC_RP_CLIENT_ID``, ``OIDC_RP_CLIENT_SECRET``).
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA_DIRECTORY = Path(__file__).parent / "demo_data"

# nanoidp's names for what becomes memberships and roles, in userinfo and in access tokens.
ORGANIZATIONS_CLAIM = "groups"
ROLES_CLAIM = "roles"
AUDIENCE = "partium"

# nanoidp puts claims about a person into an ID token only where the relying party asks for them by name, and has no
# "name" of its own in userinfo (OpenID Connect Core §5.5).
CLAIMS_PARAMETER = json.dumps(
    {
        part: dict.fromkeys(("email", "email_verified", "name", ORGANIZATIONS_CLAIM, ROLES_CLAIM))
        for part in ("id_token", "userinfo")
    }
)

RELYING_PARTY_ENDPOINTS = frozenset(
    {
        "oauth.oidc_config",
        "oauth.jwks",
        "oauth.authorize",
        "oauth.token",
        "oauth.userinfo",
        "oauth.introspect",
        "oauth.revoke",
        "oauth.end_session",
    }
)


@dataclass(frozen=True)
class Person:
    """Somebody who can sign in at the demo's provider.

    Args:
        username: what is typed into the sign-in page, and the subject of every token.
        email: verified.
        organizations: ids of the Partium organizations the person belongs to.
        roles: ``organization:role``, for every role that is more than *member*.
        description: such as "developer of acme".
    """

    username: str
    name: str
    email: str
    organizations: Sequence[str]
    roles: Sequence[str]
    description: str


@dataclass(frozen=True)
class DemoPeople:
    """Everybody in the demo.

    Args:
        people: who can sign in at the provider.
        password: everybody's; it is no secret.
        operator_username: the superuser of the site's stock admin.
    """

    people: Sequence[Person]
    password: str
    operator_username: str
    operator_email: str


def read_people() -> DemoPeople:
    """Read ``demo_data/people.json``."""
    data = json.loads((DATA_DIRECTORY / "people.json").read_text(encoding="utf-8"))
    return DemoPeople(**{**data, "people": [Person(**person) for person in data["people"]]})


def write_configuration(
    directory: Path,
    *,
    port: int,
    client_id: str,
    client_secret: str,
    callback_urls: Sequence[str],
    access_token_minutes: int,
) -> None:
    """Write nanoidp's ``settings.yaml`` and ``users.yaml`` (JSON is YAML), which only we can read.

    Args:
        directory: made if missing; the signing key is stored there too, so that logins outlive a restart.
        callback_urls: the only redirect URIs that are accepted.
        access_token_minutes: lifetime of access and ID tokens.
    """
    client = {
        "client_id": client_id,
        "client_secret": client_secret,
        "description": "The example site",
        "redirect_uris": callback_urls,
    }
    settings = {
        "server": {"host": "127.0.0.1", "port": port},
        # Draft OAuth 2.1: PKCE with S256 is required, refresh tokens rotate, and using one twice ends the whole family.
        "security_profile": "oauth21",
        "config_validation": "strict",
        "cors_allowed_origins": [],
        "oauth": {
            "issuer": f"http://127.0.0.1:{port}",
            "audience": AUDIENCE,
            "token_expiry_minutes": access_token_minutes,
            "clients": [client],
        },
        "jwt": {"keys_dir": str(directory / "keys")},
        "session": {"secret_key": secrets.token_urlsafe(32), "management_secret": secrets.token_urlsafe(32)},
        "logging": {"level": "INFO", "verbose_logging": False},
    }
    demo = read_people()
    users = {
        person.username: {
            "password": demo.password,
            "email": person.email,
            "description": person.description,
            ORGANIZATIONS_CLAIM: person.organizations,
            ROLES_CLAIM: person.roles,
            "attributes": {"name": person.name},
        }
        for person in demo.people
    }
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, document in (("settings.yaml", settings), ("users.yaml", {"users": users})):
        path = directory / name
        path.touch(mode=0o600)
        path.write_text(json.dumps(document, indent=2), encoding="utf-8")


def make_app(directory: Path) -> Any:
    """Return the provider as a WSGI application, configured from ``directory``."""
    from flask import abort, request  # only the provider's process needs Flask
    from jinja2 import FileSystemLoader
    from nanoidp.app import create_app  # type: ignore[import-untyped]

    app = create_app(str(directory))
    app.jinja_loader = FileSystemLoader(DATA_DIRECTORY / "templates")
    app.jinja_env.globals["demo"] = read_people()

    def hide_management_pages() -> None:
        if request.endpoint not in RELYING_PARTY_ENDPOINTS:
            abort(404)

    app.before_request(hide_management_pages)
    return app


def main() -> None:
    """Serve the provider until the process is terminated."""
    parser = argparse.ArgumentParser(prog="python -m example_project.demo_provider", description=__doc__)
    parser.add_argument("--port", type=int, default=9000, help="TCP port on 127.0.0.1 (default: 9000)")
    parser.add_argument("--callback-url", action="append", required=True, help="a redirect URI of the site; repeatable")
    parser.add_argument("--access-token-minutes", type=int, default=10, help="lifetime of access tokens (default: 10)")
    parser.add_argument("--directory", type=Path, required=True, help="for the configuration and the signing key")
    options = parser.parse_args()
    directory = options.directory.resolve()
    write_configuration(
        directory,
        port=options.port,
        client_id=os.environ["OIDC_RP_CLIENT_ID"],
        client_secret=os.environ["OIDC_RP_CLIENT_SECRET"],
        callback_urls=options.callback_url,
        access_token_minutes=options.access_token_minutes,
    )
    from werkzeug.serving import make_server

    make_server("127.0.0.1", options.port, make_app(directory), threaded=True).serve_forever()


if __name__ == "__main__":
    main()
