"""MOD: whatever is done, the store does what a simple model of it does."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from eventport import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    AppendResult,
    ConcurrencyError,
    EventportError,
    Expectation,
    NewEvent,
    RecordedEvent,
)

from eventport_conformance.clause import clause
from eventport_conformance.helpers import collect, fill, make
from eventport_conformance.model import Model
from eventport_conformance.properties import AsyncStateMachine, for_all, run_machine
from eventport_conformance.trial import Trial, as_new


_TEXT: Final = st.text(st.characters(exclude_categories=["Cs"]))
_KEYS: Final = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
_SCALARS: Final = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXT
)
_JSON: Final[st.SearchStrategy[Any]] = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(_KEYS | _TEXT.map(repr), inner, max_size=4)
    ),
    max_leaves=12,
)
_NAMES: Final = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=125
).filter(lambda name: not name.startswith("$"))


@clause("MOD-01", seconds=600)
async def all_json_comes_out_as_it_went_in(t: Trial) -> None:
    """All JSON values and bytes come out as they went in, as data and in metadata."""
    events = st.builds(
        NewEvent,
        st.just("Any"),
        _JSON | st.binary(),
        st.dictionaries(_KEYS, _JSON, max_size=3),
    )

    async def check(events: list[NewEvent]) -> None:
        result = await t.store.append("data", events)
        first = result.version - len(events) + 1
        read = await t.store.read("data", from_version=first)
        t.recorded(read.events, events, "events read")

    await for_all(t, st.lists(events, min_size=1, max_size=8), check, examples=60)


@clause("MOD-02", seconds=600)
async def all_names_name(t: Trial) -> None:
    """All names that are allowed name a stream and a type, each its own."""
    counts: dict[str, int] = {}

    async def check(names: tuple[str, str]) -> None:
        stream, type_ = names
        counts[stream] = counts.get(stream, 0) + 1
        event = NewEvent(type_, stream)
        result = await t.store.append(stream, [event])
        t.equal(result.version, counts[stream], "version that the append returned")
        (read,) = (await t.store.read(stream, from_version=result.version)).events
        t.recorded([read], [event], "event read")
        t.equal((read.stream, read.version), (stream, counts[stream]), "its stream and version")

    await for_all(t, st.tuples(_NAMES, _NAMES), check, examples=60)


class _Range(NamedTuple):
    first: int
    last: int | None
    most: int | None
    backwards: bool


_BOUND: Final = st.integers(0, 14) | st.integers(0, 2**63 - 1)
_RANGES: Final = st.builds(
    _Range, _BOUND.map(lambda n: n or 1), st.none() | _BOUND, st.none() | _BOUND, st.booleans()
)


@clause("MOD-03", seconds=600)
async def all_ranges_are_slices(t: Trial) -> None:
    """A read of any range, with any count, in either direction, is a slice of the stream."""
    events = await fill(t.store, "a", 12)
    model = Model()
    model.append("a", events, ANY)
    done = 0

    async def check(wanted: _Range) -> None:
        nonlocal done
        await _compare(t, model, "a", "a", wanted)
        done += 1

    await for_all(t, _RANGES, check, examples=120)
    t.true(done > 50, "ranges were read", done)


@clause("MOD-04", needs=("global_order",), seconds=600)
async def all_filters_select(t: Trial) -> None:
    """A read of all streams with any filter returns what a scan of every event finds."""
    streams = ["a", "ab", "b", "b_", "b%"]
    for number in range(30):
        await t.store.append(streams[number % 5], make(2, f"T{number % 4}", number))
    every = (await t.store.read_all()).events
    t.equal(len(every), 60, "events in the store")
    positions = [0, *(event.position for event in every)]

    async def check(
        asked: tuple[frozenset[str] | None, str | None, int, int],
    ) -> None:
        types, prefix, place, count = asked
        after = positions[place]
        result = await t.store.read_all(after=after, max_count=count, types=types, prefix=prefix)
        matching = [
            event
            for event in every
            if event.position > after
            and (types is None or event.type in types)
            and (prefix is None or event.stream.startswith(prefix))
        ]
        t.equal(result.events, matching[:count], f"events for {asked}")
        t.true(result.position >= after, "it does not go back", result.position)
        rest = await t.store.read_all(after=result.position, types=types, prefix=prefix)
        t.equal(rest.events, matching[count:], f"the rest for {asked}")

    types = st.frozensets(st.sampled_from(["T0", "T1", "T2", "T3", "T"]), min_size=1)
    prefixes = st.sampled_from(["", "a", "b", "ab", "b_", "b%", "c"])
    asked = st.tuples(
        st.none() | types, st.none() | prefixes, st.integers(0, 60), st.integers(0, 61)
    )
    await for_all(t, asked, check, examples=80)


async def _compare(t: Trial, model: Model, stream: str, of: str, wanted: _Range) -> None:
    """Compare a read with the model."""
    first, last, most, backwards = wanted
    read = await t.store.read(
        stream, from_version=first, to_version=last, max_count=most, backwards=backwards
    )
    expected = model.read(of, first, last, most, backwards=backwards)
    seen = [(event.version, as_new(event)) for event in read.events]
    t.equal(seen, expected, f"events of {of}: {wanted}")
    t.equal(read.version, model.head(of), f"head of {of}: {wanted}")


class _Streams(AsyncStateMachine):
    """Appends, retries, sessions and reads, in any order, on three streams."""

    runs = 0

    streams = st.sampled_from(["a", "b", "c"])
    counts = st.integers(0, 3)
    expectations: st.SearchStrategy[Any] = st.sampled_from(
        [ANY, NO_STREAM, STREAM_EXISTS, 0, "head", "head", "head-1", "head+1"]
    )
    steps = st.lists(st.tuples(streams, counts, expectations), max_size=4)

    @initialize()
    def begin(self) -> None:
        type(self).runs += 1
        self.prefix = f"{type(self).runs}-"
        self.model = Model()
        self.sent: list[tuple[str, list[NewEvent], Expectation]] = []
        self.may_differ = True

    def expectation(self, stream: str, kind: Any, model: Model) -> Expectation:
        head = model.head(stream)
        if kind == "head":
            return head
        if kind == "head-1":
            return max(head - 1, 0)
        if kind == "head+1":
            return head + 1
        expected: Expectation = kind
        return expected

    @rule(stream=streams, count=counts, kind=expectations)
    def append(self, stream: str, count: int, kind: Any) -> None:
        expected = self.expectation(stream, kind, self.model)
        self.send(stream, make(count), expected)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        stream, events, expected = data.draw(st.sampled_from(self.sent))
        if expected not in {ANY, STREAM_EXISTS}:  # these are written again
            self.send(stream, events, expected)

    @rule(stream=streams, wanted=_RANGES)
    def read(self, stream: str, wanted: _Range) -> None:
        name = self.prefix + stream
        self.wait(_compare, self.trial, self.model, name, stream, wanted)

    @rule(stream=streams, backwards=st.booleans())
    def iterate(self, stream: str, backwards: bool) -> None:  # noqa: FBT001  # drawn
        events = self.wait(
            collect, self.trial.store.iterate(self.prefix + stream, backwards=backwards)
        )
        seen = [(event.version, as_new(event)) for event in events]
        self.trial.equal(seen, self.model.read(stream, backwards=backwards), "events iterated")

    @rule(stream=streams, last=st.none() | st.integers(0, 8))
    def fold(self, stream: str, last: int | None) -> None:
        self.wait(self._fold, stream, last)

    async def _fold(self, stream: str, last: int | None) -> None:
        def evolve(state: tuple[int, ...], event: RecordedEvent) -> tuple[int, ...]:
            return (*state, event.version)

        nothing: tuple[int, ...] = ()
        result = await self.trial.store.aggregate(
            self.prefix + stream, evolve, lambda: nothing, to_version=last
        )
        head = self.model.head(stream)
        to = head if last is None else min(last, head)
        seen = (result.state, result.version, result.exists)
        self.trial.equal(seen, (tuple(range(1, to + 1)), to, head > 0), "fold")

    @rule(stream=streams, counts=st.lists(st.integers(1, 3), max_size=3), fails=st.booleans())
    def session(self, stream: str, counts: list[int], fails: bool) -> None:  # noqa: FBT001  # drawn
        self.wait(self._session, [(stream, count, "head") for count in counts], fails)

    async def _session(self, steps: list[tuple[str, int, Any]], fails: bool) -> None:  # noqa: FBT001
        t = self.trial
        self.may_differ = True
        within = Model()
        within.streams = {name: list(events) for name, events in self.model.streams.items()}
        within.order = list(self.model.order)
        try:
            async with t.store.session() as session:
                for stream, count, kind in steps:
                    events = make(count)
                    expected = self.expectation(stream, kind, within)
                    wanted = within.append(stream, events, expected)
                    try:
                        seen: Any = await session.append(
                            self.prefix + stream, events, expected=expected
                        )
                    except ConcurrencyError as exc:
                        seen = exc
                    _same_outcome(t, seen, wanted, self.prefix)
                    read = await session.read(self.prefix + stream)
                    inside = [(event.version, as_new(event)) for event in read.events]
                    t.equal(inside, within.read(stream), "events read in the session")
                _raise_if(fails)
        except _OwnError:
            return
        self.model = within

    def send(self, stream: str, events: list[NewEvent], expected: Expectation) -> None:
        self.may_differ = True
        wanted = self.model.append(stream, events, expected)
        seen = self.wait(self._append, stream, events, expected)
        _same_outcome(self.trial, seen, wanted, self.prefix)
        self.sent.append((stream, events, expected))

    async def _append(
        self, stream: str, events: list[NewEvent], expected: Expectation
    ) -> AppendResult | ConcurrencyError:
        try:
            return await self.trial.store.append(self.prefix + stream, events, expected=expected)
        except ConcurrencyError as exc:
            return exc

    # Steps that only read compare what they have read.
    @precondition(lambda self: self.may_differ)
    @invariant()
    def all_events_are_those_of_the_model(self) -> None:
        self.wait(self.compare_all)
        self.may_differ = False

    def teardown(self) -> None:
        if not self.may_differ:  # else a step that writes has failed
            self.wait(self.compare_all)  # steps that read have changed nothing

    async def compare_all(self) -> None:
        for stream in ("a", "b", "c"):
            wanted = _Range(1, None, None, backwards=False)
            await _compare(self.trial, self.model, self.prefix + stream, stream, wanted)


class _Store(_Streams):
    """The same, with sessions over streams and the global order."""

    @rule(steps=_Streams.steps, fails=st.booleans())
    def session_over_streams(self, steps: list[Any], fails: bool) -> None:  # noqa: FBT001  # drawn
        self.wait(self._session, steps, fails)

    @rule(place=st.integers(0, 20), count=st.integers(0, 9))
    def read_all(self, place: int, count: int) -> None:
        self.wait(self._read_all, place, count)

    async def _read_all(self, place: int, count: int) -> None:
        t = self.trial
        first = await t.store.read_all(max_count=place, prefix=self.prefix)
        after = first.position if place else 0
        rest = await t.store.read_all(after=after, max_count=count, prefix=self.prefix)
        seen = [(event.stream, event.version) for event in first.events + rest.events]
        wanted = [(self.prefix + name, version) for name, version in self.model.order]
        t.equal(seen, wanted[: place + count], "events of all streams")

    async def compare_all(self) -> None:
        await super().compare_all()
        await self._read_all(0, 1000)


class _OwnError(EventportError):
    """An error of the caller's code."""


def _raise_if(fails: bool) -> None:  # noqa: FBT001  # it reads well
    if fails:
        raise _OwnError


def _same_outcome(
    t: Trial,
    seen: AppendResult | ConcurrencyError,
    wanted: AppendResult | ConcurrencyError,
    prefix: str,
) -> None:
    def plain(outcome: AppendResult | ConcurrencyError) -> object:
        if isinstance(outcome, AppendResult):
            return (outcome.version, outcome.created, outcome.deduplicated)
        return ("conflict", outcome.stream.removeprefix(prefix), outcome.expected, outcome.actual)

    t.equal(plain(seen), plain(wanted), "outcome of the append")


@clause("MOD-05", seconds=600)
async def streams_do_what_the_model_does(t: Trial) -> None:
    """Appends, retries, sessions and reads in any sequence do what they do to a simple model."""
    await run_machine(t, _Streams, examples=25, steps=20)


@clause("MOD-06", needs=("sessions", "global_order"), seconds=600)
async def the_store_does_what_the_model_does(t: Trial) -> None:
    """With sessions over streams, the order of all events is that of the model, too."""
    await run_machine(t, _Store, examples=25, steps=20)
