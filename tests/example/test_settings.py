"""Everything comes from the environment, is explained in ``.env.example``, and is right for production by default."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from partium_auth.conf import SETTINGS, conf
from tests.example.conftest import EXAMPLE, LoadSettings

ROOT = EXAMPLE.parent
EXPLAINED = frozenset(re.findall(r"^#?([A-Z][A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))


def test_every_setting_of_the_app_is_read_and_its_default_is_the_apps(
    settings: Settings, load_settings: LoadSettings
) -> None:
    example = load_settings()
    for name, attribute in SETTINGS.items():
        if hasattr(settings, name):
            delattr(settings, name)
        default = getattr(conf, attribute)
        setattr(settings, name, example[name])
        assert getattr(conf, attribute) == default, name


def test_every_variable_is_explained_and_nothing_else() -> None:
    source = (EXAMPLE / "settings.py").read_text()
    read = set(re.findall(r'(?:env\.\w+|text_or_none)\(\s*"([A-Z_]+)"', source))
    read |= set(re.findall(r'^    "(OIDC_[A-Z_]+)": env', source, re.MULTILINE))
    assert read == EXPLAINED


def test_a_warning_of_django_is_logged_once() -> None:
    script = "import django, logging; django.setup(); logging.getLogger('django.request').warning('Unauthorized')"
    environment = {
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
        "DJANGO_SECRET_KEY": "only-for-this-test",
        "DEBUG": "1",
        "PATH": os.environ["PATH"],
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr.count("Unauthorized") == 1


def test_the_secret_key_has_no_default(load_settings: LoadSettings) -> None:
    with pytest.raises(ImproperlyConfigured, match="DJANGO_SECRET_KEY"):
        load_settings(DJANGO_SECRET_KEY=None)


def test_the_environment_wins_over_the_env_file(load_settings: LoadSettings, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("PARTIUM_ENCRYPTION_KEYS=a:one,b:two\nTIME_ZONE=Europe/Vienna\nPARTIUM_TIMEOUT=3\n")

    example = load_settings(DJANGO_ENV_FILE=str(file), PARTIUM_TIMEOUT="7.5")

    assert example["PARTIUM_ENCRYPTION_KEYS"] == ["a:one", "b:two"]
    assert example["TIME_ZONE"] == "Europe/Vienna"
    assert example["PARTIUM_TIMEOUT"] == 7.5


def test_values_have_their_types(load_settings: LoadSettings) -> None:
    example = load_settings(
        PARTIUM_DEVELOPER_ROLES="developer,key-keeper",
        PARTIUM_LINK_BY_VERIFIED_EMAIL="1",
        PARTIUM_REAUTHENTICATE_AFTER="3600",
        CACHE_URL="redis://cache.example:6379/1",
        OIDC_RP_CLIENT_ID="portal",
        OIDC_AUTH_REQUEST_EXTRA_PARAMS='{"prompt": "login"}',
        OIDC_RP_SIGN_ALGO="RS256,ES256",
    )

    assert example["PARTIUM_DEVELOPER_ROLES"] == ["developer", "key-keeper"]
    assert example["PARTIUM_LINK_BY_VERIFIED_EMAIL"] is True
    assert example["PARTIUM_REAUTHENTICATE_AFTER"] == 3600.0
    assert example["CACHES"]["default"]["BACKEND"] == "django.core.cache.backends.redis.RedisCache"
    assert example["OIDC_AUTH_REQUEST_EXTRA_PARAMS"] == {"prompt": "login"}
    assert example["OIDC_RP_SIGN_ALGO"] == ["RS256", "ES256"]


def test_a_provider_that_is_not_configured_has_no_settings(load_settings: LoadSettings) -> None:
    assert not [name for name in load_settings(OIDC_RP_CLIENT_ID="") if name.startswith("OIDC_")]


def test_sqlite_waits_for_its_turn_and_postgres_keeps_connections(load_settings: LoadSettings) -> None:
    sqlite = load_settings()["DATABASES"]["default"]
    postgres = load_settings(DATABASE_URL="postgres://u:p@db.example:5432/parts")["DATABASES"]["default"]

    assert sqlite["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert "journal_mode=WAL" in sqlite["OPTIONS"]["init_command"]
    assert postgres["ENGINE"] == "django.db.backends.postgresql"
    assert "transaction_mode" not in postgres.get("OPTIONS", {})
    assert postgres["CONN_HEALTH_CHECKS"] is True


def test_debug_is_off_unless_switched_on(load_settings: LoadSettings) -> None:
    production, local = load_settings(), load_settings(DEBUG="1")

    assert production["DEBUG"] is False
    assert production["ALLOWED_HOSTS"] == []
    assert production["SECURE_SSL_REDIRECT"] is production["SESSION_COOKIE_SECURE"] is True
    assert "SECURE_PROXY_SSL_HEADER" not in production
    assert "SECURE_SSL_REDIRECT" not in local
    assert "127.0.0.1" in local["ALLOWED_HOSTS"]


def test_the_proxys_header_is_believed_only_where_there_is_a_proxy(load_settings: LoadSettings) -> None:
    assert load_settings(BEHIND_PROXY="1")["SECURE_PROXY_SSL_HEADER"] == ("HTTP_X_FORWARDED_PROTO", "https")


@pytest.mark.processes
def test_production_settings_pass_djangos_deployment_checks(tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "DJANGO_ENV_FILE": "/nonexistent",
        "DJANGO_SECRET_KEY": "An unguessable value: 0123456789 abcdefghij ABCDEFGHIJ.",
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
        "ALLOWED_HOSTS": "parts.example.com",
        "DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}",
        "PARTIUM_ENCRYPTION_KEYS": f"test:{Fernet.generate_key().decode()}",
        "OIDC_OP_ISSUER": "https://login.example.com",
        "OIDC_RP_CLIENT_ID": "parts-portal",
        "OIDC_RP_CLIENT_SECRET": "nobody's",
    }
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]

    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
