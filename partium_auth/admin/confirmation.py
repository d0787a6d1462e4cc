"""Asks before a saved form takes access away from people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _


class ConfirmedForm(forms.ModelForm):  # type: ignore[type-arg]
    """A form that is not saved before a box is checked, if it takes access away. The box appears with what is lost."""

    confirmed = forms.BooleanField(label=_("Yes, take this access away"), required=False, widget=forms.HiddenInput)

    def losses(self, data: dict[str, Any]) -> Iterator[str]:
        """Yield what people lose by these values; ``self.instance`` is still as stored."""
        raise NotImplementedError

    def clean(self) -> dict[str, Any] | None:
        data = super().clean() or self.cleaned_data
        losses = [] if self.instance._state.adding else list(self.losses(data))
        if losses and not data.get("confirmed"):
            self.fields["confirmed"].widget = forms.CheckboxInput()
            self.add_error("confirmed", [ValidationError(text) for text in losses])
        return data
