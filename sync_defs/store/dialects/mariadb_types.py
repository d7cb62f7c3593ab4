"""What a generic SQLAlchemy type is on MariaDB and MySQL, so that a table made here holds every value exactly.

SQLAlchemy's own choice loses values without a word: DATETIME and TIME drop microseconds, FLOAT has 7 digits, NUMERIC
has no fraction, TEXT and BLOB end at 64 KB, and the usual collations take 'a' for 'A'. A type of SQLAlchemy's own
MySQL dialect, such as `mysql.DATETIME(fsp=3)`, and a collation that is given, stay as they are.
"""

from typing import Any

from sqlalchemy import types
from sqlalchemy.dialects.mysql.base import MySQLTypeCompiler

MARIADB_COLLATION = "utf8mb4_nopad_bin"
MYSQL_COLLATION = "utf8mb4_0900_bin"
_MOST_VARBINARY = 65_535
_SINGLE_BITS = 24


def collation_of(dialect: Any) -> str:
    """Return the collation that tells all texts apart, blanks at the end included, by SQLAlchemy's dialect."""
    return MARIADB_COLLATION if dialect.is_mariadb else MYSQL_COLLATION


class ExactTypes(MySQLTypeCompiler):
    """Renders generic types of columns so that they keep what they are given."""

    def visit_DATETIME(self, type_: Any, **kw: Any) -> str:
        """Return DATETIME with microseconds."""
        return super().visit_DATETIME(type_, **kw) if _is_given(type_, kw) else "DATETIME(6)"

    def visit_TIME(self, type_: Any, **kw: Any) -> str:
        """Return TIME with microseconds."""
        return super().visit_TIME(type_, **kw) if _is_given(type_, kw) else "TIME(6)"

    def visit_FLOAT(self, type_: Any, **kw: Any) -> str:
        """Return DOUBLE, unless few bits are asked for."""
        if _is_given(type_, kw) or (type_.precision is not None and type_.precision <= _SINGLE_BITS):
            return super().visit_FLOAT(type_, **kw)
        return "DOUBLE"

    def visit_NUMERIC(self, type_: Any, **kw: Any) -> str:
        """Return as many digits as there can be where no number is given."""
        is_sized = type_.precision is not None or _is_given(type_, kw)
        return super().visit_NUMERIC(type_, **kw) if is_sized else "NUMERIC(65, 30)"

    def visit_TEXT(self, type_: Any, **kw: Any) -> str:
        """Return LONGTEXT, unless a length is given."""
        return self._exact_text(super().visit_TEXT(type_, **kw) if type_.length else "LONGTEXT", type_, kw)

    def visit_VARCHAR(self, type_: Any, **kw: Any) -> str:
        """Return LONGTEXT where no length is given, as other databases do."""
        return self._exact_text(super().visit_VARCHAR(type_, **kw) if type_.length else "LONGTEXT", type_, kw)

    def visit_CHAR(self, type_: Any, **kw: Any) -> str:
        """Return CHAR, in the exact collation for a column."""
        return self._exact_text(super().visit_CHAR(type_, **kw), type_, kw)

    def visit_enum(self, type_: Any, **kw: Any) -> str:
        """Return ENUM, in the exact collation."""
        return self._exact_text(super().visit_enum(type_, **kw), type_, kw)

    def visit_ENUM(self, type_: Any, **kw: Any) -> str:
        """Return ENUM, in the exact collation."""
        return self._exact_text(super().visit_ENUM(type_, **kw), type_, kw)

    def visit_large_binary(self, type_: Any, **kw: Any) -> str:
        """Return VARBINARY, which can be a key, or LONGBLOB."""
        return f"VARBINARY({type_.length})" if type_.length and type_.length <= _MOST_VARBINARY else "LONGBLOB"

    def _exact_text(self, rendered: str, type_: Any, kw: dict[str, Any]) -> str:
        # CAST has no column, and takes no collation.
        if "type_expression" not in kw or _is_given(type_, kw) or "COLLATE" in rendered:
            return rendered
        return f"{rendered} CHARACTER SET utf8mb4 COLLATE {collation_of(self.dialect)}"


def _is_given(type_: Any, kw: dict[str, Any]) -> bool:
    """Tell whether the user chose a type of this database, not a generic one that SQLAlchemy adapted to it."""
    kind: Any = getattr(kw.get("type_expression"), "type", type_)
    while isinstance(kind, types.TypeDecorator):
        kind = kind.impl_instance
    return type(kind).__module__.startswith("sqlalchemy.dialects.")
