"""The threads that refresh: few per upstream, none when idle, and none that is waited for in vain."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from django.db import connection

from partium_auth.host.per_process import PerProcess
from partium_auth.tokens.workers import Executor, Saturated
from tests.tokens.conftest import eventually

THREADS_PER_UPSTREAM = 2


@pytest.fixture
def released() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def blocking(released: threading.Event, started: threading.Semaphore) -> Callable[[], None]:
    def job() -> None:
        started.release()
        released.wait(60)

    return job


def test_two_refreshes_of_an_upstream_run_at_once_and_the_third_waits(released: threading.Event) -> None:
    started, done = threading.Semaphore(0), threading.Event()
    executor = Executor(threads=lambda: THREADS_PER_UPSTREAM)
    for _ in range(THREADS_PER_UPSTREAM):
        executor.submit("hanging", blocking(released, started))
    for _ in range(THREADS_PER_UPSTREAM):
        assert started.acquire(timeout=30)
    executor.submit("hanging", done.set)
    other = threading.Event()
    executor.submit("other", other.set)
    assert other.wait(30)
    assert not done.is_set()
    released.set()
    assert done.wait(30)


def test_a_thread_that_works_does_not_count_as_a_free_one(released: threading.Event) -> None:
    executor = Executor(threads=lambda: THREADS_PER_UPSTREAM)
    for _ in range(50):
        started, first, second = threading.Semaphore(0), threading.Event(), threading.Event()
        executor.submit("upstream", first.set)
        assert first.wait(30)
        gate = threading.Event()
        executor.submit("upstream", blocking(gate, started))
        executor.submit("upstream", second.set)
        assert second.wait(30)
        gate.set()


def test_idle_threads_end() -> None:
    executor = Executor(threads=lambda: THREADS_PER_UPSTREAM, idle_seconds=0.1)
    for _ in range(2):
        done = threading.Event()
        executor.submit("brief", done.set)
        assert done.wait(30)
        eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "partium-brief"])
        assert not executor.queued


def test_what_a_job_raises_ends_neither_the_thread_nor_the_upstreams_queue(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise SystemExit

    done = threading.Event()
    executor = Executor(threads=lambda: THREADS_PER_UPSTREAM)
    for _ in range(3):
        executor.submit("upstream", fail)
    executor.submit("upstream", done.set)
    assert done.wait(30)
    eventually(lambda: caplog.text.count("A job in the background raised") == 3)


@pytest.mark.django_db(transaction=True)
def test_a_thread_keeps_its_database_connection_for_as_long_as_the_site_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 60)
    used: list[object] = []

    def query() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        used.append(connection.connection)

    executor = Executor(threads=lambda: 1, idle_seconds=0.5)
    for _ in range(2):
        executor.submit("kept", query)
        eventually(lambda: not executor.queued)
    assert used[0] is used[1]
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "partium-kept"])


def test_an_upstream_with_one_thread_needs_no_second(
    released: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_threads(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    started, done = threading.Semaphore(0), threading.Event()
    executor = Executor(threads=lambda: THREADS_PER_UPSTREAM)
    executor.submit("upstream", blocking(released, started))
    assert started.acquire(timeout=30)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", out_of_threads)
        executor.submit("upstream", done.set)
        with pytest.raises(Saturated):
            executor.submit("other", done.set)
    released.set()
    assert done.wait(30)


def test_an_upstreams_queue_does_not_grow_without_end(released: threading.Event) -> None:
    executor = Executor(threads=lambda: THREADS_PER_UPSTREAM, queue_limit=3)
    for _ in range(3):
        executor.submit("upstream", blocking(released, threading.Semaphore(0)))
    with pytest.raises(Saturated):
        executor.submit("upstream", released.set)


def test_all_threads_of_a_process_share_one_value() -> None:
    values = PerProcess(list[int])
    assert values() is values()
