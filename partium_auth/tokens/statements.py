"""Query sets that are compiled to SQL once per database: composing one costs more than running it."""

from __future__ import annotations

import datetime as dt
from typing import Any, NamedTuple

from django.db import connections, models
from django.db.models import Expression, QuerySet


class Parameter(Expression):
    """A value that is given when the compiled statement runs.

    Args:
        name: under which :meth:`Statement.run` gets it.
        field: what converts the value for the database.
        earlier: is subtracted from the value.
    """

    def __init__(self, name: str, field: models.Field[Any, Any], earlier: dt.timedelta | None = None) -> None:
        super().__init__(output_field=field)
        self.name, self.earlier = name, earlier

    def __sub__(self, other: Any) -> Any:
        return Parameter(self.name, self.output_field, other)

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        return "%s", [self]

    def prepared(self, value: Any, connection: Any) -> Any:
        if value is None:
            return None
        value = value if self.earlier is None else value - self.earlier
        return self.output_field.get_db_prep_value(value, connection)


class Statement(NamedTuple):
    """A compiled query set."""

    text: str
    parameters: tuple[Any, ...]
    columns: int
    converters: dict[int, Any]

    def run(self, alias: str, **values: Any) -> list[tuple[Any, ...]]:
        """Return the rows, with the values that the ORM would return."""
        connection = connections[alias]  # asked for again: a connection is its thread's, and a statement outlives it
        parameters = [
            p.prepared(values[p.name], connection) if isinstance(p, Parameter) else p for p in self.parameters
        ]
        with connection.cursor() as cursor:
            cursor.execute(self.text, parameters)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
        return [self._converted(row, connection) for row in rows]

    def _converted(self, row: tuple[Any, ...], connection: Any) -> tuple[Any, ...]:
        values = list(row)
        for position, (converters, expression) in self.converters.items():
            for convert in converters:
                values[position] = convert(values[position], expression, connection)
        return tuple(values)


def compiled(rows: QuerySet[Any, Any], alias: str) -> Statement:
    """Compile the query set of a ``values_list()``, with :class:`Parameter` in the place of what changes."""
    compiler = rows.query.get_compiler(alias)
    text, parameters = compiler.as_sql()
    expressions = [expression for expression, _sql, _alias in compiler.select]
    return Statement(text, tuple(parameters), len(expressions), compiler.get_converters(expressions))


def side_by_side(first: Statement, second: Statement) -> Statement:
    """Return the statement of two that return at most one row each; no row where the first has none."""
    moved = {first.columns + position: converters for position, converters in second.converters.items()}
    return Statement(
        f"SELECT a.*, b.* FROM ({first.text}) a LEFT JOIN ({second.text}) b ON 1 = 1",  # noqa: S608  # both are the ORM's
        (*first.parameters, *second.parameters),
        first.columns + second.columns,
        {**first.converters, **moved},
    )
