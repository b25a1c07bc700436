"""Proves that texts of errors hold no data of events, and nothing of a password."""

from __future__ import annotations

import logging

from collections.abc import Generator
from typing import Any

import pytest

from adapters.mongodb.tests.conftest import FAILING
from adapters.mongodb.tests.servers import with_options
from bson.errors import InvalidBSON
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError, DocumentTooLarge, OperationFailure, WriteError

from eventport import (
    ConfigurationError,
    CorruptEventError,
    EventportError,
    InvalidEventError,
    NewEvent,
)

from eventport_mongodb import MongoDBEventStore
from eventport_mongodb.driver import DriverName, make_client
from eventport_mongodb.translation import (
    describe,
    inserted_count,
    is_outcome_unknown,
    translate,
)


Raw = AsyncCollection[dict[str, Any]]

SECRET = "ada.lovelace@example.org"


def texts(error: EventportError) -> str:
    return f"{error} {error!r}"


async def test_what_a_validator_refuses_is_not_quoted(store: MongoDBEventStore, raw: Raw) -> None:
    validator = {"stream": {"$ne": "refused"}}
    await raw.database.command({"collMod": raw.name, "validator": validator})
    with pytest.raises(InvalidEventError, match="validator") as caught:
        await store.append("refused", [NewEvent("Registered", {"email": SECRET})])
    assert SECRET not in texts(caught.value)
    with pytest.raises(InvalidEventError) as lost:  # noqa: PT012  # the end of the block raises
        async with store.session() as session:
            await session.append("refused", [NewEvent("Registered", {"email": SECRET})])
            await session.append("b", [NewEvent("Registered", {"email": SECRET})])
    assert SECRET not in texts(lost.value)


async def test_a_document_of_somebody_else_is_not_quoted(
    store: MongoDBEventStore, raw: Raw
) -> None:
    events = [{"id": SECRET, "type": "T", "data": SECRET, "metadata": SECRET}]
    await raw.insert_one(
        {"_id": 1, "stream": "s", "version": 1, "count": 1, "at": SECRET, "events": events}
    )
    for read in (store.read("s"), store.read_all()):
        with pytest.raises(CorruptEventError, match="document 1 of stream 's'") as caught:
            await read
        assert SECRET not in texts(caught.value)


@pytest.mark.parametrize("code", [2, 96, 121, 10334, 13, 91, 112])
def test_nothing_that_the_server_or_the_driver_says_is_quoted(code: int) -> None:
    details = {
        "ok": 0,
        "code": code,
        "codeName": "Name",
        "errmsg": SECRET,
        "writeErrors": [{"index": 0, "code": code, "errmsg": SECRET, "op": {"data": SECRET}}],
        "nInserted": 0,
    }
    errors: list[Exception] = [
        OperationFailure(SECRET, code, details),
        WriteError(SECRET, code, details),
        BulkWriteError(details),
        DocumentTooLarge(SECRET),
        InvalidBSON(SECRET),
    ]
    for error in errors:
        assert SECRET not in texts(translate(error, "shop.events"))
        assert SECRET not in describe(error)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Generator[list[str], None, None]:
    with caplog.at_level(logging.DEBUG, logger="eventport"):
        yield caplog.messages


async def test_the_log_does_not_quote_the_server(
    url: str, fail: Any, lines: list[str], driver: DriverName
) -> None:
    place = with_options(url, appName=FAILING)
    async with await MongoDBEventStore.connect(place, driver=driver, timeout=2) as store:
        await store.append("s", [NewEvent("E", 1)])
        await fail(["aggregate"], 1, errorCode=96)
        async with store.subscribe() as subscription:
            await anext(subscription)
            await store.append("s", [NewEvent("E", 2)])
            await anext(subscription)
    assert not any("failpoint" in line for line in lines)


PASSWORDS = [
    "Hunter2/x",
    "Hunter2#x",
    "Hunter2?x",
    "Hunter2@x",
    "Hunter2:x",
    "x/Hunter2",
    "/Hunter2",
]
URLS = [
    *(
        f"{scheme}://app:{word}@host/db"
        for word in PASSWORDS
        for scheme in ("mongodb", "mongodb+srv")
    ),
    "mongodb://app:Hunter2/x@host:27017,other:27017/db?replicaSet=rs0",
    "mongodb://app:Hunter2%zz@host:port/db",
    "mongodb://host/db?authMechanismProperties=AWS_SESSION_TOKEN:Hunter2",
    "mongodb://host/db?authMechanism=MONGODB-AWS&authMechanismProperties=Hunter2",
    "mongodb://host/db?tlsCertificateKeyFilePassword=Hunter2&tls=maybe",
    "mongodb://host/db?maxPoolSize=Hunter2",
    "mongodb://app:Hunter2@/db",
    "mongodb://app:Hunter2@host:99999999/db",
]


@pytest.mark.parametrize("driver", ["pymongo", "motor"])
@pytest.mark.parametrize("url", URLS)
async def test_a_url_that_cannot_be_read_is_refused_without_the_password(
    url: str, driver: DriverName
) -> None:
    try:
        client = make_client(url, driver, 1.0)
    except ConfigurationError as caught:
        error: BaseException | None = caught
        while error is not None:
            assert "Hunter2" not in f"{error} {error!r}"
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    else:
        closing: Any = client.close()
        if closing is not None:
            await closing


def test_a_password_that_is_not_encoded_gets_the_remedy() -> None:
    with pytest.raises(ConfigurationError, match="must be percent-encoded"):
        make_client("mongodb://app:Hunter2/x@host/db", "pymongo", 1.0)


def test_a_batch_that_no_majority_has_confirmed_counts_as_not_written() -> None:
    failed = {"index": 1, "code": 11000, "errmsg": "a duplicate"}
    answered = {"writeErrors": [failed], "writeConcernErrors": [], "nInserted": 1}
    assert inserted_count(BulkWriteError(answered)) == 1
    assert not is_outcome_unknown(BulkWriteError(answered))
    unconfirmed = {**answered, "writeConcernErrors": [{"code": 64, "errmsg": "timed out"}]}
    assert inserted_count(BulkWriteError(unconfirmed)) == 0
    assert is_outcome_unknown(BulkWriteError(unconfirmed))
