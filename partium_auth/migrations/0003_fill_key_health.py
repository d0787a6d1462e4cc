"""Make the key health of organizations that have keys already."""

import datetime as dt
import itertools

from django.conf import settings
from django.db import migrations

# As models.health was when this was written: a migration must not change with the code.
NAMES = ("healthy_until", "serving_until", "unverified_until", "failing_until")
WARNED_BEFORE = dt.timedelta(days=30)


def moments(keys):
    for_ever = dt.datetime(9999, 1, 1, tzinfo=dt.timezone.utc if settings.USE_TZ else None)
    found = dict.fromkeys(NAMES)

    def until(name, end):
        found[name] = max(found[name] or end, end)

    for _organization_id, status, verification, rejected_at, retires_at, expires_at in keys:
        end = min(retires_at or for_ever, expires_at or for_ever)
        if status == "revoked":
            continue
        if rejected_at or verification in ("rejected", "wrong_organization"):
            until("failing_until", end)
        elif status == "retiring":
            until("serving_until", end)
        elif verification == "unverified":
            until("unverified_until", end)
        else:
            until("serving_until", end)
            try:
                warned_from = expires_at - WARNED_BEFORE if expires_at else for_ever
            except OverflowError:
                warned_from = expires_at
            until("healthy_until", min(end, warned_from))
    return found


def fill(apps, schema_editor):
    alias = schema_editor.connection.alias
    ApiKey = apps.get_model("partium_auth", "ApiKey")
    KeyHealth = apps.get_model("partium_auth", "KeyHealth")
    keys = (
        ApiKey.objects.using(alias)
        .order_by("organization_id")
        .values_list("organization_id", "status", "verification", "rejected_at", "retires_at", "expires_at")
    )
    rows = [
        KeyHealth(organization_id=organization_id, **moments(group))
        for organization_id, group in itertools.groupby(keys, key=lambda key: key[0])
    ]
    KeyHealth.objects.using(alias).bulk_create(rows, batch_size=1000)


class Migration(migrations.Migration):

    dependencies = [
        ("partium_auth", "0002_key_health"),
    ]

    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
