"""docs/start.md, step by step: its files in an empty directory, its commands, and a visitor who follows it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from partium_auth.testing.sandbox import PartiumSandbox
from tests.demo.processes import free_port, serving

pytestmark = pytest.mark.processes
PAGE = (Path(__file__).resolve().parents[2] / "docs/start.md").read_text().partition("## Your first page")[2]
BLOCKS = [
    (language, textwrap.dedent(text))
    for language, text in re.findall(r"^ *```(\w+)\n(.*?)^ *```$", PAGE, re.MULTILINE | re.DOTALL)
]
OTHERWISE = ("python3 -m venv", ". .venv", "pip install", "python -m partium_auth.testing.sandbox")
"""Commands that the test has done before, or does in another way."""


class Newcomer:
    """Does what the page says, in an empty directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        mine = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "PYTEST_"))}
        self.environment = {
            **mine,
            "PATH": f"{Path(sys.executable).parent}:{mine['PATH']}",
            "PYTHONPATH": str(directory),
        }
        self.said = ""

    def write(self, text: str, sandbox: str) -> None:
        named = re.match(r"(?:#|\{#) (\S+)", text)
        assert named, f"a block that names no file: {text}"
        path = self.directory / named[1]
        path.parent.mkdir(exist_ok=True)
        before = path.read_text() if path.name == "settings.py" else ""
        path.write_text(f"{before}\n{text}".replace("http://127.0.0.1:8900", sandbox))

    def run(self, line: str) -> None:
        if exported := re.fullmatch(r'export (\w+)="\$\((.+)\)"', line):
            self.environment[exported[1]] = self.output(*shlex.split(exported[2])).strip()
        elif "createsuperuser" in line:
            self.environment["DJANGO_SUPERUSER_PASSWORD"] = "a-password"
            self.output(*shlex.split(line), "--noinput", "--username", "me", "--email", "me@site.example")
        else:
            self.said = self.output(*shlex.split(line))

    def output(self, *command: str) -> str:
        done = subprocess.run(command, cwd=self.directory, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def commands(text: str) -> Iterator[str]:
    for line in re.findall(r"^\$ (.+)$", text, re.MULTILINE):
        if not line.startswith(OTHERWISE):
            yield line


def test_an_empty_directory_becomes_a_page_that_searches(tmp_path: Path) -> None:
    newcomer = Newcomer(tmp_path)
    with PartiumSandbox.start() as sandbox:
        for language, text in BLOCKS:
            if language != "console":
                newcomer.write(text, sandbox.url)
                continue
            for line in commands(text):
                if "partium_doctor" in line:  # step 8 has added the organization in the admin
                    add = "from partium_auth.models import Organization; Organization.objects.create(org_id='acme')"
                    newcomer.output(sys.executable, "manage.py", "shell", "-c", add)
                newcomer.run(line)
        assert "somebody can get into each, and get a token there" in newcomer.said
        assert not re.findall("^(?:error|warning)", newcomer.said, re.MULTILINE)
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        server = [sys.executable, str(tmp_path / "manage.py"), "runserver", "--noreload", str(port)]
        with serving(server, f"{url}/parts/", tmp_path / "server.log", newcomer.environment):
            visitor = requests.Session()
            page = visitor.get(f"{url}/parts/?q=fan", headers={"Accept": "text/html"}, timeout=30)
            assert "/partium/login/" in page.url
            fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.text))
            login = re.search(r"`(?P<username>\S+)` with the password `(?P<password>\S+)`", PAGE)
            assert login
            fields |= login.groupdict()
            page = visitor.post(page.url, fields, headers={"Referer": page.url}, timeout=30)
    assert page.url == f"{url}/parts/?q=fan"
    assert page.text.count("<li>") == 5
    assert "Axial fan" in page.text
