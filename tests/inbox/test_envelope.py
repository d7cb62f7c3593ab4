"""From a body to items, and from a queue row's payload back to one record."""

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import pydantic
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from sync_defs.errors import MessageError, RecordError
from sync_defs.fields import Deletion
from sync_defs.inbox import MessageItem, read_item, read_message
from sync_defs.inbox.envelope import MAX_ITEMS, external_id_of
from sync_defs.job import SyncJob, TableSync

START = datetime(2026, 11, 23, 18, tzinfo=UTC)


def read(job, body):
    return read_message(job, message_id="m1", body=body, now=START)


def test_one_item_keeps_the_original_bytes(job):
    body = b'{ "data" : {"id": 7, "name": "x", "updated_at": "2026-11-23T10:00:00+01:00"} }'
    expected = MessageItem(external_id="7", payload=body, version="t:2026-11-23T09:00:00+00:00")
    assert read(job, body).items == (expected,)
    assert read_item(job, body) == {"id": 7, "name": "x", "updated_at": "2026-11-23T10:00:00+01:00"}


def test_each_of_several_items_is_readable_by_itself(job):
    body = b'{"type": "x", "data": [{"id": "A", "price": 1.10}, {"id": "B"}]}'
    items = read(job, body).items
    assert [item.external_id for item in items] == ["A", "B"]
    assert [read_item(job, item.payload) for item in items] == [{"id": "A", "price": Decimal("1.10")}, {"id": "B"}]


def test_deletions_stay_deletions(job):
    [one] = read(job, b'{"type": "item.deleted", "data": {"id": "A"}}').items
    assert read_item(job, one.payload) == Deletion(external_id="A", record={"id": "A"})
    several = read(job, b'{"type": "item.deleted", "data": [{"id": "A", "updated_at": 3}, {"id": 2}]}').items
    assert [item.version for item in several] == ["n:3", None]
    assert [read_item(job, item.payload) for item in several] == [
        Deletion(external_id="A", record={"id": "A", "updated_at": 3}),
        Deletion(external_id=2, record={"id": 2}),
    ]


def test_one_bad_item_leaves_the_others_usable(job):
    items = read(job, b'{"data": [{"id": "A"}, {"id": true}, {}]}').items
    assert [(item.external_id, item.code) for item in items] == [
        ("A", None),
        (None, "bad_external_id_type"),
        (None, "external_id_missing"),
    ]


@pytest.mark.parametrize("body", [b'{"data": []}', b'{"data": "x"}', b'{"data": [1]}', b"[]", b"3", b'{"data": null}'])
def test_without_an_id_it_is_unusable_with_its_bytes_kept(job, body):
    [item] = read(job, body).items
    assert (item.external_id, item.payload, item.code) == (None, body, "external_id_missing")


def test_too_many_items_are_one_dead_letter(job):
    body = json.dumps({"data": [{"id": n} for n in range(MAX_ITEMS + 1)]}).encode()
    assert [item.code for item in read(job, body).items] == ["too_many_items"]


@given(st.binary(max_size=100) | st.text(max_size=100).map(lambda text: json.dumps(text).encode()))
def test_reading_raises_nothing(body):
    assert read(Customers(), body).items


@dataclass
class Customer:
    number: str


class Customers(SyncJob[Customer, object]):
    """A job that makes objects of its own out of messages, which cannot be stored as JSON."""

    name = "customers"

    def fetch_external(self):
        return []

    def get_external_id(self, record):
        return record.number

    def extract_items(self, payload):
        return (Customer(number=number) for number in payload["numbers"])

    def get_version(self, record):
        return int(record.number)

    def find_local(self, session, external_id):
        return None

    def create(self, session, record):
        raise NotImplementedError

    def update(self, session, row, record):
        raise NotImplementedError


class Contact(pydantic.BaseModel):
    number: str = pydantic.Field(alias="contactNumber")
    version: int


class Contacts(Customers):
    """Messages as the default takes them apart; callbacks read attributes."""

    record_type = Contact

    def extract_items(self, payload):
        return SyncJob.extract_items(self, payload)

    def get_version(self, record):
        return record.version


@pytest.mark.parametrize("kind", ["contact.updated", "contact.deleted"])
def test_a_record_type_tells_id_and_version_on_arrival(kind):
    data = [{"contactNumber": "A", "version": 1}, {"contactNumber": "B", "version": 2}]
    for sent in (data[0], data):
        items = read(Contacts(), json.dumps({"type": kind, "data": sent}).encode()).items
        expected = [("A", "n:1", None), ("B", "n:2", None)][: len(items)]
        assert [(item.external_id, item.version, item.code) for item in items] == expected
        kept = [read_item(Contacts(), item.payload) for item in items]
        assert kept == [Deletion(record=one) if kind.endswith("deleted") else one for one in data[: len(items)]]


def test_what_does_not_fit_the_record_type_is_a_dead_letter():
    [item] = read(Contacts(), b'{"data": {"contactNumber": "A", "version": "new"}}').items
    assert (item.external_id, item.code) == (None, "external_id_missing")


def test_items_that_are_not_json_are_found_again_by_position():
    items = read(Customers(), b'{"numbers": ["10", "11"]}').items
    assert [(item.external_id, item.version) for item in items] == [("10", "n:10"), ("11", "n:11")]
    assert [read_item(Customers(), item.payload) for item in items] == [Customer("10"), Customer("11")]


def test_items_that_are_not_json_may_not_multiply_a_large_body():
    body = json.dumps({"numbers": [str(n) for n in range(9_999)]}).encode()
    assert [item.code for item in read(Customers(), body).items] == ["too_many_items"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MessageError("no", code="not_mine"), "not_mine"),
        (MessageError("a\0b\ud800", code="x" * 100), "x" * 64),
        (RecordError("no", code="missing_field"), "external_id_missing"),
        (RecordError("no", code="number_too_long"), "number_too_long"),
        (ZeroDivisionError("a secret value"), "bad_payload"),
    ],
)
def test_a_job_that_fails_on_a_message_makes_it_a_dead_letter(error, code):
    class Failing(Customers):
        def extract_items(self, payload):
            raise error

    [item] = read(Failing(), b"{}").items
    assert item.code == code
    assert item.error is not None
    assert "secret" not in item.error
    assert "\0" not in item.error


def test_a_version_that_cannot_be_read_is_no_version():
    assert [item.version for item in read(Customers(), b'{"numbers": ["x"]}').items] == [None]


@pytest.mark.parametrize(
    "payload",
    [b"\x00\x01", b"", b"\x1e", b"\x1e[]", b'\x1e{"index": 5, "message": "{}"}', b'{"data": [{"id": 1}, {"id": 2}]}'],
)
def test_a_corrupted_payload_is_a_message_error(job, payload):
    with pytest.raises(MessageError):
        read_item(job, payload)


def test_payloads_do_not_show_in_a_repr(job):
    assert "geheim" not in repr(read(job, b'{"data": {"id": 1, "name": "geheim"}}'))


def test_convert_is_applied_to_the_version():
    from sync_defs.fields import Field
    from sync_defs.job import table_sync

    target = sa.Table("t", sa.MetaData(), sa.Column("id", sa.String(9), primary_key=True), sa.Column("at", sa.Integer))

    @table_sync(target=target, key="id", fields={"at": Field(source="v", convert=lambda v: v["n"])}, version="v")
    def erp():
        return []

    [item] = read(erp, b'{"data": {"id": "A", "v": {"n": 5}}}').items
    assert item.version == "n:5"


@pytest.mark.parametrize(
    ("kind", "spellings", "text"),
    [
        (sa.Integer(), [7, "7", "007"], "7"),
        (sa.Uuid(), ["0D8E1BC2-0000-4000-8000-0000000000AB", "0d8e1bc2-0000-4000-8000-0000000000ab"], None),
        (sa.Integer(), ["seven"], "seven"),
        (sa.String(9), ["007"], "007"),
    ],
)
def test_all_spellings_of_an_id_are_one_row_of_the_queue(kind, spellings, text):
    """An older message would else wait, and come after a newer one for the same row."""
    table = sa.Table("items", sa.MetaData(), sa.Column("id", kind, primary_key=True), sa.Column("name", sa.String(9)))
    job = TableSync(list, name="items", target=table, key="id", fields={"name": "name"})
    ids = {external_id_of(job, {"id": spelling}) for spelling in spellings}
    ids |= {external_id_of(job, Deletion(external_id=spelling)) for spelling in spellings}
    assert ids == {text or str(uuid.UUID(spellings[0]))}
