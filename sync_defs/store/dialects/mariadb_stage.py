"""The columns of a stage on MariaDB and MySQL: they hold any value, and lose of it what the target loses.

A target that somebody else made may keep whole seconds, or floats of 7 digits. If the stage kept more, such a row
would differ for ever. So its columns have the target's precision as the server reports it, and the target's
collation, so that both can be joined by their indexes.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Column, Connection, String, Table, select, table, types
from sqlalchemy import column as column_

from sync_defs.store.dialects.mariadb_types import collation_of

_FACTS = (
    "table_schema",
    "table_name",
    "column_name",
    "column_type",
    "data_type",
    "datetime_precision",
    "numeric_scale",
    "character_set_name",
    "collation_name",
)
_HELD: Any = table("columns", *[column_(name, types.String()) for name in _FACTS], schema="information_schema")
_SPELLED: dict[str, Callable[[Any], str]] = {
    "datetime": lambda held: f"DATETIME({held.datetime_precision or 0})",
    "timestamp": lambda held: f"DATETIME({held.datetime_precision or 0})",
    "time": lambda held: f"TIME({held.datetime_precision or 0})",
    "decimal": lambda held: f"DECIMAL(65, {held.numeric_scale})",
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "bigint", "year"), lambda _: "BIGINT"),
    **dict.fromkeys(("varbinary", "tinyblob", "blob", "mediumblob", "longblob"), lambda _: "LONGBLOB"),
}
_LONGEST_INLINE = 255
"""Longer texts are LONGTEXT, so that a wide target's stage does not go over the size of a row."""


def create_statement(connection: Connection, stage: Table, target: Sequence[Column[Any]], *, is_temporary: bool) -> str:
    """Return the CREATE TABLE of a stage; a temporary one has its indexes, which cannot be added without a commit."""
    quote = connection.dialect.identifier_preparer.quote
    collation = collation_of(connection.dialect)
    held = _held(connection, target)
    lines: list[str] = []
    for name, column in stage.columns.items():
        source = target[int(name[1:])] if name[0] == "v" and name[1:].isdigit() else None
        kind = (
            connection.dialect.type_compiler_instance.process(
                column.type.dialect_impl(connection.dialect), type_expression=column
            )
            if source is None
            else _spelled(source, held.get(source.name), connection.dialect, is_key=name == "v0")
        )
        lines.append(f"{quote(name)} {kind}")
    lines.append("PRIMARY KEY (seq)")
    if is_temporary:
        lines += [f"KEY ({name})" for name in ("external_id", "v0") if name in stage.columns]
    words = "CREATE TEMPORARY TABLE" if is_temporary else "CREATE TABLE"
    options = f"ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {collation}"
    return f"{words} {quote(stage.name)} ({', '.join(lines)}) {options}"


def _held(connection: Connection, target: Sequence[Column[Any]]) -> dict[str, Any]:
    if not target:
        return {}
    found: Any = target[0].table
    c = _HELD.c
    database = found.schema or connection.exec_driver_sql("SELECT DATABASE()").scalar_one()
    rows = connection.execute(select(_HELD).where(c.table_schema == database, c.table_name == found.name))
    return {row.column_name: row for row in rows}


def _spelled(source: Column[Any], held: Any, dialect: Any, *, is_key: bool) -> str:
    if held is None:
        return str(dialect.type_compiler_instance.process(source.type.dialect_impl(dialect), type_expression=source))
    data_type = str(held.data_type).lower()
    if data_type in _SPELLED:
        return _SPELLED[data_type](held)
    if held.character_set_name is not None:
        return _text(source.type, held, data_type, dialect, is_key=is_key)
    return str(held.column_type).replace("%", "%%")


def _text(kind: Any, held: Any, data_type: str, dialect: Any, *, is_key: bool) -> str:
    length = getattr(kind, "length", None) if isinstance(kind, String) else None
    if isinstance(kind, types.Uuid):
        length = 36
    if is_key:
        length = min(length or _LONGEST_INLINE, _LONGEST_INLINE)
    if length is None or length > _LONGEST_INLINE:
        sized = "LONGTEXT"
    else:
        # CHAR forgets the blanks at its end, here as there.
        sized = f"{'CHAR' if data_type == 'char' else 'VARCHAR'}({length})"
    collation = held.collation_name if held.character_set_name == "utf8mb4" else collation_of(dialect)
    return f"{sized} CHARACTER SET utf8mb4 COLLATE {collation}"
