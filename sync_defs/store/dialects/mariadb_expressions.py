"""Expressions that MariaDB and MySQL write in ways of their own."""

from typing import Any

from sqlalchemy import cast, func, types
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.functions import FunctionElement

from sync_defs.store.dialects.mariadb_types import collation_of


class Exact(FunctionElement[Any]):
    """A text in the collation that tells all texts apart."""

    inherit_cache = True
    name = "exact"

    def __init__(self, staged: ColumnElement[Any]) -> None:
        super().__init__(staged)
        self.type = staged.type


class JsonDiffers(FunctionElement[bool]):
    """Whether two JSON values are different ones, however they are written."""

    inherit_cache = True
    name = "json_differs"
    type = types.Boolean()


class JsonPart(FunctionElement[Any]):
    """A text or JSON value as a part of a JSON object; parts of several collations are refused."""

    inherit_cache = True
    name = "json_part"


@compiles(JsonPart)
def _compile_json_part(element: JsonPart, compiler: Any, **kw: Any) -> str:
    part = element.clauses.clauses[0]
    is_json, value = isinstance(part.type, types.JSON), compiler.process(part, **kw)
    if is_json and not compiler.dialect.is_mariadb:
        return str(value)
    exact = f"CONVERT({value} USING utf8mb4) COLLATE {collation_of(compiler.dialect)}"
    return f"JSON_COMPACT({exact})" if is_json else exact


@compiles(Exact)
def _compile_exact(element: Exact, compiler: Any, **kw: Any) -> str:
    return f"{compiler.process(element.clauses.clauses[0], **kw)} COLLATE {collation_of(compiler.dialect)}"


@compiles(JsonDiffers)
def _compile_json_differs(element: JsonDiffers, compiler: Any, **kw: Any) -> str:
    staged, held = (compiler.process(part, **kw) for part in element.clauses.clauses)
    differs = f"NOT ({staged} <=> {held})"
    if compiler.dialect.is_mariadb:
        # JSON is LONGTEXT here. The comparison is exact: it normalises the digits of numbers, not their doubles.
        differs = f"{differs} AND NOT COALESCE(JSON_EQUALS({staged}, {held}), 0)"
    return f"({differs})"


def is_text(kind: Any) -> bool:
    """Tell whether a type is text, an enumeration included."""
    while isinstance(kind, types.TypeDecorator):
        kind = kind.impl_instance
    return isinstance(kind, types.String)


def json_value(value: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a value that JSON can hold: bytes as digits, as PostgreSQL writes them."""
    if isinstance(value.type, types.LargeBinary):
        return func.concat("\\x", func.lower(func.hex(value)))
    if isinstance(value.type, types.JSON) or is_text(value.type):
        return JsonPart(value)
    return cast(value, types.String(36)) if isinstance(value.type, types.Uuid) else value
