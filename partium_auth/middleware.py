"""``request.partium``, and what a Partium error becomes that a view does not catch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from partium_auth.exceptions import PartiumError, TokenUnavailable
from partium_auth.session import PartiumSession
from partium_auth.tokens.manager import token_manager


class PartiumMiddleware:
    """Attaches ``request.partium``; put it after ``AuthenticationMiddleware``. Reads and writes nothing by itself."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        # For an async handler this is the coroutine that Django awaits; there is nothing to do afterwards.
        request.partium = PartiumSession(request)  # type: ignore[attr-defined]
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Answer a Partium error: log in again, or try again later, as a page or as JSON for a script."""
        if not isinstance(exception, PartiumError):
            return None
        from partium_auth.accounts.error_pages import error_response
        from partium_auth.accounts.redirects import may_repeat, repeat

        if isinstance(exception, TokenUnavailable) and may_repeat(request):
            try:
                token_manager.obtain_unblocked(exception)
            except PartiumError as error:
                exception = error
            else:
                return repeat(request)
        return error_response(request, exception)
