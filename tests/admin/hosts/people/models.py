"""A user model unlike Django's: an e-mail address for a name, a UUID for a key, no permissions, no ``is_staff`` column."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models


class People(BaseUserManager["Person"]):
    def create_user(self, address: str, password: str, **fields: Any) -> Person:
        person = self.model(address=address, **fields)
        person.set_password(password)
        person.save()
        return person

    def create_superuser(self, address: str, password: str) -> Person:
        return self.create_user(address, password, is_superuser=True)


class Person(AbstractBaseUser):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    address = models.CharField(max_length=190, unique=True)
    is_superuser = models.BooleanField(default=False)

    USERNAME_FIELD = "address"
    objects = People()

    class Meta:
        app_label = "people"

    def __str__(self) -> str:
        return self.address

    @property
    def is_staff(self) -> bool:
        return self.is_superuser

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        return self.is_superuser

    def has_module_perms(self, label: str) -> bool:
        return self.is_superuser
