"""Everything about people, this app's tables among it, in a database of its own; the host's other tables stay."""

from __future__ import annotations

from typing import Any

PEOPLE = {"auth", "contenttypes", "admin", "partium_auth"}


class PeopleRouter:
    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "people" if model._meta.app_label in PEOPLE else None

    db_for_write = db_for_read

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool | None:
        return (one._meta.app_label in PEOPLE) == (other._meta.app_label in PEOPLE)

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return (app_label in PEOPLE) == (db == "people")
