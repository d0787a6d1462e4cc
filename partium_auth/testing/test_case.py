"""A ``TestCase`` with a Partium sandbox, for Django's own test runner; ``docs/testing.md`` shows it."""

from __future__ import annotations

import unittest
from typing import Any, ClassVar

from django.conf import settings
from django.test import Client, TestCase, override_settings

from partium_auth.models import Role
from partium_auth.sealed import encryption
from partium_auth.testing import people
from partium_auth.testing.sandbox import ACME, PartiumSandbox
from partium_auth.tokens.manager import token_manager


class PartiumTestCase(TestCase):
    """A ``TestCase`` whose site asks a Partium sandbox, over real HTTP.

    ``sandbox`` is one server per class. Every test begins with the sandbox as ``setUpTestData`` has left it, without faults
    and with an empty call log. Tokens are refreshed inline, in the test's own transaction.
    """

    sandbox: ClassVar[PartiumSandbox]

    @classmethod
    def setUpClass(cls) -> None:
        cls.sandbox = PartiumSandbox.start()
        cls.addClassCleanup(cls.sandbox.stop)
        keys = getattr(settings, "PARTIUM_ENCRYPTION_KEYS", None) or [encryption.generate_key()]
        cls.enterClassContext(
            override_settings(PARTIUM_API_URL=cls.sandbox.url, PARTIUM_EXECUTOR="inline", PARTIUM_ENCRYPTION_KEYS=keys)
        )
        super().setUpClass()
        cls.sandbox.checkpoint()

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        """Run the test; not in ``setUp``, which subclasses override without calling it."""
        self.sandbox.reset()
        token_manager.forget()  # that Partium failed in the test before
        return super().run(result)

    @classmethod
    def log_in(
        cls,
        username: str = "",
        org_id: str = ACME,
        *,
        role: Role = Role.MEMBER,
        user: Any = None,
        client: Client | None = None,
    ) -> people.PartiumUser:
        """:func:`partium_auth.testing.log_in` with the class's sandbox; also in ``setUpTestData``."""
        return people.log_in(cls.sandbox, username, org_id, role=role, user=user, client=client)
