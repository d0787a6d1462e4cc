"""``manage.py partium_keys list|overview|add|verify|rotate|revoke``."""

from __future__ import annotations

import contextlib
import datetime as dt
import getpass
import json
import sys
import uuid
from argparse import ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser, no_translations
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from partium_auth import policy
from partium_auth.exceptions import EncryptionError
from partium_auth.models import ApiKey, Organization
from partium_auth.models.key_status import KeyStatus, key_status, needs_attention
from partium_auth.models.keys import ApiKeyState
from partium_auth.sealed.plain import Plain
from partium_auth.services import key_validation, keys

OK, FAILED, USAGE, REJECTED, NOT_PERMITTED, NEEDS_ATTENTION = 0, 1, 2, 3, 4, 5
# What a ValidationError's code means to a script; everything else is USAGE.
EXIT_CODES = {"rejected": REJECTED, "wrong_organization": REJECTED, "unreachable": FAILED}

DESCRIPTION = """\
List, add, verify, rotate and revoke API keys, and tell which organizations are
about to lose access.

The key itself is read from a prompt or, where there is no terminal, from
standard input; never from the command line, which other people can see.

Exit codes: 0 done; 1 Partium could not be asked, or a stored value does not
open; 2 wrong usage, bad input, no such key or a revoked one; 3 Partium does
not accept the key, or it belongs to another organization; 4 not permitted
(--as); 5 an organization needs attention (overview).
Of several keys, verify does all and exits with the highest code.
"""


class Command(BaseCommand):
    help = DESCRIPTION

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.formatter_class = RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="command", required=True, metavar="command")

        def command(name: str, text: str) -> CommandParser:
            sub: CommandParser = commands.add_parser(name, help=text, description=text)
            sub.add_argument("--as", dest="actor", metavar="USER", help="act as this person, with their rights only")
            sub.add_argument("--json", action="store_true", help="print JSON")
            return sub

        listing = command("list", "List keys; never their values.")
        listing.add_argument("--organization", metavar="ID", help="Partium's id, such as acme")
        command("overview", "List the organizations whose keys need attention, worst first; nothing where all is well.")
        add = command("add", "Add a key to an organization.")
        add.add_argument("--organization", metavar="ID", required=True, help="Partium's id, such as acme")
        add.add_argument("--label", required=True)
        verify = command("verify", "Try keys at Partium, and record what came back.")
        verify.add_argument("keys", metavar="KEY", nargs="*", type=uuid.UUID, help="ids, as list shows them")
        verify.add_argument("--organization", metavar="ID", help="all keys of this organization that are not revoked")
        rotate = command("rotate", "Put a new key in the place of an active one.")
        rotate.add_argument("key", metavar="KEY", type=uuid.UUID)
        rotate.add_argument("--overlap-hours", type=float, default=keys.DEFAULT_OVERLAP.total_seconds() / 3600)
        rotate.add_argument("--label", help="of the new key; otherwise the old one's")
        for sub in (add, rotate):
            sub.add_argument("--expires-at", metavar="TIME", type=_time, help="ISO 8601, such as 2027-03-01T00:00Z")
            how = sub.add_mutually_exclusive_group()
            how.add_argument("--no-verify", action="store_true", help="do not ask Partium")
            how.add_argument(
                "--allow-unverified", action="store_true", help="store the key where Partium cannot be asked"
            )
        revoke = command("revoke", "End a key at once and erase its value. There is no way back.")
        revoke.add_argument("key", metavar="KEY", type=uuid.UUID)
        revoke.add_argument("--yes", action="store_true", help="do not ask")

    @no_translations
    def handle(self, *args: Any, command: str, **options: Any) -> None:
        try:
            actor = self._actor(options["actor"])
            code = getattr(self, f"_{command}")(actor, options)
        except PermissionDenied:
            raise CommandError("Not permitted.", returncode=NOT_PERMITTED) from None
        except ValidationError as error:
            raise CommandError(" ".join(error.messages), returncode=_code(error)) from None
        except EncryptionError as error:
            raise CommandError(str(error), returncode=FAILED) from None
        if code:
            raise CommandError("Not every key was accepted.", returncode=code)

    # -- the commands --------------------------------------------------------------------------------------------------

    def _list(self, actor: Any, options: dict[str, Any]) -> int:
        rows = policy.visible_keys(actor)
        if options["organization"]:
            rows = rows.filter(organization=self._organization(actor, options["organization"]))
        shown = self._print(rows.order_by("organization__org_id", "-created_at"), options)
        if not shown and not options["json"]:
            self.stderr.write("There are no keys. Add one with: manage.py partium_keys add")
        return OK

    def _overview(self, actor: Any, options: dict[str, Any]) -> int:
        now = timezone.now()
        active = policy.developer_organizations(actor).filter(is_active=True)
        rows: Any = active.annotate(key_status=key_status(now)).filter(needs_attention())
        visible: Any = policy.visible_keys(actor)
        ends: dict[uuid.UUID, dt.datetime] = {}
        for state in (ApiKeyState.EXPIRING, ApiKeyState.RETIRING):
            for key in visible.in_state(state, now).defer("secret"):
                if key.ends_at is not None:  # true in both states
                    ends[key.organization_id] = max(key.ends_at, ends.get(key.organization_id, key.ends_at))
        found: list[dict[str, str | None]] = []
        for organization in rows.order_by("key_status", "org_id"):
            status = KeyStatus(organization.key_status)
            until = ends.get(organization.pk) if status == KeyStatus.EXPIRING else None
            found.append(
                {
                    "organization": organization.org_id,
                    "name": organization.display_name,
                    "health": status.word,
                    "until": None if until is None else until.isoformat(timespec="seconds"),
                }
            )
        if options["json"]:
            self.stdout.write(json.dumps(found, indent=2, ensure_ascii=False))
        else:
            for row in found:
                parts = row["organization"], row["health"], row["until"]
                self.stdout.write("  ".join(part for part in parts if part))
        if found:
            raise CommandError(f"Organizations that need attention: {len(found)}.", returncode=NEEDS_ATTENTION)
        return OK

    def _add(self, actor: Any, options: dict[str, Any]) -> int:
        organization = self._organization(actor, options["organization"])
        value = self._value()
        key = keys.add_key(organization, value, label=options["label"], actor=actor, **_how(options))
        self._print(ApiKey.objects.filter(pk=key.pk), options)
        return OK

    def _verify(self, actor: Any, options: dict[str, Any]) -> int:
        if bool(options["keys"]) == bool(options["organization"]):
            raise CommandError("Give ids of keys, or --organization.", returncode=USAGE)
        if options["organization"]:
            organization = self._organization(actor, options["organization"])
            rows = policy.visible_keys(actor).filter(organization=organization).exclude(status=ApiKey.Status.REVOKED)
            chosen = list(rows.select_related("organization"))
        else:
            chosen = [self._key(actor, pk) for pk in options["keys"]]
        results, worst = [], OK
        for key in chosen:
            try:
                outcome = keys.verify_key(key, actor=actor)
                result, detail = outcome.verification.value, outcome.detail
                code = REJECTED if outcome.refused else OK if outcome.verification == "accepted" else FAILED
            except (EncryptionError, ValidationError) as error:  # the others are still tried
                result, detail = "failed", " ".join(getattr(error, "messages", [str(error)]))
                code = _code(error) if isinstance(error, ValidationError) else FAILED
            worst = max(worst, code)
            results.append({"id": str(key.pk), "label": key.label, "result": result, "detail": detail})
            if not options["json"]:
                self.stdout.write(f"{key.pk}  {key.label} {key.masked}  {result}  {detail}")
        if options["json"]:
            self.stdout.write(json.dumps(results, indent=2, ensure_ascii=False))
        return worst

    def _rotate(self, actor: Any, options: dict[str, Any]) -> int:
        key = self._key(actor, options["key"])
        overlap = dt.timedelta(hours=options["overlap_hours"])
        value = self._value()
        new = keys.rotate_key(key, value, actor=actor, overlap=overlap, label=options["label"], **_how(options))
        self._print(ApiKey.objects.filter(pk__in=[new.pk, key.pk]).order_by("-created_at"), options)
        return OK

    def _revoke(self, actor: Any, options: dict[str, Any]) -> int:
        key = self._key(actor, options["key"])
        if not options["yes"]:
            if not sys.stdin.isatty():
                raise CommandError("Give --yes: there is no terminal to ask at.", returncode=USAGE)
            question = f"Revoke {key.label} {key.masked} of {key.organization}? There is no way back. [y/N] "
            if _asked(input, question).strip().lower() not in {"y", "yes"}:
                raise _unchanged()
        keys.revoke_key(key, actor=actor)
        self._print(ApiKey.objects.filter(pk=key.pk), options)
        return OK

    # -- reading and printing ---------------------------------------------------------------------------------------

    def _actor(self, name: str | None) -> Any:
        if name is None:
            return None
        model = get_user_model()
        try:
            return model._default_manager.get_by_natural_key(name)
        except model.DoesNotExist:
            raise CommandError("There is no such person.", returncode=USAGE) from None

    def _organization(self, actor: Any, org_id: str) -> Organization:
        # The same answer for an organization that is not there and for one that is not theirs.
        organization = policy.developer_organizations(actor).named(org_id).first()
        if organization is None or organization.org_id != org_id:
            raise CommandError(
                f"There is no organization {org_id!r}. Operators add organizations in the admin.", returncode=USAGE
            )
        return organization

    def _key(self, actor: Any, pk: uuid.UUID) -> ApiKey:
        key = policy.visible_keys(actor).select_related("organization").filter(pk=pk).first()
        if key is None:
            raise CommandError(f"There is no key {pk}.", returncode=USAGE)
        return key

    def _value(self) -> Plain:
        if sys.stdin.isatty():
            return Plain(_asked(getpass.getpass, "API key: "))
        with contextlib.suppress(UnicodeDecodeError):  # left first: it holds what was read
            return Plain(sys.stdin.read(key_validation.LONGEST_VALUE + 256))
        raise CommandError("There are unusual characters in this key. Is it text in UTF-8?", returncode=USAGE)

    def _print(self, rows: Any, options: dict[str, Any]) -> int:
        """Print keys, and return how many they are."""
        found = list(rows.with_state().select_related("organization", "created_by").defer("secret"))
        if options["json"]:
            self.stdout.write(json.dumps([_described(key) for key in found], indent=2, ensure_ascii=False))
            return len(found)
        for key in found:
            parts = [str(key.pk), key.organization.org_id, key.label, key.masked, str(key.state)]
            if key.ends_at is not None and key.state != ApiKeyState.REVOKED:
                parts.append(f"until {key.ends_at.isoformat(timespec='seconds')}")
            self.stdout.write("  ".join(parts))
        return len(found)


def _asked(ask: Callable[[str], str], question: str) -> str:
    try:
        return ask(question)
    except (EOFError, KeyboardInterrupt):
        raise _unchanged() from None


def _unchanged() -> CommandError:
    return CommandError("Nothing was changed.", returncode=USAGE)


def _described(key: Any) -> dict[str, str | None]:
    times = {
        name: value and value.isoformat(timespec="seconds")
        for name in ("created_at", "verified_at", "last_used_at", "expires_at", "retires_at")
        for value in [getattr(key, name)]
    }
    return {
        "id": str(key.pk),
        "organization": key.organization.org_id,
        "label": key.label,
        "shown_as": key.masked,
        "state": str(key.state),
        "verification": str(key.verification),
        **times,
        "created_by": key.created_by and key.created_by.get_username(),
        "replaces": key.replaces_id and str(key.replaces_id),
    }


def _how(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "expires_at": options["expires_at"],
        "verify": not options["no_verify"],
        "allow_unverified": options["allow_unverified"],
    }


def _code(error: ValidationError) -> int:
    errors = [e for group in error.error_dict.values() for e in group] if hasattr(error, "error_dict") else [error]
    return max(EXIT_CODES.get(str(getattr(e, "code", "")), USAGE) for e in errors)


def _time(text: str) -> dt.datetime:
    try:
        value = parse_datetime(text)
        if value is not None and timezone.is_aware(value) != settings.USE_TZ:
            value = timezone.make_aware(value) if settings.USE_TZ else timezone.make_naive(value)
    except ValueError:  # such as the 32nd of a month
        value = None
    if value is None:
        raise ArgumentTypeError(f"{text!r} is no time in ISO 8601, such as 2027-03-01T00:00Z")
    return value
