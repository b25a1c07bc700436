"""CON: so many concurrent appends that a store may write them together."""

from __future__ import annotations

from eventport import ANY, AppendResult, ConcurrencyError, Expectation, NewEvent

from eventport_conformance.clause import clause
from eventport_conformance.helpers import at_once, fill, make
from eventport_conformance.trial import Trial


@clause("CON-17")
async def hundreds_at_once(t: Trial) -> None:
    """Hundreds of concurrent appends are each written whole, at the version that each returns."""

    async def work(number: int) -> AppendResult:
        events = [NewEvent("By", [number, 0]), NewEvent("By", [number, 1])]
        return await t.store.append(f"s{number % 60}", events)

    results = await at_once(300, work)
    for stream in range(60):
        events = (await t.store.read(f"s{stream}")).events
        found = {event.data[0]: event.version for event in events[1::2]}  # in whatever order
        said = {number: results[number].version for number in range(stream, 300, 60)}
        t.equal(dict(sorted(found.items())), said, f"last version of each append to s{stream}")
        data = [[number, n] for number in found for n in (0, 1)]
        t.equal([event.data for event in events], data, f"events of s{stream}")


@clause("CON-18")
async def one_conflict_among_many(t: Trial) -> None:
    """Of many concurrent appends, those whose expectation does not hold fail alone."""
    await fill(t.store, "moved", 2)

    async def work(number: int) -> AppendResult | ConcurrencyError:
        expected: Expectation = (0, ANY, 1)[number % 3]
        stream = "moved" if number % 3 == 2 else f"s{number}"
        try:
            return await t.store.append(stream, make(1), expected=expected)
        except ConcurrencyError as exc:
            return exc

    for number, result in enumerate(await at_once(90, work)):
        if number % 3 == 2:
            t.true(isinstance(result, ConcurrencyError), "an append behind conflicts", result)
        else:
            t.true(isinstance(result, AppendResult), "another append succeeds", result)
            t.equal((await t.store.read(f"s{number}")).version, 1, "version of its stream")
    t.equal((await t.store.read("moved")).version, 2, "version of the stream in conflict")
