"""The portal's forms. A message of theirs says what to type instead."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from partium_auth.forms import PREFIX

LANGUAGES = (("en", "English"), ("de", "Deutsch"), ("fr", "Français"), ("es", "Español"), ("it", "Italiano"))
LIMITS = (6, 12, 24, 48)
DEFAULT_LIMIT = 12
MAX_IMAGE_BYTES = 5_700_000
"""A little under Partium's 5.5 MiB, which count the image and the rest of the request together."""
MAX_PAGE = 1_000


def default_language() -> str:
    """Return the page's own language if parts can be searched in it, else English."""
    language = (get_language() or "").partition("-")[0]
    return language if language in dict(LANGUAGES) else "en"


class _OptionsForm(forms.Form):
    """Language and number of results, both optional."""

    language = forms.ChoiceField(
        choices=LANGUAGES,
        required=False,
        error_messages={"invalid_choice": _("Choose one of the languages in the list.")},
    )
    limit = forms.ChoiceField(
        choices=[(str(limit), str(limit)) for limit in LIMITS],
        required=False,
        error_messages={"invalid_choice": _("Choose one of the numbers in the list.")},
    )

    def clean_language(self) -> str:
        return self.cleaned_data["language"] or default_language()

    def clean_limit(self) -> int:
        return int(self.cleaned_data["limit"] or DEFAULT_LIMIT)


class TextSearchForm(_OptionsForm):
    """A search by words, filters, or a machine."""

    within = forms.CharField(max_length=200, required=False)
    text = forms.CharField(
        max_length=200,
        required=False,
        error_messages={
            "required": _("Type what you are looking for: a name, a part number or a few words."),
            "max_length": _("Shorten this to 200 characters or fewer."),
            "null_characters_not_allowed": _("Remove the characters that cannot be typed and try again."),
        },
    )

    def clean(self) -> dict[str, Any]:
        wanted: dict[str, Any] = super().clean() or {}
        is_narrowed = bool(wanted.get("within")) or any(name.startswith(PREFIX) for name in self.data)
        if "text" in wanted and not wanted["text"] and not is_narrowed:
            self.add_error("text", self.fields["text"].error_messages["required"])
        return wanted


class PhotoSearchForm(_OptionsForm):
    """A search by photo, and words beside it."""

    text = forms.CharField(max_length=200, required=False)

    image = forms.FileField(
        error_messages={
            "required": _("Choose or take a photo first."),
            "empty": _("This file is empty. Choose another photo."),
            "invalid": _("Choose or take a photo first."),
            "missing": _("Choose or take a photo first."),
        }
    )

    def clean_image(self) -> UploadedFile[bytes]:
        image: UploadedFile[bytes] = self.cleaned_data["image"]
        if image.size is not None and image.size > MAX_IMAGE_BYTES:
            raise forms.ValidationError(
                _("This photo is too large. Choose one of at most 5 MB, or a smaller resolution.")
            )
        return image


class PageForm(forms.Form):
    """Further results of a search that was made before."""

    session = forms.UUIDField()
    page = forms.IntegerField(min_value=1, max_value=MAX_PAGE)
    limit = forms.TypedChoiceField(choices=[(str(limit), str(limit)) for limit in LIMITS], coerce=int)
