"""The double answers what real servers have answered to the same questions."""

from __future__ import annotations

import asyncio
import tomllib

from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeAlias
from uuid import UUID, uuid4

import pytest

from adapters.eventstoredb.tests.asking import ANY, EXISTS, NO_STREAM, Asker, asking, event
from adapters.eventstoredb.tests.double.server import serve
from adapters.eventstoredb.tests.double.state import Double
from adapters.eventstoredb.tests.double.versions import Version


Answers: TypeAlias = dict[str, str]

RECORDED: Final = tomllib.loads(
    (Path(__file__).parent / "recorded" / "one_stream.toml").read_text()
)
VERSIONS: Final[tuple[Version, ...]] = ("23.10", "26.1")


@pytest.fixture(params=VERSIONS)
async def server(request: pytest.FixtureRequest) -> AsyncGenerator[Double, None]:
    async with serve(Double(version=request.param)) as served:
        yield served


async def idempotency(ask: Asker) -> Answers:
    a, b, c, d = (event() for _ in range(4))
    x = await ask.written(a, b)
    position = ask.position
    found: Answers = {}

    async def same(name: str, expected: int) -> None:
        answer = await ask.append(x, expected, [a, b])
        found[name] = answer + " same position" * (ask.position == position)

    await same("NO_STREAM [A, B] again", NO_STREAM)
    answer = await ask.append(x, NO_STREAM, [a])
    found["NO_STREAM [A] on [A, B]"] = answer + " lower position" * (ask.position < position)
    found["NO_STREAM [A, B, C] on [A, B]"] = await ask.append(x, NO_STREAM, [a, b, c])
    found["NO_STREAM [B] on [A, B]"] = await ask.append(x, NO_STREAM, [b])
    found["exact 0 [B] on [A, B]"] = await ask.append(x, 0, [b])
    found["exact 0 [B, C] on [A, B]"] = await ask.append(x, 0, [b, c])
    await same("ANY [A, B] again", ANY)
    answer = await ask.append(x, ANY, [b, c])
    found["ANY [B, C] on [A, B]"] = f"{answer} {await ask.read(x)}"
    found["ANY [A] on [A, B]"] = await ask.append(x, ANY, [a])
    answer = await ask.append(x, EXISTS, [a, b])
    found["EXISTS [A, B] again"] = f"{answer} {await ask.read(x)}"
    answer = await ask.append(x, 1, [a])
    found["exact at the head, an old id"] = f"{answer} {await ask.read(x)}"
    found["same id in another stream, ANY"] = await ask.append(ask.name(), ANY, [a])
    y = ask.name()
    answer = await ask.append(y, NO_STREAM, [d, d])
    found["one id twice in an append"] = f"{answer} {await ask.read(y)}"
    y = await ask.written(c)
    answer = await ask.append(y, NO_STREAM, [event(c.id, '{"x": 1}', "Other")])
    found["same id, other content, NO_STREAM"] = f"{answer} {await ask.read(y)}"
    return found


async def expectations(ask: Asker) -> Answers:
    x = await ask.written()
    zero = event(UUID(int=0))
    found = {
        "7 on a missing stream": await ask.append(ask.name(), 7, [event()]),
        "EXISTS on a missing stream": await ask.append(ask.name(), EXISTS, [event()]),
        "7 on v2": await ask.append(x, 7, [event()]),
        "NO_STREAM on v2": await ask.append(x, NO_STREAM, [event()]),
        "2**63-2 on v2": await ask.append(x, 2**63 - 2, [event()]),
        "2**63-1 on v2": await ask.append(x, 2**63 - 1, [event()]),
        "zero UUID at a wrong version": await ask.append(x, 2**63 - 2, [zero]),
        "zero UUID, ANY": await ask.append(ask.name(), ANY, [zero]),
        "nothing, ANY on v2": await ask.append(x, ANY, []),
        "nothing, NO_STREAM on a missing stream": await ask.append(ask.name(), NO_STREAM, []),
        "nothing, a wrong version": await ask.append(x, 9, []),
        "an empty type": await ask.append(ask.name(), ANY, [event(type_="")]),
        "an empty stream name": await ask.append("", ANY, [event()]),
    }
    for expected, name in ((EXISTS, "EXISTS"), (NO_STREAM, "NO_STREAM")):
        y = ask.name()
        await ask.set_metadata(y, '{"$maxCount": 9}')
        found["read of a stream with only metadata"] = await ask.read(y)
        found[f"{name} on only metadata"] = await ask.append(y, expected, [event()])
    return found


async def softly_deleted(ask: Asker) -> Answers:
    events = [event() for _ in range(3)]

    async def fresh() -> str:
        stream = await ask.written(*events)
        assert await ask.delete(stream) == "ok"
        return stream

    x = await fresh()
    found = {
        "read": await ask.read(x),
        "read backwards": await ask.read(x, backwards=True),
        "EXISTS": await ask.append(x, EXISTS, [event()]),
        "exact 99": await ask.append(x, 99, [event()]),
        "exact 1": await ask.append(x, 1, [event()]),
        "delete a missing stream": await ask.delete(ask.name()),
        "delete again": await ask.delete(x),
        "still in $all": await ask.read_all(x),
    }
    for name, expected, sent in (
        ("NO_STREAM, old ids again", NO_STREAM, events),
        ("ANY, old ids again", ANY, events),
        ("exact 1, old ids again", 1, events[2:]),
        ("NO_STREAM, new", NO_STREAM, [event()]),
        ("ANY, new", ANY, [event()]),
        ("exact at the head, new", 2, [event()]),
        ("nothing, ANY", ANY, []),
    ):
        x = await fresh()
        answer = await ask.append(x, expected, sent)
        found[name] = f"{answer} {await ask.read(x)}"
    x, new = await fresh(), [event()]
    await ask.append(x, NO_STREAM, new)
    answer = await ask.append(x, NO_STREAM, new)
    found["NO_STREAM again after a revival"] = f"{answer} {await ask.read(x)}"
    return found


async def tombstoned(ask: Asker) -> Answers:
    events = [event(), event()]
    x = await ask.written(*events)
    assert await ask.tombstone(x) == "ok"
    return {
        "append ANY": await ask.append(x, ANY, [event()]),
        "append NO_STREAM": await ask.append(x, NO_STREAM, [event()]),
        "append EXISTS": await ask.append(x, EXISTS, [event()]),
        "append at 0": await ask.append(x, 0, [event()]),
        "append at 99": await ask.append(x, 99, [event()]),
        "append ANY, old ids": await ask.append(x, ANY, events),
        "append NO_STREAM, old ids": await ask.append(x, NO_STREAM, events),
        "append nothing": await ask.append(x, ANY, []),
        "read": await ask.read(x),
        "delete": await ask.delete(x),
        "tombstone again": await ask.tombstone(x),
        "tombstone a missing stream": await ask.tombstone(ask.name()),
        "in $all": await ask.read_all(x),
    }


async def truncated(ask: Asker) -> Answers:
    async def six(metadata: str) -> str:
        stream = await ask.written(*(event() for _ in range(6)))
        await ask.set_metadata(stream, metadata)
        return stream

    x, y, z = await six('{"$tb": 3}'), await six('{"$maxCount": 2}'), await six('{"$maxAge": 1}')
    found = {
        "$tb 3 forwards": await ask.read(x),
        "$tb 3 from 1, 2 events": await ask.read(x, 1, 2),
        "$tb 3 backwards": await ask.read(x, backwards=True),
        "$tb 3 backwards from 4": await ask.read(x, 4, backwards=True),
        "$tb 3 backwards from 1": await ask.read(x, 1, backwards=True),
        "$maxCount 2": await ask.read(y),
        "$maxCount 2 from 0, 1 event": await ask.read(y, 0, 1),
    }
    await ask.set_metadata(x, '{"$tb": 99}')
    found["$tb 99 forwards"] = await ask.read(x)
    found["$tb 99 backwards"] = await ask.read(x, backwards=True)
    found["$tb 99, a wrong version"] = await ask.append(x, 2**63 - 2, [event()])
    found["$tb 99, NO_STREAM"] = await ask.append(x, NO_STREAM, [event()])
    answer = await ask.append(x, EXISTS, [event()])
    found["$tb 99, EXISTS"] = f"{answer} {await ask.read(x)}"
    while await ask.read(z) != "[]":  # noqa: ASYNC110  # it is a matter of the server's clock
        await asyncio.sleep(0.1)
    found["$maxAge has passed"] = await ask.read(z)
    found["$maxAge has passed, backwards"] = await ask.read(z, backwards=True)
    found["$maxAge has passed, a wrong version"] = await ask.append(z, 2**63 - 2, [event()])
    w = await ask.written()
    found["read beyond the head"] = await ask.read(w, 1000)
    found["read backwards from beyond"] = await ask.read(w, 1000, backwards=True)
    return found


async def of_all(ask: Asker) -> Answers:
    x = await ask.written(*(event(data='{"k": "' + "x" * 50 + '"}') for _ in range(3)))
    events = await ask.events(x)
    places = [one.commit_position for one in events]
    acknowledged = ", the last one is acknowledged" * (places[-1] == ask.position)
    beyond = places[-1] + 10**6
    return {
        "positions of 3 events": f"{len(set(places))}{acknowledged}",
        "times of 3 events": "differ" * (len({one.metadata["created"] for one in events}) > 1),
        "the first position": "above 500" if places[0] > 500 else str(places[0]),
        "read from a made-up position": await ask.read_all(x, places[0] + 1),
        "backwards from a made-up position": await ask.read_all(x, places[0] + 1, backwards=True),
        "read from beyond": await ask.read_all(x, beyond),
        "backwards from beyond": await ask.read_all(x, beyond, backwards=True),
        "forwards from the second": await ask.read_all(x, places[1]),
        "backwards from the second": await ask.read_all(x, places[1], backwards=True),
        "subscription from the second": await ask.follow(x, places[1], 2),
        "subscription from a made-up position": await ask.follow(x, places[1] - 3, 2),
    }


async def names(ask: Asker) -> Answers:
    found: Answers = {}
    for what, text in (("with a space", "a b"), ("with a newline", "a\nb"), ("with NUL", "a\0b")):
        stream = ask.name(text)
        answer = await ask.append(stream, ANY, [event()])
        found[f"name {what}"] = f"{answer} {await ask.read(stream)}"
    stream = "n" * 70_000
    answer = await ask.append(stream, ANY, [event()])
    found["name of 70000"] = f"{answer} {await ask.read(stream)}"
    stream = ask.name()
    await ask.append(f"{stream}a\u00e9", ANY, [event()])
    found["name in another case"] = await ask.read(f"{stream}A\u00e9")
    found["name in another normal form"] = await ask.read(f"{stream}ae\u0301")
    for what, text in (("with a space", "a b"), ("with NUL", "a\0b"), ("of 5000", "t" * 5000)):
        stream = ask.name()
        answer = await ask.append(stream, ANY, [event(type_=text)])
        (stored,) = await ask.events(stream)
        found[f"type {what}"] = answer + " same" * (stored.metadata["type"] == text)
    stream = await ask.written(event(data="no JSON"))
    found["JSON that is none"] = (await ask.events(stream))[0].metadata["content-type"]
    stream = ask.name()
    await ask.append(stream, ANY, [event(data=b"x")])  # type: ignore[arg-type]  # bytes go as such
    found["another content type"] = (await ask.events(stream))[0].metadata["content-type"]
    return found


async def sizes(ask: Asker) -> Answers:
    mega = 1024 * 1024

    async def of(size: int, metadata: int = 0) -> str:
        sent = event(uuid4(), "1" * size, metadata="2" * metadata)
        return await ask.append(ask.name(), ANY, [sent])

    many = [event(data="12") for _ in range(10_000)]
    return {
        "1 MiB of data": await of(mega),
        "1 MiB of data and 100 of metadata": await of(mega, 100),
        "1 MiB and 1 byte": await of(mega + 1),
        "16,767,056 bytes": await of(16_767_056 - 20),  # the names here are a little longer
        "16,767,216 bytes": await of(16_767_216),
        "10,000 events": await ask.append(ask.name(), ANY, many),
    }


QUESTIONS: Final[dict[str, Callable[[Asker], Awaitable[Answers]]]] = {
    "idempotency": idempotency,
    "expectations": expectations,
    "softly_deleted": softly_deleted,
    "tombstoned": tombstoned,
    "truncated": truncated,
    "all": of_all,
    "names": names,
    "sizes": sizes,
}


def test_every_recording_is_asked_for() -> None:
    assert QUESTIONS.keys() == RECORDED.keys()


@pytest.mark.parametrize("group", QUESTIONS)
async def test_the_double_answers_as_recorded(server: Double, group: str) -> None:
    recorded: dict[str, Any] = RECORDED[group]
    expected = {
        question: answer if isinstance(answer, str) else answer[server.version]
        for question, answer in recorded.items()
    }
    async with asking(server.port) as asker:
        assert await QUESTIONS[group](asker) == expected
