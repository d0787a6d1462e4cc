"""Browsers: they log in once, then ask for pages at a steady rate, whether the answers come or not."""

from __future__ import annotations

import http.client
import re
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from urllib.parse import urlencode

ANSWER_SECONDS = 60.0


@dataclass
class Answers:
    """What came back from one kind of page."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    retry_after: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, status: str, seconds: float, retry_after: str | None) -> None:
        with self.lock:
            self.statuses[status] += 1
            self.seconds.append(seconds)
            if retry_after:
                self.retry_after.append(int(retry_after))

    def percentile(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def get(port: int, path: str, cookie: str, answers: Answers | None = None) -> str:
    """Ask for a page on a connection of its own; return its status, or the name of the failure."""
    started_at = time.monotonic()
    retry_after = None
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", path, headers={"Cookie": cookie, "Accept": "application/json"})
        response = connection.getresponse()
        response.read()
        status, retry_after = str(response.status), response.headers.get("Retry-After")
    except (OSError, http.client.HTTPException) as error:
        status = type(error).__name__
    finally:
        connection.close()
    if answers is not None:
        answers.add(status, time.monotonic() - started_at, retry_after)
    return status


def log_in(port: int, username: str) -> str:
    """Log in through the site's own login page, and return the session's cookie."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    connection.request("GET", "/partium/login/")
    response = connection.getresponse()
    page = response.read().decode()
    (csrf_cookie,) = re.findall(r"csrftoken=(\w+)", str(response.headers))
    token = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[0]
    form = {"csrfmiddlewaretoken": token, "username": username, "password": "pw"}
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": f"csrftoken={csrf_cookie}"}
    connection.request("POST", "/partium/login/", urlencode(form), headers)
    response = connection.getresponse()
    response.read()
    connection.close()
    found = re.findall(r"sessionid=(\w+)", str(response.headers))
    if response.status != 302 or not found:
        raise SystemExit(f"The login of {username} answered {response.status}.")
    return f"sessionid={found[0]}"


class Load:
    """Asks for pages in the background until it is stopped. Open loop: a late answer delays no other request.

    Args:
        cookies: one a session.
        per_second: requests of the page with a token.
    """

    def __init__(self, port: int, cookies: list[str], *, per_second: float = 40.0, path: str = "/token/") -> None:
        self.pages, self.control = Answers(), Answers()
        self._port, self._cookies, self._path = port, cookies, path
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(400)
        self.recovered_seconds: float | None = None
        self._threads = [
            threading.Thread(target=self._run, args=(per_second, path, self.pages)),
            threading.Thread(target=self._run, args=(10.0, "/control/", self.control)),
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, per_second: float, path: str, answers: Answers) -> None:
        number, due = 0, time.monotonic()
        while not self._stopped.wait(max(0.0, due - time.monotonic())):
            cookie = self._cookies[number % len(self._cookies)]
            self._pool.submit(get, self._port, path, cookie, answers)
            number, due = number + 1, due + 1 / per_second

    def stop(self) -> None:
        """Stop asking, and wait for the last answers."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        self._pool.shutdown()


def all_at_once(port: int, cookies: list[str], path: str, answers: Answers) -> list[str]:
    """Ask for one page with every cookie at the same moment."""
    with ThreadPoolExecutor(len(cookies)) as pool:
        asked = [pool.submit(get, port, path, cookie, answers) for cookie in cookies]
        wait(asked)
    return [one.result() for one in asked]
