"""The app's registration with Django."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class PartiumAuthConfig(AppConfig):
    """``"partium_auth"`` in ``INSTALLED_APPS`` is enough."""

    name = "partium_auth"
    verbose_name = _("Partium")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks and connect the signal receivers."""
        from partium_auth import checks  # noqa: F401  # registers
        from partium_auth.accounts import any_login
        from partium_auth.models import versions
        from partium_auth.services import erasure, key_usage, notices

        versions.connect_signals()
        key_usage.connect_signals()
        erasure.connect_signals()
        notices.connect_signals()
        any_login.connect_signals()
