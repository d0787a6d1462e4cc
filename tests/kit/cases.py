"""The tests of such a site, run by Django's own runner."""

from __future__ import annotations

import datetime
import uuid
from typing import Any, ClassVar

from django.contrib.auth import get_user_model
from django.test import override_settings

import partium_auth
from partium_auth import services
from partium_auth.models import Grant, Membership, Organization, Role
from partium_auth.testing import PartiumTestCase, PartiumUser, log_in


class PeopleOfTheClass(PartiumTestCase):
    ann: ClassVar[PartiumUser]
    key: ClassVar[str]

    @classmethod
    def setUpTestData(cls) -> None:
        cls.ann = cls.log_in("ann@acme.example")
        cls.key = cls.sandbox.add_key("globex")
        globex = Organization.objects.create(org_id="globex", token_source=Organization.TokenSource.API_KEY)
        services.add_key(globex, cls.key, label="of the class", actor=None)

    def search(self) -> Any:
        return self.ann.client.get("/parts/?q=fan").json()

    def expect_parts(self) -> None:
        assert self.search()["parts"], self.search()

    def test_1_a_person_of_the_class_searches(self) -> None:
        assert self.search()["organization"] == "acme"
        assert self.sandbox.count(endpoint="search") == 1

    def test_2_what_is_used_up_in_one_test(self) -> None:
        """The refresh uses the refresh token up at the sandbox; the row is rolled back."""
        Membership.objects.update(role=Role.DEVELOPER)
        Grant.objects.update(issued_at=0)
        self.expect_parts()
        assert self.sandbox.count(endpoint="refresh", status=200) == 1
        self.sandbox.revoke_key(self.key)
        self.sandbox.fail("search")

    def test_3_is_there_in_the_next(self) -> None:
        self.expect_parts()
        assert partium_auth.for_organization("globex").search(text="fan").results
        assert Membership.objects.get().role == Role.MEMBER

    def test_4_again(self) -> None:
        self.test_2_what_is_used_up_in_one_test()

    def test_5_and_again(self) -> None:
        self.test_3_is_there_in_the_next()


class PeopleOfTheTest(PartiumTestCase):
    def test_a_user_of_the_sites_own_making(self) -> None:
        users: Any = get_user_model()._default_manager
        user = users.create_user("bob@x.example", uuid.uuid4(), datetime.date(2020, 1, 1))
        bob = self.log_in(user=user, org_id="globex", role=Role.DEVELOPER)
        assert bob.user == user
        assert bob.client.get("/parts/?q=fan").json()["organization"] == "globex"
        assert Membership.objects.get(user=user).role == Role.DEVELOPER

    def test_the_tests_own_client(self) -> None:
        assert self.log_in("eve@x.example", client=self.client).client is self.client
        assert self.client.get("/parts/?q=fan").status_code == 200

    def test_two_people_who_are_made(self) -> None:
        people = [self.log_in("one@x.example"), self.log_in("two@x.example"), log_in(self.sandbox, "three", "acme")]
        assert len({person.user.pk for person in people}) == 3
        for person in people:
            assert person.client.get("/who/").json() == {"user": person.user.email}

    @override_settings(PARTIUM_LANGUAGE="de")
    def test_an_organizations_key_in_the_tests_transaction(self) -> None:
        acme = Organization.objects.create(org_id="acme", token_source=Organization.TokenSource.API_KEY)
        services.add_key(acme, self.sandbox.add_key("acme"), label="x", actor=None)
        assert partium_auth.for_organization("acme").search(text="lufter").results

    async def test_async(self) -> None:
        from asgiref.sync import sync_to_async

        ann = await sync_to_async(self.log_in)("ann@x.example")
        response = await sync_to_async(ann.client.get)("/parts/?q=fan")
        assert response.status_code == 200
