"""A form of the filters that would narrow a search."""

from __future__ import annotations

from collections.abc import Sequence

from django import forms
from django.http import QueryDict

from partium_auth.partium.results import Facet

PREFIX = "filter."


def chosen_filters(query: QueryDict) -> dict[str, list[str]]:
    """Return the filters that a query string has chosen, for ``search(filters=…)``."""
    chosen = {name.removeprefix(PREFIX): query.getlist(name) for name in query if name.startswith(PREFIX)}
    return {label: values for label, values in chosen.items() if label and any(values)}


class FacetForm(forms.Form):
    """Check boxes with counts. Its state is the query string of a form with ``method="get"``; no JavaScript is needed.

    Args:
        facets: of a search with ``facets=True``.
        query: such as ``request.GET``. A chosen value stays in the form when nothing has it any more, so that it can be
            given up.
    """

    def __init__(self, facets: Sequence[Facet], query: QueryDict) -> None:
        super().__init__(query)
        chosen = chosen_filters(query)
        counts = {facet.label: {value.value: value.count for value in facet.values} for facet in facets}
        for label in dict.fromkeys([*counts, *chosen]):
            values = dict.fromkeys(chosen.get(label, ())) | counts.get(label, {})
            choices = [(value, value if count is None else f"{value} ({count})") for value, count in values.items()]
            self.fields[PREFIX + label] = forms.MultipleChoiceField(
                label=label, choices=choices, required=False, widget=forms.CheckboxSelectMultiple
            )
