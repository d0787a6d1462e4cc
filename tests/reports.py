"""What an error report can show: the variables of every frame, this app's, Django's and those of decorators."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

from django.core.signals import got_request_exception
from django.db import DatabaseError, connection, transaction

from partium_auth.tokens import access
from partium_auth.tokens.manager import token_manager

FAILURE = "the database failed"


def frames_that_show(error: BaseException, secrets: Iterable[str]) -> list[str]:
    """Return the frames of an exception, and of what led to it, in which a variable shows a secret.

    Frames of tests are left out: a test knows the secrets by itself.
    """
    found: list[str] = []
    for one in _chain(error):
        step = one.__traceback__
        while step is not None:
            frame, step = step.tb_frame, step.tb_next
            if _is_of_test(frame):
                continue
            shown = [name for name, value in frame.f_locals.items() if _shows(value, secrets)]
            found += [f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}: {name}" for name in shown]
    return found


def every_failure(prepare: Callable[[], Callable[[], object]]) -> Iterator[list[BaseException]]:
    """Run what ``prepare`` returns again and again, each time with another statement of the database failing.

    Yields the exceptions of each run, also those that Django answered with a 500. Each run is rolled back.
    """
    for number in itertools.count(1):
        errors: list[BaseException] = []

        def noted(errors: list[BaseException] = errors, **kwargs: Any) -> None:
            error = sys.exc_info()[1]
            assert error is not None
            errors.append(error)

        access.forget_all()
        token_manager.forget()
        fault = _Fault(number)
        got_request_exception.connect(noted)
        try:
            with transaction.atomic():
                run = prepare()
                with connection.execute_wrapper(fault):
                    try:
                        run()
                    except Exception as error:  # whatever comes out is looked at
                        if not fault.has_failed:
                            raise
                        errors.append(error)
                transaction.set_rollback(True)
        finally:
            got_request_exception.disconnect(noted)
            token_manager.refresher.pending.clear()
        if not fault.has_failed:
            assert number > 1
            return
        yield errors


def _is_of_test(frame: FrameType) -> bool:
    # What a test has put into the app's place is looked at.
    path, name = frame.f_code.co_filename, frame.f_code.co_name
    return path.endswith("django/test/client.py") or ("/tests/" in path and name != "fail")


class _Fault:
    """Lets one statement fail, and none that only ends a transaction."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.has_failed = False

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if not sql.startswith(("ROLLBACK", "RELEASE", "SAVEPOINT")):
            self.left -= 1
            if not self.left:
                self.has_failed = True
                raise DatabaseError(FAILURE)
        return execute(sql, params, many, context)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__]


def _shows(value: object, secrets: Iterable[str]) -> bool:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  # an object that is not complete yet
        return False
    return any(secret in text for secret in secrets)
