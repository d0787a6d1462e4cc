"""Name the keys that several organizations have already."""

from django.db import migrations
from django.db.models import Count


def fill(apps, schema_editor):
    alias = schema_editor.connection.alias
    ApiKey = apps.get_model("partium_auth", "ApiKey")
    DuplicateKey = apps.get_model("partium_auth", "DuplicateKey")
    unrevoked = ApiKey.objects.using(alias).exclude(status="revoked").order_by().values("fingerprint")
    found = unrevoked.annotate(n=Count("pk")).filter(n__gt=1).values_list("fingerprint", flat=True)
    DuplicateKey.objects.using(alias).bulk_create([DuplicateKey(fingerprint=fingerprint) for fingerprint in found])


class Migration(migrations.Migration):

    dependencies = [
        ("partium_auth", "0004_duplicate_key"),
    ]

    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
