"""The files and examples of docs/operations/: what can be run here is run, the rest is checked for its syntax."""

from __future__ import annotations

import re
import shutil
import subprocess
import textwrap
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import get_commands
from django.http import HttpResponse
from django.test import Client, RequestFactory
from pytest_django import Settings

from partium_auth.testing import PartiumUser

PAGES = Path(__file__).resolve().parents[2] / "docs/operations"
FILES = PAGES / "deploy"


def example(page: str, containing: str) -> dict[str, Any]:
    """Run the block of a page with these words, and return its names."""
    blocks = re.findall(r"^ *```python\n(.*?)^ *```$", (PAGES / page).read_text(), re.MULTILINE | re.DOTALL)
    (block,) = [block for block in blocks if containing in block]
    names: dict[str, Any] = {}
    exec(compile(textwrap.dedent(block), page, "exec"), names)  # our own page
    return names


def test_the_page_shows_every_file() -> None:
    shown = re.findall(r'^--8<-- "docs/operations/deploy/(.+)"$', (PAGES / "deployment.md").read_text(), re.MULTILINE)
    assert sorted(shown) == sorted(path.name for path in FILES.iterdir())


@pytest.mark.parametrize("path", sorted(FILES.iterdir()), ids=lambda path: path.name)
def test_a_file_calls_commands_that_exist(path: Path) -> None:
    assert set(re.findall(r"\b(partium_(?!auth)\w+)", path.read_text())) <= set(get_commands())


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FILES / name).read_text()))


@pytest.mark.django_db
def test_compose_and_kubernetes_ask_the_health_view(
    settings: Settings, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.PARTIUM_HEALTH = settings.SECURE_SSL_REDIRECT = True
    settings.ALLOWED_HOSTS = ["parts.example.com"]
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    statuses = []

    def ask(path: str, headers: dict[str, str]) -> None:
        statuses.append(client.get(path, headers=headers).status_code)

    monkeypatch.setattr(
        urllib.request, "urlopen", lambda asked, timeout: ask(asked.selector, dict(asked.header_items()))
    )
    (compose,) = documents("compose.yaml")
    exec(compose["services"]["site"]["healthcheck"]["test"][-1], {})
    _migrate, deployment, _service, _daily = documents("kubernetes.yaml")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    probe = container["readinessProbe"]["httpGet"]
    ask(probe["path"], {one["name"]: one["value"] for one in probe["httpHeaders"]})
    assert statuses == [200, 200]
    assert "httpGet" not in container["livenessProbe"]


def test_compose_and_kubernetes_run_every_daily_command() -> None:
    every_day = (PAGES.parent / "settings.md").read_text().partition("**Once a day**")[2].partition("**Logs**")[0]
    wanted = re.findall(r"manage\.py (partium_\w+)", every_day)
    (compose,) = documents("compose.yaml")
    cron_job = documents("kubernetes.yaml")[-1]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    for command in (compose["services"]["daily"]["command"], cron_job["command"]):
        assert sorted(re.findall(r"manage\.py (partium_\w+)", command[-1])) == sorted(wanted)


def test_no_file_with_secrets_gets_into_the_image() -> None:
    (compose,) = documents("compose.yaml")
    secret_files = {service["env_file"] for service in compose["services"].values() if "env_file" in service}
    assert secret_files <= set((FILES / ".dockerignore").read_text().split())


def test_the_image_is_built_with_every_secret_that_the_readme_reads() -> None:
    readme = (PAGES.parents[1] / "README.md").read_text()
    read = set(re.findall(r"\benv\(\"(\w+)\"\)", readme)) | {"SECRET_KEY"}
    assert read == set(re.findall(r"(\w+)=none", (FILES / "Dockerfile").read_text()))


def test_the_dockerfile_has_known_instructions() -> None:
    text = re.sub(r"\\\n", "", (FILES / "Dockerfile").read_text())
    words = [line.split()[0] for line in text.splitlines() if line and not line.startswith("#")]
    assert set(words) <= {"FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER", "EXPOSE", "CMD"}
    assert words[0] == "FROM"


@pytest.mark.skipif(shutil.which("nginx", path="/usr/sbin:/usr/bin") is None, reason="needs nginx")
def test_nginx_reads_its_file(tmp_path: Path) -> None:
    text = (FILES / "nginx.conf").read_text()
    without_certificate = re.sub(r"ssl_certificate.*", "", text).replace("listen 443 ssl", "listen 8443")
    (tmp_path / "site.conf").write_text(without_certificate)
    around = (
        f"error_log stderr; pid {tmp_path}/pid; events {{}} http {{ access_log off; include {tmp_path}/site.conf; }}"
    )
    (tmp_path / "nginx.conf").write_text(around)
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    ran = subprocess.run([str(nginx), "-t", "-c", tmp_path / "nginx.conf"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
def test_systemd_reads_its_file() -> None:
    ran = subprocess.run(["systemd-analyze", "verify", FILES / "site.service"], capture_output=True, text=True)
    said = [line for line in ran.stderr.splitlines() if "site.service" in line and "is not executable" not in line]
    assert said == []


def test_the_visitors_address_comes_from_the_proxy() -> None:
    middleware = example("deployment.md", "RealAddressMiddleware")["RealAddressMiddleware"]
    answer = middleware(lambda request: HttpResponse(request.META["REMOTE_ADDR"]))
    requests = RequestFactory(REMOTE_ADDR="127.0.0.1")
    assert answer(requests.get("/", headers={"X-Real-IP": "203.0.113.9"})).content == b"203.0.113.9"
    assert answer(requests.get("/")).content == b"127.0.0.1"


@pytest.mark.django_db
def test_all_logins_end_after_a_restore(partium_user: PartiumUser) -> None:
    example("upkeep.md", "revoke_grants")
    partium_user.grant.refresh_from_db()
    assert partium_user.grant.revoked_at is not None
