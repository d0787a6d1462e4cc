"""Lines that would come with every request come once a minute."""

from __future__ import annotations

import logging

import pytest

from partium_auth.host.repeated_log import RepeatedLog


def test_the_first_line_is_written_and_the_others_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    log = RepeatedLog(logging.getLogger("partium_auth"), clock=lambda: now[0])
    for _ in range(5):
        log.write(logging.WARNING, "one", "%s is wrong", "one")
    log.write(logging.WARNING, "other", "other is wrong")
    assert caplog.messages == ["one is wrong", "other is wrong"]
    caplog.clear()
    now[0] = 61.0
    log.write(logging.WARNING, "one", "%s is wrong", "one")
    assert caplog.messages == ["one is wrong", "The line before stands for 4 more since the last such line."]
