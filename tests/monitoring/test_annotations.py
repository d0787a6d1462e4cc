"""``PartiumRequest`` is there at run time, and costs a site nothing that does not use it."""

from __future__ import annotations

import subprocess
import sys
from typing import get_type_hints

import pytest
from django.http import HttpRequest

import partium_auth
from partium_auth import PartiumRequest


def test_a_view_s_annotations_can_be_read_at_run_time() -> None:
    def view(request: PartiumRequest) -> None: ...

    assert get_type_hints(view)["request"] is PartiumRequest
    assert issubclass(PartiumRequest, HttpRequest)


def test_importing_the_package_loads_nothing_and_the_name_needs_no_apps() -> None:
    code = """
import sys
import partium_auth
assert "PartiumRequest" in partium_auth.__all__
heavy = {"django", "requests", "cryptography", "opentelemetry", "prometheus_client"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
from partium_auth import PartiumRequest
assert "requests" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        partium_auth.nonsense  # noqa: B018
