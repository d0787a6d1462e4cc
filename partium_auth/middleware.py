"""``request.partium``, and what a Partium error becomes that a view does not catch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from partium_auth import policy
from partium_auth.accounts import sessions
from partium_auth.exceptions import LoginRequired, PartiumError, TokenUnavailable
from partium_auth.models import Grant
from partium_auth.models.database import database_alias
from partium_auth.session import PartiumSession
from partium_auth.tokens.manager import token_manager


class PartiumMiddleware:
    """Attaches ``request.partium``; put it after ``AuthenticationMiddleware``. Reads nothing by itself.

    Writes only where the session gets another key during a request, as it does when the password is changed: the grant needs
    the new one, so that a logout from elsewhere ends this session and ``partium_clear_grants`` sees that it is alive.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        request.partium = PartiumSession(request)  # type: ignore[attr-defined]
        sessions.note_key(request)
        if not self._is_async:
            token_manager.waiting.note_thread()
        response = self.get_response(request)
        if not isinstance(response, HttpResponseBase):
            return self._finish(request, response)
        if sessions.key_was_changed(request):
            sessions.store_key(request)
        return response

    async def _finish(self, request: HttpRequest, response: Awaitable[HttpResponseBase]) -> HttpResponseBase:
        answer = await response
        if sessions.key_was_changed(request):
            await sync_to_async(sessions.store_key)(request)
        return answer

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


class RecentLoginMiddleware(MiddlewareMixin):
    """Lets ``PARTIUM_REAUTHENTICATE_AFTER`` hold on every page, as the base library's ``SessionRefresh`` did; one query a page.

    Put it after :class:`PartiumMiddleware`. Views with Django's ``login_not_required``, and logins that are not this app's,
    are left alone.
    """

    def process_view(
        self, request: HttpRequest, view: Callable[..., object], args: object, kwargs: object
    ) -> HttpResponse | None:
        """Send the person to log in again, or answer a script with 401."""
        grant_id = sessions.grant_id_of(request)
        if grant_id is None or not getattr(view, "login_required", True):
            return None
        rows = Grant.objects.using(database_alias()).filter(pk=grant_id)
        for authenticated_at, provider in rows.values_list("authenticated_at", "provider"):
            try:
                policy.require_recent_login(authenticated_at, provider, now=token_manager.clock())
            except LoginRequired as error:
                from partium_auth.accounts.error_pages import error_response

                return error_response(request, error)
        return None
