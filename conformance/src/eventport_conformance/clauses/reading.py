"""REA: what a read of one stream gives."""

from __future__ import annotations

from eventport_conformance.clause import clause
from eventport_conformance.helpers import fill, make
from eventport_conformance.trial import Trial


LARGEST = 2**63 - 1


@clause("REA-01")
async def the_whole_stream_oldest_first(t: Trial) -> None:
    """A read returns all events of a stream, oldest first."""
    events = await fill(t.store, "order", 7)
    read = await t.store.read("order")
    t.recorded(read.events, events, "events read")
    t.versions(read.events, range(1, 8), "the stream")


@clause("REA-02")
async def from_version_is_inclusive(t: Trial) -> None:
    """`from_version` is the lowest version that a read returns."""
    await fill(t.store, "order", 5)
    for first in (1, 2, 5):
        read = await t.store.read("order", from_version=first)
        t.versions(read.events, range(first, 6), f"from {first}")


@clause("REA-03")
async def to_version_is_inclusive(t: Trial) -> None:
    """`to_version` is the highest version that a read returns, and not a count."""
    await fill(t.store, "order", 5)
    for last in (1, 3, 5):
        read = await t.store.read("order", to_version=last)
        t.versions(read.events, range(1, last + 1), f"to {last}")


@clause("REA-04")
async def both_bounds(t: Trial) -> None:
    """With both bounds a read returns the versions from one to the other."""
    await fill(t.store, "order", 6)
    for first, last in ((2, 4), (3, 3), (1, 6), (6, 6), (4, 5)):
        read = await t.store.read("order", from_version=first, to_version=last)
        t.versions(read.events, range(first, last + 1), f"from {first} to {last}")


@clause("REA-05")
async def max_count_is_a_count(t: Trial) -> None:
    """`max_count` is the number of events that a read returns at most."""
    await fill(t.store, "order", 5)
    for count in (1, 3, 5, 6, LARGEST):
        read = await t.store.read("order", max_count=count)
        t.versions(read.events, range(1, min(count, 5) + 1), f"at most {count}")


@clause("REA-06")
async def max_count_counts_from_the_lower_bound(t: Trial) -> None:
    """`max_count` together with `from_version` returns that many, and not one more."""
    await fill(t.store, "order", 9)
    read = await t.store.read("order", from_version=3, max_count=2)
    t.versions(read.events, [3, 4], "2 from 3")
    read = await t.store.read("order", from_version=8, max_count=5)
    t.versions(read.events, [8, 9], "5 from 8 of 9")
    read = await t.store.read("order", from_version=2, to_version=7, max_count=4)
    t.versions(read.events, [2, 3, 4, 5], "4 from 2 to 7")


@clause("REA-07")
async def max_count_zero_gives_the_head(t: Trial) -> None:
    """`max_count=0` returns no events, but the head."""
    await fill(t.store, "order", 3)
    for backwards in (False, True):
        read = await t.store.read("order", max_count=0, backwards=backwards)
        t.equal((read.events, read.version, read.exists), ([], 3, True), "read of no events")


@clause("REA-08")
async def backwards_is_newest_first(t: Trial) -> None:
    """`backwards` returns the newest event first."""
    await fill(t.store, "order", 5)
    read = await t.store.read("order", backwards=True)
    t.versions(read.events, [5, 4, 3, 2, 1], "backwards")
    t.equal(read.version, 5, "head")


@clause("REA-09")
async def backwards_does_not_change_the_range(t: Trial) -> None:
    """`backwards` reverses the order of a range, and the bounds mean the same."""
    await fill(t.store, "order", 7)
    read = await t.store.read("order", from_version=2, to_version=5, backwards=True)
    t.versions(read.events, [5, 4, 3, 2], "from 2 to 5 backwards")
    read = await t.store.read("order", from_version=6, backwards=True)
    t.versions(read.events, [7, 6], "from 6 backwards")
    read = await t.store.read("order", to_version=2, backwards=True)
    t.versions(read.events, [2, 1], "to 2 backwards")


@clause("REA-10")
async def backwards_counts_from_the_newest(t: Trial) -> None:
    """`max_count` of a backwards read counts from the newest event of the range."""
    await fill(t.store, "order", 7)
    read = await t.store.read("order", max_count=2, backwards=True)
    t.versions(read.events, [7, 6], "the newest 2")
    read = await t.store.read("order", from_version=2, to_version=5, max_count=3, backwards=True)
    t.versions(read.events, [5, 4, 3], "the newest 3 from 2 to 5")
    read = await t.store.read("order", to_version=99, max_count=3, backwards=True)
    t.versions(read.events, [7, 6, 5], "the newest 3 up to 99")


@clause("REA-11")
async def past_the_end_is_empty_with_the_true_head(t: Trial) -> None:
    """A read that begins past the end is empty, and returns the stream's true head."""
    await fill(t.store, "order", 3)
    for first in (4, 100, LARGEST):
        for backwards in (False, True):
            read = await t.store.read("order", from_version=first, backwards=backwards)
            seen = (read.events, read.version, read.exists)
            t.equal(seen, ([], 3, True), f"read from {first}, backwards={backwards}")


@clause("REA-12")
async def the_upper_bound_may_lie_past_the_end(t: Trial) -> None:
    """A read up to a version past the end returns what there is."""
    await fill(t.store, "order", 3)
    for last in (3, 4, 100, LARGEST):
        read = await t.store.read("order", from_version=2, to_version=last)
        t.versions(read.events, [2, 3], f"from 2 to {last}")
        t.equal(read.version, 3, f"head of a read to {last}")


@clause("REA-13")
async def up_to_zero_is_empty_with_the_true_head(t: Trial) -> None:
    """A read up to version 0 is empty, and returns the stream's true head."""
    await fill(t.store, "order", 3)
    for backwards in (False, True):
        read = await t.store.read("order", to_version=0, backwards=backwards)
        t.equal((read.events, read.version, read.exists), ([], 3, True), "read up to 0")


@clause("REA-14")
async def an_empty_range_is_no_error(t: Trial) -> None:
    """A range that ends before it begins is empty, and returns the stream's true head."""
    await fill(t.store, "order", 5)
    for backwards in (False, True):
        read = await t.store.read("order", from_version=4, to_version=2, backwards=backwards)
        t.equal((read.events, read.version, read.exists), ([], 5, True), "read from 4 to 2")


@clause("REA-15")
async def the_head_is_true_whatever_the_range(t: Trial) -> None:
    """`version` and `exists` are about the stream and not about the events that were read."""
    await fill(t.store, "order", 6)
    heads = [
        await t.store.read("order", to_version=2),
        await t.store.read("order", from_version=5, max_count=1),
        await t.store.read("order", max_count=1),
        await t.store.read("order", max_count=1, backwards=True),
        await t.store.read("order", from_version=3, to_version=3),
    ]
    t.equal([read.version for read in heads], [6] * 5, "heads of reads of parts")
    t.equal([read.exists for read in heads], [True] * 5, "existence in reads of parts")


@clause("REA-16")
async def a_missing_stream_is_empty_in_any_range(t: Trial) -> None:
    """A read of any range of a stream that does not exist is empty, and no error."""
    await fill(t.store, "other", 3)
    t.equal((await t.store.read("other", from_version=2)).version, 3, "head of another stream")
    reads = [
        await t.store.read("missing"),
        await t.store.read("missing", from_version=3),
        await t.store.read("missing", to_version=3, max_count=2),
        await t.store.read("missing", backwards=True),
    ]
    seen = [(read.events, read.version, read.exists) for read in reads]
    t.equal(seen, [([], 0, False)] * 4, "reads of a missing stream")


@clause("REA-17")
async def a_long_stream_is_whole(t: Trial) -> None:
    """A read of a long stream returns each event once, in order, in both directions."""
    for first in range(1, 1301, 650):
        await t.store.append("order", make(650, start=first))
    read = await t.store.read("order")
    t.equal([event.data["n"] for event in read.events], list(range(1, 1301)), "numbers, forwards")
    t.versions(read.events, range(1, 1301), "forwards")
    read = await t.store.read("order", backwards=True)
    t.versions(read.events, range(1300, 0, -1), "backwards")
    read = await t.store.read("order", from_version=400, max_count=700)
    t.versions(read.events, range(400, 1100), "700 from 400")


@clause("REA-18")
async def similar_names_do_not_mix(t: Trial) -> None:
    """A read returns the events of the stream of exactly this name."""
    names = ["a", "A", "ab", "a ", "a%", "a_", "a*", "a-b", "a.b", "a/b", "a'b", 'a"b', "a\\b"]
    for number, name in enumerate(names):
        await t.store.append(name, make(1, start=number))
    for number, name in enumerate(names):
        read = await t.store.read(name)
        seen = [(event.stream, event.data["n"]) for event in read.events]
        t.equal((seen, read.version), ([(name, number)], 1), f"stream {name!r}")


@clause("REA-19")
async def a_read_is_repeatable(t: Trial) -> None:
    """Two reads with no append between them return the same."""
    await fill(t.store, "order", 4)
    first, second = await t.store.read("order"), await t.store.read("order")
    t.versions(first.events, [1, 2, 3, 4], "the first read")
    t.equal(second, first, "the second read")


@clause("REA-20")
async def a_read_sees_appends_at_once(t: Trial) -> None:
    """An append that has returned is seen by every read that starts later."""
    for version in range(1, 31):
        await t.store.append("order", make(1))
        read = await t.store.read("order", from_version=version)
        t.versions(read.events, [version], f"after append {version}")
        t.equal(read.version, version, f"head after append {version}")
