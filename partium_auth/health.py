"""``partium_auth:health``: does this process have what it needs? For probes."""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import ImproperlyConfigured
from django.db import Error as AnyDatabaseError
from django.db import connections
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from partium_auth.conf import conf
from partium_auth.exceptions import EncryptionError
from partium_auth.models.database import are_migrations_applied, database_alias
from partium_auth.sealed import encryption
from partium_auth.tokens.manager import token_manager


@login_not_required
@require_safe
@never_cache
def health(request: HttpRequest) -> HttpResponse:
    """Answer 200 where all checks pass, otherwise 503; 404 unless ``PARTIUM_HEALTH`` is True.

    ``{"status": "ok", "checks": {"database": true, "migrations": true, "encryption": true}, "refresh_queue": {"partium": 0}}``;
    the queue is how many refreshes wait for a thread of this process, by upstream. Calls no upstream and reads no session.
    """
    if not conf.health:
        raise Http404
    database = _database_answers()
    checks = {"database": database, "migrations": database and _has_tables(), "encryption": _can_seal()}
    is_well = all(checks.values())
    body = {"status": "ok" if is_well else "error", "checks": checks, "refresh_queue": token_manager.queued}
    return JsonResponse(body, status=200 if is_well else 503)


def _database_answers() -> bool:
    try:
        with connections[database_alias()].cursor() as cursor:
            cursor.execute("SELECT 1")
    except AnyDatabaseError:
        return False
    return True


def _has_tables() -> bool:
    try:
        return are_migrations_applied()
    except AnyDatabaseError:
        return False


def _can_seal() -> bool:
    context = "partium_auth.health:probe"
    try:
        return encryption.unseal(encryption.seal("probe", context), context) == "probe"
    except (EncryptionError, ImproperlyConfigured):
        return False
