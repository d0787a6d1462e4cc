"""docs/monitoring.md: each block runs, and names only what there is."""

from __future__ import annotations

import json
import logging
import logging.config
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.dispatch import Signal
from django.test import RequestFactory
from prometheus_client import CollectorRegistry

from partium_auth import signals
from partium_auth.contrib import prometheus

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/monitoring.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def run(block: str, **names: Any) -> dict[str, Any]:
    exec(compile(block, "docs/monitoring.md", "exec"), names)
    return names


@pytest.fixture
def _loggers_as_before() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("partium_auth", "django.dispatch")]
    before = [(one.handlers[:], one.level, one.propagate) for one in loggers]
    yield
    for one, (handlers, level, propagate) in zip(loggers, before, strict=True):
        one.handlers, one.level, one.propagate = handlers, level, propagate


@pytest.mark.usefixtures("_loggers_as_before")
def test_both_samples_of_logging_work(capsys: pytest.CaptureFixture[str]) -> None:
    text, as_json = (run(block)["LOGGING"] for block in blocks("python") if "LOGGING = {" in block)
    [siem] = (block for block in blocks("python") if block.startswith("LOGGING["))
    run(siem, LOGGING=text)
    assert text["loggers"]["partium_auth.audit"]["handlers"] == ["siem"]
    text["handlers"]["siem"] = {"class": "logging.NullHandler"}  # there is no syslog here
    logging.config.dictConfig(text)
    logging.getLogger("partium_auth.tokens").info("Refreshed %s.", "a grant")
    assert re.fullmatch(r"\S+ \S+ INFO partium_auth\.tokens: Refreshed a grant\.\n", capsys.readouterr().err)
    logging.config.dictConfig(as_json)
    try:
        raise RuntimeError("in a receiver")
    except RuntimeError:
        logging.getLogger("django.dispatch").exception("Two\nlines")
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    told = json.loads(line)
    assert (told["level"], told["message"]) == ("ERROR", "Two\nlines")
    assert "in a receiver" in told["exception"]


def test_the_other_blocks_of_python_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for block in blocks("python"):
        if "INSTALLED_APPS" in block:
            assert run(block, INSTALLED_APPS=[])["INSTALLED_APPS"]
        elif "token_refresh_failed" in block:
            signals.token_refresh_failed.disconnect(run(block)["tell_operators"])
        elif "MultiProcessCollector" in block:
            monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
            response = run(block)["metrics"](RequestFactory().get("/metrics"))
            assert response["Content-Type"].startswith("text/plain")
        else:
            assert "LOGGING" in block


def test_several_processes_share_their_metrics(tmp_path: Path) -> None:
    count = """
import os
from partium_auth.contrib import prometheus
from partium_auth.signals import token_refreshed
prometheus.instrument()
token_refreshed.send_robust(sender=None, upstream="partium")
"""
    show = """
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
registry = CollectorRegistry()
MultiProcessCollector(registry)
print(generate_latest(registry).decode())
"""
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for code in (count, count):
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=environment, cwd=ROOT)
    shown = subprocess.run(
        [sys.executable, "-c", show], check=True, timeout=60, env=environment, capture_output=True, text=True
    ).stdout
    assert 'partium_auth_token_refreshes_total{outcome="success",upstream="partium"} 2.0' in shown
    assert shown.count("partium_auth_last_token_refresh_timestamp_seconds{") == 1


def test_queries_and_alerts_name_metrics_and_labels_that_there_are() -> None:
    registry = CollectorRegistry()
    prometheus.instrument(registry)
    try:
        families = {family.name: family for family in registry.collect()}
    finally:
        prometheus.uninstrument()
    known = {name + suffix for name in families for suffix in ("", "_total", "_count", "_sum", "_bucket")}
    (queries,) = blocks("promql")
    (alerts,) = blocks("yaml")
    named = set(re.findall(r"\bpartium_auth_\w+", queries + alerts))
    assert named <= known
    assert {name.removesuffix("_total") for name in known} >= set(families)
    assert set(re.findall(r"^# (\d+)\.", queries, re.MULTILINE)) == {str(number) for number in range(1, 11)}
    names = re.findall(r"- alert: (\w+)", alerts)
    assert len(names) == 5
    assert all(f"| `{name}` |" in PAGE for name in names)
    assert all(f"`{endpoint}`" in PAGE for endpoint in signals.ENDPOINTS)


def test_every_check_that_an_alert_names_is_one_of_the_app() -> None:
    (alerts,) = blocks("yaml")
    (checks,) = re.findall(r'check=~"([^"]+)"', alerts)
    sources = "".join(path.read_text() for path in (ROOT / "partium_auth").rglob("*.py"))
    assert [check for check in checks.split("|") if f'"{check}"' not in sources] == []


def test_every_signal_is_on_the_page() -> None:
    names = [name for name, value in vars(signals).items() if isinstance(value, Signal)]
    assert len(names) == 10
    assert [name for name in names if f"`{name}`" not in PAGE] == []


@pytest.mark.parametrize(
    ("arguments", "keys", "code", "levels"),
    [(["--json"], "good", 1, {"error"}), (["--json"], "bad", 1, set()), (["--nonsense"], "good", 2, set())],
)
def test_the_doctor_s_exit_codes_are_as_documented(
    tmp_path: Path, arguments: list[str], keys: str, code: int, levels: set[str]
) -> None:
    script = """
import sys
from tests import settings
if sys.argv.pop(1) == "bad":
    settings.PARTIUM_ENCRYPTION_KEYS = []
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", "partium_doctor", *sys.argv[1:]])
"""
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "TEST_DATABASE_URL": f"sqlite:///{tmp_path / 'empty.sqlite3'}",
    }
    ended = subprocess.run(
        [sys.executable, "-c", script, keys, *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == code
    assert {json.loads(line)["level"] for line in ended.stdout.splitlines()} == levels
    assert ended.stderr
