"""A plan lists what a run would do, and writes nothing."""

from sync_defs import plan_sync


def test_a_plan_lists_every_kind_of_change_and_writes_nothing(world):
    job = world.job(on_missing="delete")
    world.records = [{"sku": "A", "quantity": 1}, {"sku": "B", "quantity": 2}, {"sku": "C", "quantity": 3}]
    world.sync(job)
    before = world.rows()
    world.records = [{"sku": "A", "quantity": 1}, {"sku": "B", "quantity": 20}, {"sku": "N", "quantity": 4}]
    plan = plan_sync(job, database=world.database, resources={"source": world.source}, full=True)
    assert {(change.external_id, str(change.action)) for change in plan.changes} == {
        ("B", "updated"),
        ("C", "deleted"),
        ("N", "created"),
    }
    assert plan.is_complete
    frame = plan.to_frame()
    stock = frame[(frame["external_id"] == "B") & (frame["field"] == "stock")]
    assert stock[["action", "old", "new"]].to_numpy().tolist() == [["updated", "2", "20"]]
    assert world.rows() == before


def test_a_plan_is_bounded_and_says_so(table_world):
    table_world.records = [{"sku": f"S{number}", "quantity": number} for number in range(30)]
    plan = plan_sync(
        table_world.job(), database=table_world.database, resources={"source": table_world.source}, limit=10
    )
    assert (len(plan.changes), plan.is_complete, plan.results.created) == (10, False, 30)
