"""The demo's company identity provider: nanoidp, with the demo's people and with pages that need no internet.

nanoidp is a real OpenID provider (code flow with PKCE, rotating refresh tokens, signed JWTs) but its pages load their
looks from a public host and its management pages are open to everyone. So this module starts it with pages of its own
and answers 404 to everything that a relying party does not need.

Run by ``example_project.demo`` as ``python -m example_project.demo_provider --port 9000 --callback-url …``; the
client's id and secret come from the environment (``OIDC_RP_CLIENT_ID``, ``OIDC_RP_CLIENT_SECRET``), never an argument.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA_DIRECTORY = Path(__file__).parent / "demo_data"

# nanoidp's names for what becomes memberships; in userinfo and in access tokens alike.
ORGANIZATIONS_CLAIM = "groups"
ROLES_CLAIM = "roles"
AUDIENCE = "partium"

# nanoidp puts claims about a person into an ID token where the relying party asks for them by name, and has no "name" of
# its own in userinfo (OpenID Connect Core §5.5).
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
        name: for people to read.
        email: verified.
        organizations: ids of the Partium organizations the person belongs to.
        roles: ``organization:role``, for every role that is more than *member*.
    """

    username: str
    name: str
    email: str
    organizations: tuple[str, ...]
    roles: tuple[str, ...]

    @property
    def description(self) -> str:
        """Such as "developer of acme" or "member of acme and globex"."""
        developer_of = [role.removesuffix(":developer") for role in self.roles]
        member_of = [organization for organization in self.organizations if organization not in developer_of]
        parts = [
            f"{word} of {' and '.join(names)}"
            for word, names in (("developer", developer_of), ("member", member_of))
            if names
        ]
        return ", ".join(parts)


@dataclass(frozen=True)
class Cast:
    """Everybody in the demo: the people of the provider, and the site's own operator.

    Args:
        people: who can sign in at the provider.
        password: the one password of all of them, made to be shown.
        operator_username: the superuser of the site's stock admin.
        operator_email: that superuser's e-mail address.
    """

    people: tuple[Person, ...]
    password: str
    operator_username: str
    operator_email: str


def read_cast() -> Cast:
    """Read ``demo_data/people.json``."""
    data = json.loads((DATA_DIRECTORY / "people.json").read_text(encoding="utf-8"))
    people = tuple(
        Person(
            username=entry["username"],
            name=entry["name"],
            email=entry["email"],
            organizations=tuple(entry["organizations"]),
            roles=tuple(entry["roles"]),
        )
        for entry in data["people"]
    )
    return Cast(people, data["password"], data["operator"]["username"], data["operator"]["email"])


def write_configuration(
    directory: Path,
    *,
    issuer: str,
    port: int,
    client_id: str,
    client_secret: str,
    callback_urls: list[str],
    access_token_minutes: int,
) -> None:
    """Write nanoidp's ``settings.yaml`` and ``users.yaml`` (JSON is YAML) into ``directory``, readable by us alone.

    Args:
        directory: made if missing; the signing key is kept there too, so that a restart ends nobody's session.
        issuer: the provider's URL, as it stands in every token.
        port: TCP port on 127.0.0.1.
        client_id: the site's client id.
        client_secret: the site's client secret.
        callback_urls: the only redirect URIs that are accepted, compared as strings.
        access_token_minutes: lifetime of access and ID tokens; nanoidp counts in minutes.
    """
    cast = read_cast()
    settings: dict[str, Any] = {
        "server": {"host": "127.0.0.1", "port": port},
        # Draft OAuth 2.1: PKCE with S256 always, refresh tokens rotate and a reused one ends its whole family.
        "security_profile": "oauth21",
        "config_validation": "strict",
        "cors_allowed_origins": [],
        "oauth": {
            "issuer": issuer,
            "audience": AUDIENCE,
            "token_expiry_minutes": access_token_minutes,
            "clients": [
                {
                    "client_id": client_id,
                    "client_secret": client_secret,
                    "description": "The example site",
                    "redirect_uris": callback_urls,
                }
            ],
        },
        "jwt": {"keys_dir": str(directory / "keys")},
        "session": {"secret_key": secrets.token_urlsafe(32), "management_secret": secrets.token_urlsafe(32)},
        "logging": {"level": "INFO", "verbose_logging": False},
    }
    users = {
        "users": {
            person.username: {
                "password": cast.password,
                "email": person.email,
                "description": person.description,
                # What a company's provider knows as groups are Partium's organizations.
                "groups": list(person.organizations),
                "roles": list(person.roles),
                "attributes": {"name": person.name},
            }
            for person in cast.people
        }
    }
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, document in (("settings.yaml", settings), ("users.yaml", users)):
        path = directory / name
        path.touch(mode=0o600)
        path.write_text(json.dumps(document, indent=2), encoding="utf-8")


def make_app(directory: Path) -> Any:
    """The provider as a WSGI application, configured from ``directory``."""
    from flask import abort, request  # only the provider's process needs Flask
    from jinja2 import FileSystemLoader
    from nanoidp.app import create_app  # type: ignore[import-untyped]

    app = create_app(str(directory))
    cast = read_cast()
    app.jinja_loader = FileSystemLoader(DATA_DIRECTORY / "templates")
    app.jinja_env.globals["cast"] = cast

    def hide_the_management_pages() -> None:
        if request.endpoint not in RELYING_PARTY_ENDPOINTS:
            abort(404)

    app.before_request(hide_the_management_pages)
    return app


def main(arguments: list[str] | None = None) -> int:
    """Serve the provider until the process is ended. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m example_project.demo_provider", description=__doc__)
    parser.add_argument("--port", type=int, default=9000, help="TCP port on 127.0.0.1 (default: 9000)")
    parser.add_argument("--callback-url", action="append", required=True, help="a redirect URI of the site; repeatable")
    parser.add_argument("--access-token-minutes", type=int, default=10, help="lifetime of access tokens (default: 10)")
    parser.add_argument("--directory", type=Path, required=True, help="where configuration and signing key are kept")
    options = parser.parse_args(arguments)
    try:
        client_id, client_secret = os.environ["OIDC_RP_CLIENT_ID"], os.environ["OIDC_RP_CLIENT_SECRET"]
    except KeyError as missing:
        parser.error(f"set {missing} in the environment")
    directory = options.directory.resolve()
    write_configuration(
        directory,
        issuer=f"http://127.0.0.1:{options.port}",
        port=options.port,
        client_id=client_id,
        client_secret=client_secret,
        callback_urls=options.callback_url,
        access_token_minutes=options.access_token_minutes,
    )
    from werkzeug.serving import make_server

    make_server("127.0.0.1", options.port, make_app(directory), threaded=True).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
