"""``partium_keys``, as a script sees it: standard input, standard output, exit code."""

from __future__ import annotations

import datetime as dt
import io
import json
import traceback
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.utils import timezone
from pytest_django import Settings

from partium_auth.models import ApiKey, Membership, Organization, Role
from partium_auth.services import keys
from partium_auth.testing.sandbox import PartiumSandbox

Run = Callable[..., tuple[int, Any]]


@pytest.fixture
def acme(db: None, partium_sandbox: PartiumSandbox) -> Organization:
    return Organization.objects.create(org_id="acme")


@pytest.fixture
def run(acme: Organization, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return exit code and the JSON that was printed."""

    def run(*args: str, stdin: str = "") -> tuple[int, Any]:
        out = io.StringIO()
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        try:
            call_command("partium_keys", *args, stdout=out)
            code = 0
        except CommandError as error:
            code = error.returncode
        return code, json.loads(out.getvalue()) if out.getvalue().startswith(("[", "{")) else out.getvalue()

    return run


def test_add_reads_the_key_from_standard_input(run: Run, partium_sandbox: PartiumSandbox) -> None:
    value = partium_sandbox.add_key("acme")
    code, printed = run("add", "--organization", "acme", "--label", "shop", "--json", stdin=f"{value}\n")
    assert code == 0
    (row,) = printed
    assert (row["label"], row["state"], row["organization"]) == ("shop", "active", "acme")
    assert ApiKey.objects.get().secret.reveal() == value
    assert run("list", "--json")[1] == [row]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["list", "--organization", "nope"], "no organization 'nope'.*admin"),
        (
            ["add", "--organization", "acme", "--label", "x", "--expires-at", "tomorrow"],
            "'tomorrow'.*2027-03-01T00:00Z",
        ),
    ],
)
def test_what_went_wrong_names_what_was_typed_and_the_way_out(args: list[str], said: str, acme: Organization) -> None:
    with pytest.raises(CommandError, match=said):
        call_command("partium_keys", *args)


def test_an_empty_list_says_so_to_people_only(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list") == (0, "")
    assert "There are no keys" in capsys.readouterr().err
    assert run("list", "--json") == (0, [])
    assert capsys.readouterr().err == ""


def test_the_overview_names_who_is_about_to_lose_access_worst_first(run: Run, acme: Organization) -> None:
    now = timezone.now()
    wanted: dict[str, dict[str, Any]] = {
        "healthy": {"verification": "accepted"},
        "soon": {"verification": "accepted", "expires_at": now + dt.timedelta(days=3)},
        "untried": {},
        "failing": {"verification": "rejected"},
    }
    for org_id, fields in wanted.items():
        organization = Organization.objects.create(org_id=org_id, token_source=Organization.TokenSource.API_KEY)
        key = keys.add_key(organization, f"value-{org_id}-0000000000000", label="x", actor=None, verify=False)
        for name, value in fields.items():
            setattr(key, name, value)
        key.save()
    Organization.objects.create(org_id="keyless", token_source=Organization.TokenSource.API_KEY)
    Organization.objects.create(org_id="closed", token_source=Organization.TokenSource.API_KEY, is_active=False)
    code, printed = run("overview", "--json")
    assert code == 5
    assert [(row["organization"], row["health"]) for row in printed] == [
        ("failing", "failing"),
        ("keyless", "none"),  # acme has none either, and needs none: its people log in themselves
        ("untried", "unverified"),
        ("soon", "expiring"),
    ]
    assert printed[-1]["until"].startswith((now + dt.timedelta(days=3)).date().isoformat())
    assert printed[0]["until"] is None
    assert run("overview")[1].splitlines()[0] == "failing  failing"


def test_the_overview_says_nothing_where_all_is_well_and_nothing_of_others(run: Run, acme: Organization) -> None:
    key = keys.add_key(acme, "value-0000000000000", label="x", actor=None, verify=False)
    ada = get_user_model()._default_manager.create(username="ada")
    assert run("overview", "--as", "ada") == (0, "")
    Membership.objects.create(user=ada, organization=acme, role=Role.DEVELOPER)
    assert run("overview", "--as", "ada") == (5, "acme  unverified\n")
    key.verification = ApiKey.Verification.ACCEPTED
    key.save()
    assert run("overview") == (0, "")


@pytest.mark.parametrize("typed", [b"canary\xff\n", b"\xff\xfek\x00e\x00y\x00"], ids=["binary", "utf-16"])
def test_exit_code_2_for_what_is_no_text(typed: bytes, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed), "utf-8"))
    with pytest.raises(CommandError, match="unusual characters") as caught:
        call_command("partium_keys", "add", "--organization", "acme", "--label", "shop")
    assert caught.value.returncode == 2
    assert "canary" not in "".join(traceback.format_exception(caught.value, chain=True)) + repr(
        caught.value.__context__
    )


@pytest.mark.parametrize("ended", [EOFError, KeyboardInterrupt])
@pytest.mark.parametrize("command", ["add", "revoke"])
def test_who_leaves_a_prompt_is_shown_no_traceback(
    command: str, ended: type[BaseException], acme: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = keys.add_key(acme, "value-00000000000000", label="x", actor=None, verify=False)

    def leave(*_args: object) -> str:
        raise ended

    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", leave)
    monkeypatch.setattr("builtins.input", leave)
    args = [str(key.pk)] if command == "revoke" else ["--organization", "acme", "--label", "shop"]
    with pytest.raises((CommandError, KeyboardInterrupt)) as caught:  # one that is let through ends the whole run
        call_command("partium_keys", command, *args)
    assert isinstance(caught.value, CommandError)
    assert (str(caught.value), caught.value.returncode) == ("Nothing was changed.", 2)
    assert [key.status for key in ApiKey.objects.all()] == ["active"]


@pytest.mark.parametrize(
    ("organization", "code"), [("acme", 0), ("globex", 3), (None, 3)], ids=["ours", "another's", "unknown"]
)
def test_exit_codes_tell_a_rejected_key(
    organization: str | None, code: int, run: Run, partium_sandbox: PartiumSandbox
) -> None:
    value = partium_sandbox.add_key(organization) if organization else "unknown-0000000000000"
    assert run("add", "--organization", "acme", "--label", "x", stdin=value)[0] == code
    assert ApiKey.objects.exists() is (code == 0)


def test_exit_code_1_where_partium_cannot_be_asked(run: Run, partium_sandbox: PartiumSandbox) -> None:
    value = partium_sandbox.add_key("acme")
    with partium_sandbox.fail("auth", status=503):
        assert run("add", "--organization", "acme", "--label", "x", stdin=value)[0] == 1
        assert run("add", "--organization", "acme", "--label", "x", "--allow-unverified", stdin=value)[0] == 0
        key = ApiKey.objects.get()
        assert run("verify", str(key.pk))[0] == 1
    assert run("verify", str(key.pk))[0] == 0


@pytest.mark.parametrize(
    "args",
    [
        ("add", "--organization", "nobody", "--label", "x"),
        ("add", "--organization", "acme", "--label", ""),
        ("verify",),
        ("verify", "00000000-0000-0000-0000-000000000000"),
        ("revoke", "00000000-0000-0000-0000-000000000000"),
        ("list", "--organization", "nobody"),
        ("list", "--as", "nobody"),
    ],
)
def test_exit_code_2_for_what_is_not_there_or_not_right(args: tuple[str, ...], run: Run) -> None:
    assert run(*args, stdin="value-0000000000000")[0] == 2


@pytest.mark.parametrize("use_tz", [True, False])
@pytest.mark.parametrize("time", ["2999-03-01T00:00", "2999-03-01T00:00Z"])
def test_when_a_key_expires_is_said_with_a_time_zone_or_without(
    run: Run, settings: Settings, time: str, use_tz: bool
) -> None:
    settings.USE_TZ = use_tz
    settings.TIME_ZONE = "America/New_York"
    args = ["add", "--organization", "acme", "--label", "x", "--no-verify", "--json", "--expires-at", time]
    code, (row,) = run(*args, stdin="value-00000000000000")
    assert code == 0
    stored = ApiKey.objects.get().expires_at
    assert stored is not None
    wanted = dt.datetime(2999, 3, 1, tzinfo=dt.UTC if time.endswith("Z") else ZoneInfo("America/New_York"))
    assert (stored if use_tz else stored.replace(tzinfo=ZoneInfo("America/New_York"))) == wanted
    assert row["expires_at"] == stored.isoformat(timespec="seconds")


def test_verify_does_all_and_exits_with_the_worst(
    run: Run, acme: Organization, partium_sandbox: PartiumSandbox
) -> None:
    good, gone = partium_sandbox.add_key("acme"), partium_sandbox.add_key("acme")
    for value in (good, gone):
        keys.add_key(acme, value, label=f"key {value[-4:]}", actor=None)
    partium_sandbox.revoke_key(gone)
    code, printed = run("verify", "--organization", "acme", "--json")
    assert code == 3
    assert sorted(row["result"] for row in printed) == ["accepted", "rejected"]


def test_a_revoked_key_is_no_outage(run: Run, acme: Organization) -> None:
    key = keys.add_key(acme, "value-00000000000000", label="x", actor=None, verify=False)
    keys.revoke_key(key, actor=None)
    code, (result,) = run("verify", str(key.pk), "--json")
    assert (code, result["result"], result["detail"]) == (2, "failed", "The key is revoked.")


def test_rotate_and_revoke(run: Run, acme: Organization, partium_sandbox: PartiumSandbox) -> None:
    old = keys.add_key(acme, partium_sandbox.add_key("acme"), label="old", actor=None)
    code, printed = run(
        "rotate", str(old.pk), "--overlap-hours", "1.5", "--json", stdin=partium_sandbox.add_key("acme")
    )
    assert code == 0
    assert [row["state"] for row in printed] == ["active", "retiring"]
    assert printed[0]["replaces"] == str(old.pk)
    assert run("revoke", str(old.pk))[0] == 2, "no terminal, and no --yes"
    assert run("revoke", str(old.pk), "--yes", "--json")[1][0]["state"] == "revoked"
    assert run("verify", str(old.pk))[0] == 2


def test_acting_as_a_person_has_their_rights_only(
    run: Run, acme: Organization, partium_sandbox: PartiumSandbox
) -> None:
    globex = Organization.objects.create(org_id="globex")
    theirs = keys.add_key(globex, "globex-key-0000000000", label="theirs", actor=None, verify=False)
    dev = get_user_model().objects.create_user("dev")
    Membership.objects.create(user=dev, organization=acme, role=Role.DEVELOPER)
    value = partium_sandbox.add_key("acme")
    assert run("list", "--as", "dev", "--json") == (0, [])
    assert run("revoke", str(theirs.pk), "--yes", "--as", "dev")[0] == 2
    assert run("add", "--organization", "globex", "--label", "x", "--as", "dev", stdin="k" * 20)[0] == 2
    assert run("add", "--organization", "acme", "--label", "x", "--as", "dev", stdin=value)[0] == 0
    assert ApiKey.objects.get(organization=acme).created_by == dev
    assert ApiKey.objects.get(pk=theirs.pk).status == "active"


def test_the_list_for_people_shows_no_more_than_the_mask(run: Run, acme: Organization) -> None:
    key = keys.add_key(acme, "value-0000000000-3f9a", label="shop", actor=None, verify=False)
    code, text = run("list")
    assert code == 0
    assert text.split() == [str(key.pk), "acme", "shop", "••••3f9a", "unverified"]


def test_the_list_for_people_says_until_when_a_key_really_serves(run: Run, acme: Organization) -> None:
    now = timezone.now().replace(microsecond=0)
    key = keys.add_key(acme, "value-00000000000000", label="x", actor=None, verify=False)
    soon, later = now + dt.timedelta(hours=2), now + dt.timedelta(hours=24)
    ApiKey.objects.update(status="retiring", expires_at=soon, retires_at=later)
    assert run("list")[1].strip().endswith(f"retiring  until {soon.isoformat()}")
    keys.revoke_key(key, actor=None)
    assert run("list")[1].strip().endswith("revoked")
