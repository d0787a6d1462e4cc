"""The forms for API keys. A pasted key is passed to the service and never shown again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from django import forms
from django.contrib.admin.widgets import AdminSplitDateTime
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from partium_auth.admin.organization_choice import OrganizationField
from partium_auth.exceptions import EncryptionError
from partium_auth.host.posted_secrets import SecretField
from partium_auth.models import ApiKey
from partium_auth.services import key_validation


class ExpiryWidget(AdminSplitDateTime):
    """Django's fields for date and time, each with a name for screen readers."""

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        super().__init__(attrs)
        for widget, name in zip(self.widgets, (_("Expires, date"), _("Expires, time")), strict=True):
            widget.attrs["aria-label"] = name


CANNOT_ENCRYPT = _("Encryption is not set up correctly. Please tell the people who run this site.")


def _forget_wrong_label(form: forms.BaseForm) -> None:
    """Forget a label that has an error: it may contain the key, and the page with the form would show it."""
    if "label" in form.errors:
        form.data = form.data.copy()  # type: ignore[attr-defined]  # a QueryDict cannot be changed
        form.data["label"] = ""  # type: ignore[index]


class ChangeForm(forms.ModelForm):  # type: ignore[type-arg]  # the stubs' class takes a type, Django's does not
    """Changes the label and the expiry of a stored key."""

    class Meta:
        model = ApiKey
        fields = ("label", "expires_at")
        widgets: ClassVar = {"expires_at": ExpiryWidget()}

    def clean_label(self) -> str:
        try:
            return key_validation.clean_label_of(self.instance, self.cleaned_data["label"])
        except ValidationError as error:
            raise ValidationError(error.error_dict["label"]) from None
        except EncryptionError:
            raise ValidationError(CANNOT_ENCRYPT) from None

    def clean(self) -> dict[str, Any] | None:
        _forget_wrong_label(self)
        return super().clean()


class NewKeyForm(forms.Form):
    """The fields for a new key: what adding and rotating have in common."""

    label = forms.CharField(
        label=_("Label"),
        max_length=100,
        widget=forms.TextInput({"class": "vTextField"}),
        help_text=_("A name for this key, for example “Production 2026”."),
    )
    value = SecretField(
        label=_("API key"),
        help_text=_("Paste it as Partium shows it. It is stored encrypted and never shown again."),
    )
    allow_unverified = forms.BooleanField(
        label=_("Save without verifying"),
        required=False,
        help_text=_("Used only if there is no verified key."),
    )
    expires_at = forms.SplitDateTimeField(
        label=_("Expires"),
        required=False,
        widget=ExpiryWidget(),
        help_text=_("Optional. You'll be warned 30 days ahead."),
    )

    def clean(self) -> None:
        # The service checks this too, but is not called if another field has an error; then this page shows the label.
        if "label" not in self.errors:
            try:
                key_validation.clean_label(self.data.get("label", ""), self.data.get("value", "").strip())
            except ValidationError as error:
                self.take_errors(error)
        _forget_wrong_label(self)

    def take_errors(self, error: ValidationError) -> None:
        """Show the errors of the service beside their fields."""
        if hasattr(error, "error_dict"):
            for name, errors in error.error_dict.items():
                self.add_error(name if name in self.fields else None, errors)
        else:
            self.add_error(None, error)

    @property
    def offers_unverified(self) -> bool:
        """Whether the box is shown: only after Partium could not be reached."""
        if not self.is_bound:
            return False
        codes = {e.code for e in self.errors.as_data().get("value", [])}
        return "unreachable" in codes or "allow_unverified" in self.data

    def shown(self) -> Iterable[forms.BoundField]:
        """The fields, in order."""
        return [self[name] for name in self.fields if name != "allow_unverified" or self.offers_unverified]


class AddForm(NewKeyForm):
    def __init__(self, organization: OrganizationField, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields = {"organization": organization, **self.fields}


class RotateForm(NewKeyForm):
    field_order = ("label", "value", "allow_unverified", "overlap_hours", "expires_at")
    overlap_hours = forms.IntegerField(
        label=_("Overlap in hours"),
        min_value=0,
        max_value=90 * 24,
        initial=24,
        help_text=_("How long the old key stays valid. Sessions switch to the new key with their next token."),
    )


class FindForm(forms.Form):
    value = SecretField(label=_("API key"))
