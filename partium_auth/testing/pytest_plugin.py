"""Fixtures for the tests of every site that installs this app; found by pytest itself, without a line of configuration.

Every ``pytest`` run of such a site imports this module, so it imports nothing that costs time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from partium_auth.testing.people import PartiumUser
    from partium_auth.testing.sandbox import PartiumSandbox


@pytest.fixture(scope="session")
def _partium_sandbox_server() -> Iterator[PartiumSandbox]:
    from partium_auth.testing.sandbox import PartiumSandbox

    with PartiumSandbox.start() as sandbox:
        yield sandbox


@pytest.fixture
def partium_sandbox(
    request: pytest.FixtureRequest, _partium_sandbox_server: PartiumSandbox
) -> Iterator[PartiumSandbox]:
    """A Partium sandbox, as new for every test; one server per test run (per worker with pytest-xdist).

    Where Django is configured, ``settings.PARTIUM_API_URL`` points to it for the test; and tokens are refreshed inline, as no
    thread sees what the test's transaction has written, unless the test commits (``transaction=True``, ``live_server``).
    """
    _partium_sandbox_server.reset()
    django_conf = sys.modules.get("django.conf")
    if django_conf is not None and django_conf.settings.configured and request.config.pluginmanager.hasplugin("django"):
        settings = request.getfixturevalue("settings")
        settings.PARTIUM_API_URL = _partium_sandbox_server.url
        if not _commits(request):
            settings.PARTIUM_EXECUTOR = "inline"
        manager = sys.modules.get("partium_auth.tokens.manager")
        if manager is not None:  # a test before this one may have made Partium fail
            manager.token_manager.forget()
    yield _partium_sandbox_server
    # What still hangs must not keep the code under test waiting until the next test that uses the sandbox.
    _partium_sandbox_server.reset()


def _commits(request: pytest.FixtureRequest) -> bool:
    mark = request.node.get_closest_marker("django_db")
    is_marked = mark is not None and bool(mark.kwargs.get("transaction") or mark.args[:1] == (True,))
    return is_marked or not {"transactional_db", "live_server"}.isdisjoint(request.fixturenames)


# ----------------------------------------------------------------------------------------------------------------------
# With Django: fixtures below this line import Django and the app's models, inside the fixture.
# ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def partium_user(
    request: pytest.FixtureRequest, db: None, settings: Any, partium_sandbox: PartiumSandbox
) -> PartiumUser:
    """A person of the sandbox's organization ``acme``, logged in with Partium user name and password.

    ``partium_user.client`` is a Django test client whose requests have a ``request.partium`` that works: the token was
    obtained from the sandbox over real HTTP. ``.user`` and ``.organization`` are the rows. Tokens are refreshed inline, so the
    fixture works inside a ``TestCase`` transaction; an encryption key is made where the settings have none.
    """
    from partium_auth.sealed import encryption
    from partium_auth.testing.people import log_in

    settings.PARTIUM_EXECUTOR = "inline"
    if not getattr(settings, "PARTIUM_ENCRYPTION_KEYS", None):
        settings.PARTIUM_ENCRYPTION_KEYS = [encryption.generate_key()]
    return log_in(partium_sandbox, "partium-user", "acme")
