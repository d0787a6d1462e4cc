"""The app's registration with Django."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class PartiumAuthConfig(AppConfig):
    """``"partium_auth"`` in ``INSTALLED_APPS`` is enough."""

    name = "partium_auth"
    verbose_name = _("Partium")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks and connect receivers."""
        from django.contrib.auth.signals import user_logged_in, user_logged_out

        from partium_auth import checks  # noqa: F401  # registers
        from partium_auth.services import keys

        user_logged_in.connect(_logged_in, dispatch_uid="partium_auth")
        user_logged_out.connect(_logged_out, dispatch_uid="partium_auth")
        keys.connect_signals()


def _logged_in(sender: object, request: Any, user: Any, **kwargs: object) -> None:
    from partium_auth import session

    # Our own login views attach a grant as well, after this.
    if request is not None and hasattr(request, "session"):
        session.begin_without_grant(request, user)


def _logged_out(sender: object, request: Any, user: Any, **kwargs: object) -> None:
    from partium_auth import session

    if request is not None and hasattr(request, "session"):
        session.end(request)
