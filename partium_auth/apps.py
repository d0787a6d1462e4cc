"""The app's registration with Django."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class PartiumAuthConfig(AppConfig):
    """``"partium_auth"`` in ``INSTALLED_APPS`` is enough."""

    name = "partium_auth"
    verbose_name = _("Partium")
    default_auto_field = "django.db.models.BigAutoField"
