"""SNP: snapshot stores, which others may write for a database of theirs."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from eventport.snapshot_stores import Snapshot

from eventport_conformance.clause import clause
from eventport_conformance.trial import Trial


_STREAM: Final = "order/1 %é"


def _taken(version: int, stream: str = _STREAM) -> Snapshot:
    state = bytes(range(256)) + str(version).encode()
    return Snapshot(stream, version, UUID(int=version), f"schema {version}", state)


@clause("SNP-01", uses=("snapshots",))
async def the_newest_snapshot_comes_back_as_it_was(t: Trial) -> None:
    """`latest` returns the snapshot that was saved last, equal in all fields, or none."""
    snapshots = t.harness.snapshots(t.bare)
    t.equal(await snapshots.latest(_STREAM), None, "before the first")
    for version in (3, 7, 12):
        await snapshots.save(_taken(version))
        t.equal(await snapshots.latest(_STREAM), _taken(version), f"after version {version}")


@clause("SNP-02", uses=("snapshots",))
async def each_stream_has_snapshots_of_its_own(t: Trial) -> None:
    """A snapshot of a stream is never returned for another one."""
    snapshots = t.harness.snapshots(t.bare)
    names = [_STREAM, f"{_STREAM}0", "order", "order/1", "x" * 500, "x" * 499 + "y"]
    for version, name in enumerate(names, 1):
        await snapshots.save(_taken(version, name))
    for version, name in enumerate(names, 1):
        t.equal(await snapshots.latest(name), _taken(version, name), f"of {name[:20]!r}")
    t.equal(await snapshots.latest("order/2"), None, "of a stream without one")


@clause("SNP-03", uses=("snapshots",))
async def a_snapshot_of_a_later_version_is_not_returned(t: Trial) -> None:
    """With `to_version`, no snapshot of a higher version is returned; older ones may be gone."""
    snapshots = t.harness.snapshots(t.bare)
    for version in (3, 7, 12):
        await snapshots.save(_taken(version))
    for to_version in (1, 3, 6, 7, 11, 12, 100):
        possible = [None, *(_taken(version) for version in (3, 7, 12) if version <= to_version)]
        found = await snapshots.latest(_STREAM, to_version=to_version)
        t.true(found in possible, f"{found and found.version} is at most {to_version}")
    t.equal(await snapshots.latest(_STREAM, to_version=12), _taken(12), "the newest by its version")
