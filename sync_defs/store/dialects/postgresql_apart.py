"""The block of PL/pgSQL that writes a range of a stage without the records that a constraint refuses."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Select, Table, func, literal_column, select, update

from sync_defs.results import Outcome
from sync_defs.store.dialects.ranges import HIGH, LOW, as_sent

RECORD_CLASSES = ("22", "23", "44", "P0")
"""Classes of SQLSTATE that one record can cause, in the block too; everything else is the database's trouble."""
_WRITTEN = "sync_defs.written"
# One loop, three sizes: 1,000, of a failing chunk 25, of these 1. Every subtransaction costs, and so does every row
# that is written in vain: of 1,000 rows of which 10 are bad, 40 + 250 attempts write 2,000.
#
# A plan is made once and has to find rows by their keys, whatever the tables grow to meanwhile; with the bounds known,
# the planner would make one for every range, and for a chunk it would read the whole target.
_BLOCK = """DO {quote}
DECLARE
    sync_defs_names text[] := ARRAY['plan_cache_mode', 'enable_hashjoin', 'enable_mergejoin', 'enable_seqscan', 'jit'];
    sync_defs_values text[] := ARRAY['force_generic_plan', 'off', 'off', 'off', 'off'];
    sync_defs_before text[];
    sync_defs_first bigint := {low};
    sync_defs_last bigint := {high};
    sync_defs_size bigint := 1000;
    sync_defs_low bigint := sync_defs_first;
    sync_defs_high bigint;
    sync_defs_part bigint;
    sync_defs_written bigint := 0;
    sync_defs_state text;
    sync_defs_column text;
    sync_defs_constraint text;
BEGIN
    FOR number IN 1 .. cardinality(sync_defs_names) LOOP
        sync_defs_before[number] := current_setting(sync_defs_names[number]);
        PERFORM set_config(sync_defs_names[number], sync_defs_values[number], true);
    END LOOP;
    WHILE sync_defs_low <= sync_defs_last LOOP
        sync_defs_high := least(sync_defs_low + sync_defs_size - 1, sync_defs_last);
        BEGIN
            {statement} INTO sync_defs_part;
            sync_defs_written := sync_defs_written + sync_defs_part;
            sync_defs_low := sync_defs_high + 1;
        EXCEPTION WHEN OTHERS OR ASSERT_FAILURE THEN
            GET STACKED DIAGNOSTICS
                sync_defs_state = RETURNED_SQLSTATE,
                sync_defs_column = COLUMN_NAME,
                sync_defs_constraint = CONSTRAINT_NAME;
            IF NOT left(sync_defs_state, 2) = ANY ('{{22, 23, 44, P0}}') THEN
                RAISE;
            ELSIF sync_defs_size > 1 THEN
                sync_defs_size := CASE sync_defs_size WHEN 1000 THEN 25 ELSE 1 END;
                CONTINUE;
            END IF;
            {note};
            sync_defs_low := sync_defs_low + 1;
        END;
        IF (sync_defs_low - sync_defs_first) % 1000 = 0 THEN
            sync_defs_size := 1000;
        ELSIF (sync_defs_low - sync_defs_first) % 25 = 0 THEN
            sync_defs_size := 25;
        END IF;
    END LOOP;
    FOR number IN 1 .. cardinality(sync_defs_names) LOOP
        PERFORM set_config(sync_defs_names[number], sync_defs_before[number], true);
    END LOOP;
    PERFORM set_config('sync_defs.written', sync_defs_written::text, true);
END
{quote}"""


def counting(statements: Sequence[Any]) -> Select[Any]:
    """Return the query that executes statements, and counts what RETURNING returns of the last one."""
    *others, write = statements
    written = write.returning(literal_column("1").label("one")).cte("written")
    counted = select(func.count()).select_from(written)
    return counted.add_cte(*[other.cte(f"other_{number}") for number, other in enumerate(others)])


def write_apart(
    connection: Connection, stage: Table, statements: Sequence[Any], values: Mapping[str, Any], low: int, high: int
) -> tuple[int, list[tuple[int, str, str | None, str | None]]]:
    """Return how many rows were written, and of each record refused its number, SQLSTATE, column and constraint."""
    block = _BLOCK.format(
        # No value can hold what is drawn now.
        quote=f"$sync_defs_{uuid4().hex}$",
        statement=_written_out(connection, _counted(statements), values),
        note=_written_out(connection, _note(stage), {}),
        low=int(low),
        high=int(high),
    )
    connection.exec_driver_sql(block, execution_options={"no_parameters": True})
    found = connection.execute(
        select(stage.c.seq, stage.c.code, stage.c.field, stage.c.reason)
        .where(stage.c.seq.between(low, high), stage.c.code.is_not(None))
        .where(stage.c.action != Outcome.REJECTED.value)
        .order_by(stage.c.seq)
    )
    written = connection.execute(select(func.current_setting(_WRITTEN))).scalar_one()
    return int(written), [(seq, state, column, constraint) for seq, state, column, constraint in found]


def _note(stage: Table) -> Any:
    """Return what keeps a refusal in the stage, for the client to put into words."""
    names = {"code": "sync_defs_state", "field": "sync_defs_column", "reason": "sync_defs_constraint"}
    found = {name: func.nullif(func.left(literal_column(variable), 255), "") for name, variable in names.items()}
    return update(stage).where(stage.c.seq == literal_column("sync_defs_low")).values(found)


def _counted(statements: Sequence[Any]) -> Select[Any]:
    [statement] = statements
    return statement if statement.is_select else counting([statement])


def _written_out(connection: Connection, statement: Any, bound: Mapping[str, Any]) -> str:
    """Return a statement with its values in it, as the driver quotes them, and with the block's variables as bounds."""
    from psycopg import ClientCursor  # not for what never gets here

    text, values = as_sent(connection, statement, {**bound, LOW: 0, HIGH: 0})
    for name, variable in ((LOW, "sync_defs_low"), (HIGH, "sync_defs_high")):
        text = text.replace(f"%({name})s", variable)
    driver: Any = connection.connection.driver_connection
    return ClientCursor(driver).mogrify(text.encode(driver.info.encoding), values)
