"""A browser without JavaScript."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from html import unescape
from http.cookiejar import Cookie
from typing import Any
from urllib.parse import urljoin

import requests
from requests.cookies import RequestsCookieJar

from tests.demo.processes import DEADLINE_SECONDS


class Cookies(RequestsCookieJar):
    """As browsers do on this machine: cookies for https are sent over http, too. May be used by several threads."""

    def set_cookie(self, cookie: Cookie, *args: Any, **kwargs: Any) -> None:
        cookie.secure = False
        super().set_cookie(cookie, *args, **kwargs)

    def __iter__(self) -> Iterator[Cookie]:  # type: ignore[override]  # the stubs take it for a mapping
        with self._cookies_lock:  # type: ignore[attr-defined]
            return iter(list(super().__iter__()))


class Visitor:
    """Keeps cookies, follows redirects and submits forms."""

    def __init__(self, site: str) -> None:
        self.site = site
        self.browser = requests.Session()
        self.browser.cookies = Cookies()

    def get(self, url: str) -> requests.Response:
        if url.startswith("/"):
            url = self.site + url
        return self.browser.get(url, headers={"Accept": "text/html"}, timeout=DEADLINE_SECONDS)

    def wait_for(self, url: str) -> requests.Response:
        """Open a page, and reload it while it says so (``<meta http-equiv="refresh">``)."""
        page = self.get(url)
        while reloads := re.search(r'http-equiv="refresh" content="(\d+)"', page.text):
            time.sleep(int(reloads[1]))
            page = self.get(page.url)
        return page

    def open_login(self, next_url: str = "/page/home/") -> requests.Response:
        """Return what the provider shows, or the site's page if the provider asks nothing."""
        return self.get(f"/partium/login/default/?next={next_url}")

    def submit(self, page: requests.Response, **fields: str) -> requests.Response:
        """Submit the first form of a page."""
        form = re.search(r"<form.*?</form>", page.text, re.DOTALL)
        assert form is not None, page.text
        inputs = [_attributes(tag) for tag in re.findall(r"<input[^>]*>", form[0])]
        hidden = {tag["name"]: tag.get("value", "") for tag in inputs if tag.get("type") == "hidden"}
        target = urljoin(page.url, _attributes(form[0].partition(">")[0]).get("action", page.url))
        headers = {"Accept": "text/html", "Referer": page.url}
        answer = self.browser.post(target, data=hidden | fields, headers=headers, timeout=DEADLINE_SECONDS)
        goes_on = answer.headers.get("Refresh", "").partition("url=")[2]
        return self.get(goes_on) if goes_on else answer

    def log_out(self) -> requests.Response:
        return self.submit(self.get("/page/home/"))

    def forget_the_site(self) -> None:
        """Lose the site's cookies; the provider's stay."""
        self.browser.cookies.clear(domain="localhost.local")


def _attributes(tag: str) -> dict[str, str]:
    return {name: unescape(value) for name, _, value in re.findall(r"""([\w-]+)=(["'])(.*?)\2""", tag, re.DOTALL)}
