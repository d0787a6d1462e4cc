"""The files and examples of docs/operations/: what can be run here is run, the rest is checked for its syntax."""

from __future__ import annotations

import re
import shutil
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands
from django.http import HttpResponse
from django.test import RequestFactory
from django.urls import reverse

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


def test_compose_and_kubernetes_ask_the_health_view() -> None:
    yaml = pytest.importorskip("yaml")
    services = yaml.safe_load((FILES / "compose.yaml").read_text())["services"]
    *_, code = services["site"]["healthcheck"]["test"]
    compile(code, "compose.yaml", "exec")
    assert reverse("partium_auth:health") in code
    deployment, _daily = yaml.safe_load_all((FILES / "kubernetes.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == reverse("partium_auth:health")
    assert "httpGet" not in container["livenessProbe"]


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
