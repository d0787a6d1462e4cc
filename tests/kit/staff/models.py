"""A user model as older sites have it: an address that is unique, and columns that every new user needs."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib.auth.base_user import BaseUserManager
from django.contrib.auth.models import AbstractUser
from django.db import models


class EmployeeManager(BaseUserManager["Employee"]):
    def create_user(self, email: str, employee_id: uuid.UUID, hired_on: Any, password: str | None = None) -> Employee:
        if not isinstance(employee_id, uuid.UUID):
            raise TypeError("employee_id is a UUID.")
        employee = self.model(email=email, employee_id=employee_id, hired_on=hired_on, username=uuid.uuid4().hex)
        employee.set_password(password)
        employee.full_clean()
        employee.save(using=self._db)
        return employee


class Employee(AbstractUser):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    email = models.EmailField(unique=True)
    employee_id = models.UUIDField(unique=True)
    hired_on = models.DateField()

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS = ["employee_id", "hired_on"]
    objects = EmployeeManager()  # type: ignore[assignment]

    class Meta:
        app_label = "staff"
