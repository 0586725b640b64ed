"""Everything that is stored, as plain JSON: to be put back as another version of the code left it."""

import base64
import copy
import json
from typing import Any, NamedTuple

from boto3.dynamodb.types import Binary
from moto.dynamodb.models import dynamodb_backends
from moto.s3.models import s3_backends
from tests.integration.flows import Story, tables

from gjeldsbro.adapters import aws as aws_clients

Snapshot = dict[str, dict[str, Any]]
"""By area (the tables, ``objects``, ``folder``): what is stored under which key."""


def snapshot(story: Story) -> Snapshot:
    """What is stored now; expiry times are left out."""
    found: Snapshot = {}
    for table in tables(story.environment):
        items = aws_clients.dynamodb().scan(TableName=table)["Items"]
        found[table] = {f"{item['pk']['S']} {item['sk']['S']}": _plain_item(item) for item in items}
    found["objects"] = {key: _plain(story.store.get(key)) for key in story.store.keys("")}
    found["folder"] = {name: _plain(data) for name, data in story.folder.content.items()}
    return found


def restore(story: Story, changes: Snapshot) -> None:
    """Store what ``changes`` holds, and delete what is None in it."""
    client = aws_clients.dynamodb()
    for table in tables(story.environment):
        for key, item in changes.get(table, {}).items():
            pk, _, sk = key.partition(" ")
            if item is None:
                client.delete_item(TableName=table, Key={"pk": {"S": pk}, "sk": {"S": sk}})
            else:
                client.put_item(TableName=table, Item=_stored_item(item))
    objects = changes.get("objects", {})
    story.store.delete([key for key, data in objects.items() if data is None])
    for key, data in objects.items():
        if data is not None:
            story.store.put(key, _stored(data))
    for name, data in changes.get("folder", {}).items():
        story.folder.content.pop(name, None)
        if data is not None:
            story.folder.content[name] = _stored(data)


class Copy(NamedTuple):
    """All stores as they were, kept in moto's own form: to be put back many times in little time."""

    tables: dict[str, Any]
    objects: Any
    folder: dict[str, bytes]


def keep(story: Story) -> Copy:
    """A copy of everything that is stored now."""
    held = _moto_tables()
    return Copy(
        {table: copy.deepcopy(held[table].items) for table in tables(story.environment)},
        copy.deepcopy(_moto_bucket(story).keys),
        dict(story.folder.content),
    )


def put_back(story: Story, kept: Copy) -> None:
    """Everything as it was when it was kept, and processes that know nothing."""
    held = _moto_tables()
    for table, items in kept.tables.items():
        held[table].items = copy.deepcopy(items)
    _moto_bucket(story).keys = copy.deepcopy(kept.objects)
    story.folder.content = dict(kept.folder)
    story.forget_processes()


def _moto_tables() -> dict[str, Any]:
    found: dict[str, Any] = dynamodb_backends["123456789012"]["eu-north-1"].tables
    return found


def _moto_bucket(story: Story) -> Any:
    return s3_backends["123456789012"]["aws"].buckets[story.environment["DATA_BUCKET"]]


def difference(before: Snapshot, after: Snapshot) -> Snapshot:
    """What changed: new values, None for what is gone."""
    found: Snapshot = {}
    for area in before | after:
        old, new = before.get(area, {}), after.get(area, {})
        changed = {key: new.get(key) for key in sorted(old | new) if old.get(key) != new.get(key)}
        if changed:
            found[area] = changed
    return found


def _plain_item(item: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(item, default=_binary))
    return {name: value for name, value in plain.items() if name != "expires"}


def _binary(value: Any) -> str:
    assert isinstance(value, bytes | Binary)
    return base64.b64encode(bytes(value)).decode()


def _stored_item(item: dict[str, Any]) -> dict[str, Any]:
    return {name: _stored_attribute(value) for name, value in item.items()}


def _stored_attribute(attribute: dict[str, Any]) -> dict[str, Any]:
    ((kind, value),) = attribute.items()
    match kind:
        case "B":
            return {kind: base64.b64decode(value)}
        case "M":
            return {kind: _stored_item(value)}
        case "L":
            return {kind: [_stored_attribute(one) for one in value]}
        case _:
            return attribute


def _plain(data: bytes) -> dict[str, Any]:
    try:
        return {"json": json.loads(data)} if data[:1] in (b"{", b"[") else {"text": data.decode("ascii")}
    except ValueError:
        return {"base64": base64.b64encode(data).decode()}


def _stored(plain: dict[str, Any]) -> bytes:
    ((form, value),) = plain.items()
    match form:
        case "json":
            return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        case "text":
            return str(value).encode("ascii")
        case _:
            return base64.b64decode(value)
