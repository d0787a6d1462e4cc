"""Lists that are searched: every word typed, somewhere in the ``search_text`` of a row, small or capital."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from django.core.paginator import Paginator
from django.db import connections
from django.db.models import Count, Q, QuerySet, Value, Window
from django.db.models.functions import Upper
from django.http import HttpRequest
from django.utils.text import smart_split, unescape_string_literal

from partium_auth.admin.scope import PolicyAdmin


def words(typed: str) -> Iterator[str]:
    """Split what was typed as Django's own admin does: at spaces outside of quotation marks. One alone is a character."""
    for word in smart_split(typed):
        quoted = len(word) > 1 and word[0] in "\"'" and word[0] == word[-1]
        yield unescape_string_literal(word) if quoted else word


def contains(word: str, rows: QuerySet[Any]) -> Q:
    """Return the condition that a word is in the ``search_text`` of these rows."""
    if connections[rows.db].vendor == "postgresql":
        # Its icontains makes capitals of the text of every row first; this column has them already.
        return Q(search_text__contains=Upper(Value(word)))
    return Q(search_text__icontains=word)


class SearchedAdmin(PolicyAdmin):
    """A list of rows that have a ``search_text``."""

    search_fields = ("search_text",)

    def found(self, request: HttpRequest, word: str, rows: QuerySet[Any]) -> Q:
        """Return the condition that a word leads to a row."""
        return contains(word, rows)

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[QuerySet[Any], bool]:
        for word in words(search_term):
            queryset = queryset.filter(self.found(request, word, queryset))
        return queryset, False

    def get_paginator(self, request: HttpRequest, queryset: Any, per_page: int, *args: Any, **kwargs: Any) -> Any:
        first_page_of_a_search = request.GET.get("q") and not {"p", "all"} & request.GET.keys()
        paginator = FirstPage if first_page_of_a_search else Paginator
        return paginator(queryset, per_page, *args, **kwargs)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changes = super().get_changelist_instance(request)
        if isinstance(changes.paginator, FirstPage):
            order = {pk: place for place, pk in enumerate(changes.paginator.pks)}
            rows = changes.apply_select_related(changes.root_queryset.filter(pk__in=order))
            changes.result_list = sorted(rows, key=lambda row: order[row.pk])
        return changes


class FirstPage(Paginator):  # type: ignore[type-arg]
    """Counts what was found and says which rows are on the first page, in one pass over all there are.

    Nothing helps a database to find letters in the middle of a text, so what it costs to search is a look at every row.
    """

    @cached_property
    def _looked(self) -> list[tuple[Any, int]]:
        rows: Any = self.object_list
        every = rows.annotate(of=Window(Count("*"))).values_list("pk", "of")
        return list(every[: self.per_page])

    @cached_property
    def count(self) -> int:
        return self._looked[0][1] if self._looked else 0

    @property
    def pks(self) -> list[Any]:
        """The primary keys on the first page, in order."""
        return [pk for pk, _of in self._looked]
