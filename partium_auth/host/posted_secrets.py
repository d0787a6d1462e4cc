"""Secrets that a form posts: ``Plain`` before the view begins, so that no error report shows them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from django import forms
from django.http import HttpRequest
from django.urls import URLPattern

from partium_auth.sealed.plain import Plain

V = TypeVar("V", bound=Callable[..., Any])


def secret_post_parameters(*names: str) -> Callable[[V], V]:
    """Return a decorator for a view in whose ``request.POST`` these parameters are ``Plain``.

    Django's reports (with ``DEBUG``, too) and Sentry's show ``request.POST``. Make it the outermost decorator: the check of
    the CSRF token or of the person may fail before the view.
    """

    def decorator(view: V) -> V:
        @wraps(view)
        def with_secrets(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if request.method == "POST":
                post = request.POST.copy()
                for name in names:
                    if name in post:
                        post[name] = Plain.of(post[name])  # type: ignore[assignment,arg-type]
                request.POST = post  # type: ignore[assignment]
            return view(request, *args, **kwargs)

        return cast("V", with_secrets)

    return decorator


def hide_in_urls(urls: list[URLPattern], *names: str) -> list[URLPattern]:
    """Make these parameters ``Plain`` for each view of some URLs, outside of what the admin wraps its views in."""
    for url in urls:
        url.callback = secret_post_parameters(*names)(url.callback)
    return urls


class SecretField(forms.CharField):
    """A field for a key, a secret or a password. Its value is ``Plain``, and is never sent back to the browser."""

    def __init__(self, **kwargs: Any) -> None:
        attrs = {"autocomplete": "off", "spellcheck": "false", "autocapitalize": "none", "class": "vTextField"}
        super().__init__(widget=forms.PasswordInput(render_value=False, attrs=attrs), **kwargs)

    def to_python(self, value: Any) -> Any:
        secret = Plain.of(value or "")
        return (secret.strip() if self.strip else secret) or None
