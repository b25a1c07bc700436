"""NAM: what streams and types may be called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from eventport import (
    InvalidEventError,
    InvalidEventTypeError,
    InvalidStreamNameError,
    NewEvent,
    RecordedEvent,
)

from eventport_conformance.clause import clause
from eventport_conformance.material import collect, fill, make
from eventport_conformance.trial import Trial


_GOOD: Final = (
    "a",
    "order-1",
    "Order 1",
    " ",
    "a ",
    " a",
    ".",
    "..",
    "a/b\\c",
    "a$b",
    "a@b:c;d|e&f?g=h#i",
    "';--",
    '"quoted"',
    "%_*[]{}()",
    "null",
    "None",
    "1",
    "日本語",
    "é",
    "e\u0301",
    "\u202eabc",
    "\U0001f980",
    "\xa0",
    "\u2028",
    "a" * 500,
    "é" * 250,
    "\U0001f980" * 125,
)
_CONTROL: Final = ("\0", "a\0b", "a\n", "\t", "\x1b[0m", "\x7f", "\x80", "a\x85b", "\x9f")
_LONG: Final = ("a" * 501, "é" * 250 + "a", "\U0001f980" * 125 + "a")
_SURROGATES: Final = ("\ud800", "a\udc00b")
_NOT_TEXT: Final[list[Any]] = [None, 1, b"a", ["a"], ("a",), object()]


async def _refused_streams(t: Trial, names: Sequence[Any]) -> None:
    await fill(t.store, "good", 1)
    for name in names:
        with t.raises(InvalidStreamNameError, f"append to {ascii(name)[:60]}") as caught:
            await t.store.append(name, make(1))
        t.true(isinstance(caught.error, ValueError), "it is a ValueError")
        with t.raises(InvalidStreamNameError, f"read of {ascii(name)[:60]}"):
            await t.store.read(name)
    await t.untouched("good", 1, "bad names")


async def _refused_types(t: Trial, names: Sequence[Any]) -> None:
    await fill(t.store, "good", 1)
    for name in names:
        with t.raises(InvalidEventTypeError, f"event of type {ascii(name)[:60]}") as caught:
            await t.store.append("good", [*make(1), NewEvent(name, 1)])
        t.true(isinstance(caught.error, InvalidEventError), "it is an InvalidEventError")
        t.true(isinstance(caught.error, InvalidStreamNameError), "it is about a name")
    await t.untouched("good", 1, "bad types")


@clause("NAM-01")
async def streams_may_be_called_anything(t: Trial) -> None:
    """A stream's name may be any text without control characters, up to 500 UTF-8 bytes."""
    for number, name in enumerate(_GOOD):
        await t.store.append(name, [NewEvent("Placed", number)])
    for number, name in enumerate(_GOOD):
        read = await t.store.read(name)
        seen = [(event.stream, event.data) for event in read.events]
        t.equal((seen, read.version), ([(name, number)], 1), f"stream {name!a}")


@clause("NAM-02")
async def types_may_be_called_anything(t: Trial) -> None:
    """A type's name may be any text without control characters, up to 500 UTF-8 bytes."""
    events = [NewEvent(name, number) for number, name in enumerate(_GOOD)]
    await t.store.append("order", events)
    t.recorded((await t.store.read("order")).events, events, "events read")


@clause("NAM-03")
async def names_are_compared_exactly(t: Trial) -> None:
    """Names that differ in case, in spaces or in Unicode form name different streams."""
    names = ["order", "Order", "ORDER", "order ", " order", "é", "e\u0301", "ß", "ss", "\uff41"]
    for count, name in enumerate(names, 1):
        await fill(t.store, name, count)
    heads = [(await t.store.read(name)).version for name in names]
    t.equal(heads, list(range(1, len(names) + 1)), "heads")


@clause("NAM-04")
async def an_empty_stream_name_is_refused(t: Trial) -> None:
    """An empty name of a stream is refused."""
    await _refused_streams(t, [""])


@clause("NAM-05")
async def control_characters_are_refused(t: Trial) -> None:
    """A stream's name with a control character is refused."""
    await _refused_streams(t, _CONTROL)


@clause("NAM-06")
async def long_stream_names_are_refused(t: Trial) -> None:
    """A stream's name of more than 500 UTF-8 bytes is refused."""
    await _refused_streams(t, _LONG)


@clause("NAM-07")
async def surrogates_in_stream_names_are_refused(t: Trial) -> None:
    """A stream's name with a lone surrogate is refused."""
    await _refused_streams(t, _SURROGATES)


@clause("NAM-08")
async def dollar_names_are_reserved(t: Trial) -> None:
    """A stream's name that starts with a dollar is refused; a dollar elsewhere is not."""
    await _refused_streams(t, ["$", "$all", "$$meta", "$ce-order"])
    t.equal((await t.store.append("a$", make(1))).version, 1, "append to a$")


@clause("NAM-09")
async def stream_names_must_be_text(t: Trial) -> None:
    """A stream's name that is not text is refused."""
    await _refused_streams(t, _NOT_TEXT)


@clause("NAM-10")
async def bad_type_names_are_refused(t: Trial) -> None:
    """A type's name that is empty, too long, or holds a control character is refused."""
    await _refused_types(t, ["", *_CONTROL, *_LONG])


@clause("NAM-11")
async def type_names_must_be_text(t: Trial) -> None:
    """A type's name that is not text, or holds a lone surrogate, is refused."""
    await _refused_types(t, [*_NOT_TEXT, *_SURROGATES])


@clause("NAM-12")
async def every_operation_refuses_alike(t: Trial) -> None:
    """`iterate`, `aggregate` and sessions refuse the names that appends refuse."""
    await fill(t.store, "good", 1)

    def evolve(state: int, _: RecordedEvent) -> int:
        return state

    for name in ("", "a\n", "a" * 501, "$all", "\ud800"):
        with t.raises(InvalidStreamNameError, f"iterate over {name[:9]!a}"):
            await collect(t.store.iterate(name))
        with t.raises(InvalidStreamNameError, f"aggregate of {name[:9]!a}"):
            await t.store.aggregate(name, evolve, int)
        with t.raises(InvalidStreamNameError, f"empty append to {name[:9]!a}"):
            await t.store.append(name, [])
        async with t.store.session() as session:
            with t.raises(InvalidStreamNameError, f"append to {name[:9]!a} in a session"):
                await session.append(name, make(1))
            with t.raises(InvalidStreamNameError, f"read of {name[:9]!a} in a session"):
                await session.read(name)
    await t.untouched("good", 1, "bad names")


@clause("NAM-13", needs=("global_order",))
async def filters_refuse_bad_names(t: Trial) -> None:
    """Filters refuse types and prefixes that no name could match."""
    await fill(t.store, "good", 1)
    for prefix in ("\n", "a" * 501, "\ud800"):
        with t.raises(InvalidStreamNameError, f"prefix {prefix[:9]!a}"):
            await t.store.read_all(prefix=prefix)
        with t.raises(InvalidStreamNameError, f"prefix {prefix[:9]!a} of iterate_all"):
            await collect(t.store.iterate_all(prefix=prefix))
        with t.raises(InvalidStreamNameError, f"prefix {prefix[:9]!a} of subscribe"):
            async with t.store.subscribe(prefix=prefix):
                pass
    for name in ("", "\n", "a" * 501, "\ud800"):
        with t.raises(InvalidEventTypeError, f"type {name[:9]!a}"):
            await t.store.read_all(types=["Good", name])
    await t.untouched("good", 1, "bad filters")
