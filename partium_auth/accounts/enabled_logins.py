"""Which of this app's ways to log in the site has enabled, by naming the backend in ``AUTHENTICATION_BACKENDS``."""

from __future__ import annotations

from django.conf import settings
from django.utils.module_loading import import_string

from partium_auth.models import Grant


def is_oidc_login_enabled() -> bool:
    """Tell whether ``AUTHENTICATION_BACKENDS`` has ``PartiumOIDCBackend``, or a subclass."""
    return _is_enabled(Grant.Kind.OIDC)


def is_password_login_enabled() -> bool:
    """Tell whether ``AUTHENTICATION_BACKENDS`` has ``PartiumPasswordBackend``, or a subclass."""
    return _is_enabled(Grant.Kind.PASSWORD)


def _is_enabled(kind: Grant.Kind) -> bool:
    backends = map(import_string, settings.AUTHENTICATION_BACKENDS)
    return any(getattr(backend, "partium_login_kind", None) == kind for backend in backends)
