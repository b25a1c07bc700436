"""The double answers commits over several streams as real servers have."""

from __future__ import annotations

import tomllib

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias
from uuid import UUID, uuid4

import pytest

from adapters.eventstoredb.tests.asking import ANY, EXISTS, NO_STREAM, Asker, asking
from adapters.eventstoredb.tests.double.server import serve
from adapters.eventstoredb.tests.double.sessions import DELETED, TOMBSTONED
from adapters.eventstoredb.tests.double.state import Double
from adapters.eventstoredb.tests.double.stubs import KURRENT, aio, v2
from adapters.eventstoredb.tests.double.versions import Version


Answers: TypeAlias = dict[str, str]

RECORDED: Final = tomllib.loads(
    (Path(__file__).parent / "recorded" / "several_streams.toml").read_text()
)
VERSIONS: Final[tuple[Version, ...]] = ("25.1", "26.0", "26.1")
TYPES: Final = {
    "with a space": "a b",
    "with a slash": "a/b",
    "accents, NFC": "été",
    "decomposed": "e\u0301",
    "emoji": "x😀",
    "CJK": "注文",
    "plus": "a+b",
    "empty": "",
    "colon and dash": "a:b-c",
    "5000": "t" * 5000,
}


class Sessions:
    """Asks for commits over several streams."""

    def __init__(self, asker: Asker, version: Version) -> None:
        self.ask = asker
        self.version = version
        self.name = asker.name

    def record(
        self,
        stream: str,
        *,
        type_: str = "T",
        data: bytes = b"{}",
        id_: str = "",
        properties: dict[str, str] | None = None,
    ) -> Any:
        is_json = data == b"{}"
        record = v2.streams.AppendRecord(
            stream=stream,
            data=data,
            record_id=id_ or str(uuid4()),
            schema=v2.streams.SchemaInfo(
                name=type_,
                format=v2.streams.SCHEMA_FORMAT_JSON if is_json else v2.streams.SCHEMA_FORMAT_BYTES,
            ),
        )
        for key, value in (properties or {}).items():
            record.properties[key].string_value = value
        return record

    async def records(self, records: Sequence[Any], **checks: int) -> str:
        named = [(stream.replace("_", "-"), state) for stream, state in checks.items()]
        return await self.checked(records, named)

    async def checked(self, records: Sequence[Any], checks: Sequence[tuple[str, int]]) -> str:
        check = v2.streams.ConsistencyCheck
        request = v2.streams.AppendRecordsRequest(
            records=records,
            checks=[
                check(stream_state=check.StreamStateCheck(stream=stream, expected_state=state))
                for stream, state in checks
            ],
        )
        try:
            answer = await self.ask.sessions.AppendRecords(request)
        except aio.AioRpcError as exc:
            return refusal(exc)
        return " ".join(["ok", *(str(one.revision) for one in answer.revisions)])

    async def session(self, *writes: tuple[str, Sequence[Any], int]) -> str:
        requests = [
            v2.streams.AppendRequest(stream=stream, records=records, expected_revision=expected)
            for stream, records, expected in writes
        ]
        try:
            answer = await self.ask.sessions.AppendSession(iter(requests))
        except aio.AioRpcError as exc:
            return refusal(exc)
        return " ".join(["ok", *(str(one.stream_revision) for one in answer.output)])

    async def one(self, record: Any) -> str:
        """Commit one record by the method that this server has."""
        if self.version == "25.1":
            return await self.session((record.stream, [record], ANY))
        return await self.records([record])

    async def made(self, start: str, count: int) -> str:
        stream = self.name(start)
        await self.session((stream, [self.record(stream) for _ in range(count)], ANY))
        return stream

    async def deleted(self, count: int = 2) -> str:
        stream = await self.made("del", count)
        assert await self.ask.delete(stream) == "ok"
        return stream

    async def tombstoned(self) -> str:
        stream = await self.made("tomb", 1)
        assert await self.ask.tombstone(stream) == "ok"
        return stream


def refusal(exc: Any) -> str:
    """Put an error in a few words: its code, its kind, and what does not hold."""
    code: str = exc.code().name
    raw = dict(tuple(exc.trailing_metadata() or ())).get("grpc-status-details-bin")
    for packed in v2.status.FromString(raw).details if raw else ():
        name = packed.type_url.rpartition(".")[2]
        kind = getattr(v2.errors, name, None)
        if kind is None:
            continue
        detail = kind()
        packed.Unpack(detail)
        if name == "AppendConsistencyViolationErrorDetails":
            found = [
                f"{one.check_index} {one.stream_state.stream.partition('-')[0]} "
                f"{one.stream_state.actual_state}"
                for one in detail.violations
            ]
            return f"{code}: {', '.join(found)}"
        actual = [str(detail.actual_revision)] if hasattr(detail, "actual_revision") else []
        return " ".join([code, name.removesuffix("ErrorDetails"), *actual])
    return code


async def requests(to: Sessions) -> Answers:
    x, y = to.name(), to.name()
    tomb, first, second = await to.tombstoned(), await to.deleted(1), await to.deleted(1)
    writes = [(to.name(), [to.record("")], NO_STREAM) for _ in range(2)]
    return {
        "AppendRecords of nothing": await to.records([]),
        "AppendSession of nothing": await to.session(),
        "AppendSession of a stream without records": await to.session((x, [], ANY)),
        "AppendSession of x, y, x": await to.session(
            *((one, [to.record(one)], ANY) for one in (x, y, x))
        ),
        "AppendSession of names that differ in case": await to.session(
            *((one, [to.record(one)], ANY) for one in (f"{x}a", f"{x}A"))
        ),
        "AppendSession": await to.session(*writes),
        "AppendSession again": await to.session(*writes),
        "AppendSession, a wrong revision": await to.session(
            (to.name(), [to.record("")], NO_STREAM), (writes[1][0], [to.record("")], 7)
        ),
        "AppendSession on a tombstone": await to.session((tomb, [to.record("")], ANY)),
        "AppendSession, softly deleted, EXISTS": await to.session((first, [to.record("")], EXISTS)),
        "AppendSession, softly deleted, NO_STREAM": await to.session(
            (second, [to.record("")], NO_STREAM)
        ),
    }


async def types(to: Sessions) -> Answers:
    return {what: await to.one(to.record(to.name(), type_=type_)) for what, type_ in TYPES.items()}


async def records(to: Sessions) -> Answers:
    async def metadata(**given: Any) -> str:
        record = to.record(to.name(), **given)
        answer = await to.one(record)
        if not answer.startswith("ok"):
            return answer
        return str((await to.ask.events(record.stream))[0].custom_metadata.decode())

    mebi, twice, x = 1024 * 1024, str(uuid4()), to.name()
    both = [to.record(x, id_=twice), to.record(x, id_=twice)]
    quotes = 'a\nb\u2028"'
    return {
        "a property": await metadata(properties={"k": "v"}),
        "an empty key": await metadata(properties={"": "v"}),
        "$schema.name given": await metadata(properties={"$schema.name": "Z"}),
        "$schema.format given": await metadata(properties={"$schema.format": "Z"}),
        "a newline and quotes": await metadata(properties={"k": quotes}),
        "bytes": await metadata(data=b"\0\1"),
        "an id that is none": await metadata(id_="abc"),
        "the zero UUID": await metadata(id_=str(UUID(int=0))),
        "one id twice": await to.session((x, both, ANY)),
        "16 MiB": await metadata(data=b"1" * 16 * mebi),
        "16 MiB - 200 bytes": await metadata(data=b"1" * (16 * mebi - 200)),
    }


async def checks(to: Sessions) -> Answers:
    w, r, e, m = to.name("w"), await to.made("r", 2), await to.made("e", 1), to.name("missing")
    gone, tomb = await to.deleted(), await to.tombstoned()
    revived = await to.deleted()
    first, second = to.name("meta"), to.name("meta")
    for stream in (first, second):
        await to.ask.set_metadata(stream, '{"$maxCount": 5}')

    async def check(*checks: tuple[str, int], on: str = "") -> str:
        return await to.checked([to.record(on or to.name())], checks)

    return {
        "of streams that are not written": await check((r, 1), (e, EXISTS), (m, NO_STREAM), on=w),
        "one that is stale": await check((r, 0)),
        "two that do not hold": await check((r, 5), (m, EXISTS)),
        "ANY": await check((r, ANY)),
        "a stream twice": await check((r, 1), (r, 1)),
        "names that differ in case": await check((f"{m}a", NO_STREAM), (f"{m}A", NO_STREAM)),
        "and no records": await to.checked([], [(r, 1)]),
        "of the stream that is written": await check((w, 0), on=w),
        "softly deleted, NO_STREAM": await check((gone, NO_STREAM)),
        "softly deleted, EXISTS": await check((gone, EXISTS)),
        "softly deleted, DELETED": await check((gone, DELETED)),
        "softly deleted, at the head": await check((gone, 1)),
        "softly deleted, below the head": await check((gone, 0)),
        "softly deleted, TOMBSTONED": await check((gone, TOMBSTONED)),
        "tombstoned, NO_STREAM": await check((tomb, NO_STREAM)),
        "tombstoned, EXISTS": await check((tomb, EXISTS)),
        "tombstoned, DELETED": await check((tomb, DELETED)),
        "tombstoned, exact": await check((tomb, 0)),
        "tombstoned, TOMBSTONED": await check((tomb, TOMBSTONED)),
        "tombstoned, written without a check": await check(on=tomb),
        "tombstoned, written beside another": await to.checked(
            [to.record(to.name("o")), to.record(tomb)], [(r, 1)]
        ),
        "softly deleted, written with NO_STREAM": await check((revived, NO_STREAM), on=revived),
        "only metadata, EXISTS": await check((first, EXISTS)),
        "only metadata, NO_STREAM": await check((second, NO_STREAM)),
    }


async def again(to: Sessions) -> Answers:
    x, y, z = to.name(), to.name(), await to.made("z", 1)
    sent = [to.record(x), to.record(y), to.record(x)]
    expected = [(x, NO_STREAM), (y, NO_STREAM)]
    await to.checked(sent, expected)
    found = {
        "same ids and checks": await to.checked(sent, expected),
        "same ids without checks": await to.checked(sent, []),
    }
    other = [to.record(to.name())]
    await to.checked(other, [(z, 0)])
    await to.records([to.record(z)])
    found["a check-only stream has moved on"] = await to.checked(other, [(z, 0)])
    both = [to.record(to.name()), to.record(to.name())]
    await to.records(both)
    answer = await to.records(both)
    read = [await to.ask.read(one.stream) for one in both]
    found["no checks, twice"] = " ".join([answer, *read])
    return found


async def spelling(to: Sessions) -> Answers:
    x, y, z, a, b = (to.name() for _ in range(5))

    async def shown(answer: str, stream: str) -> str:
        low, up = await to.ask.read(f"{stream}a"), await to.ask.read(f"{stream}A")
        return f"{answer}, a {low}, A {up}"

    pair = [to.record(f"{x}a"), to.record(f"{x}A")]
    forms = [to.record(f"{z}\u00e9"), to.record(f"{z}e\u0301")]
    answer = await to.records([to.record(one) for one in (a, b, a, b)])
    log = [*await to.ask.events(a), *await to.ask.events(b)]
    order = sorted(one.commit_position for one in log)
    places = [order.index(one.commit_position) for one in log]
    return {
        "a and A without checks": await shown(await to.records(pair), x),
        "a check of A, a record for a": await shown(
            await to.checked([to.record(f"{y}a")], [(f"{y}A", NO_STREAM)]), y
        ),
        "names in two normal forms": await to.records(forms),
        "an empty name": await to.records([to.record("")]),
        "$$": await to.records([to.record("$$")]),
        "a, b, a, b": f"{answer} {places[:2]} {places[2:]}",
    }


QUESTIONS: Final[dict[str, Callable[[Sessions], Awaitable[Answers]]]] = {
    "requests": requests,
    "types": types,
    "records": records,
    "checks": checks,
    "again": again,
    "spelling": spelling,
}
RECORDS_ONLY: Final = {"checks", "again", "spelling"}


@pytest.fixture(params=VERSIONS if KURRENT else [])
async def server(request: pytest.FixtureRequest) -> AsyncGenerator[Double, None]:
    async with serve(Double(version=request.param)) as served:
        yield served


def test_every_recording_is_asked_for() -> None:
    assert QUESTIONS.keys() == RECORDED.keys()


if KURRENT:

    @pytest.mark.parametrize("group", QUESTIONS)
    async def test_the_double_answers_as_recorded(server: Double, group: str) -> None:
        if group in RECORDS_ONLY and not server.rules.records:
            group = "requests"
        recorded: dict[str, Any] = RECORDED[group]
        expected = {
            question: answer if isinstance(answer, str) else answer[server.version]
            for question, answer in recorded.items()
        }
        async with asking(server.port) as asker:
            assert await QUESTIONS[group](Sessions(asker, server.version)) == expected
