"""What ``seed_demo`` puts into an empty database, and leaves alone in another one."""

from __future__ import annotations

from io import StringIO

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.test import Client
from pytest_django import Settings

from example_project.demo_provider import read_people
from example_project.management.commands.seed_demo import Command
from partium_auth.models import ApiKey, Organization
from partium_auth.services import revoke_key
from partium_auth.testing.sandbox import ACME_KEY, GLOBEX_KEY, PartiumSandbox

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _debug(settings: Settings) -> None:
    settings.DEBUG = True


def seed() -> str:
    said = StringIO()
    call_command(Command(), stdout=said)
    return said.getvalue()


def test_it_makes_both_kinds_of_organization_with_the_sandboxs_keys(partium_sandbox: PartiumSandbox) -> None:
    seed()

    sources = dict(Organization.objects.values_list("org_id", "token_source"))
    keys = {key.organization.org_id: key.secret.reveal() for key in ApiKey.objects.select_related("organization")}
    assert sources == {"acme": "user", "globex": "api_key"}
    assert keys == {"acme": ACME_KEY, "globex": GLOBEX_KEY}
    assert {one["org_id"] for one in partium_sandbox.describe()["organizations"]} == set(sources)


def test_a_second_time_changes_nothing() -> None:
    seed()
    Organization.objects.filter(org_id="acme").update(display_name="Renamed in the demo")
    revoke_key(ApiKey.objects.get(organization__org_id="globex"), actor=None)
    before = [list(model.objects.order_by("pk").values()) for model in (Organization, ApiKey, get_user_model())]

    assert seed() == ""

    after = [list(model.objects.order_by("pk").values()) for model in (Organization, ApiKey, get_user_model())]
    assert [str(rows) for rows in after] == [str(rows) for rows in before]


def test_the_operator_enters_the_stock_admin(site: None, client: Client) -> None:
    seed()
    people = read_people()

    response = client.post(
        "/admin/login/?next=/admin/", {"username": people.operator_username, "password": people.password}, follow=True
    )

    assert response.status_code == 200
    assert "Site administration" in response.content.decode()


def test_it_tells_no_key_and_no_password() -> None:
    said = seed()

    assert "Created the organization Acme Industrial." in said
    for secret in (ACME_KEY, GLOBEX_KEY, read_people().password + "\n"):
        assert secret not in said


def test_it_refuses_a_real_site(settings: Settings) -> None:
    settings.DEBUG = False

    with pytest.raises(CommandError, match="DEBUG=1 only"):
        seed()

    assert not get_user_model().objects.exists()
