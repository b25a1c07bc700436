"""Ids: random UUIDs of version 4, which neither threads nor forked processes share."""

from __future__ import annotations

import os

from concurrent.futures import ThreadPoolExecutor
from uuid import RFC_4122, UUID, SafeUUID

import pytest

from eventport import NewEvent
from eventport._ids import new_id


def test_an_id_is_a_random_uuid_of_version_4() -> None:
    ids = [new_id() for _ in range(5_000)]
    assert {(one.version, one.variant, one.is_safe) for one in ids} == {
        (4, RFC_4122, SafeUUID.unknown)
    }
    assert len(set(ids)) == len(ids)
    ones = sum(one.int.bit_count() for one in ids) / len(ids)
    assert 61 < ones < 65  # 122 random bits, of which half are set, and two that always are
    assert UUID(str(ids[0])) == ids[0]
    assert type(NewEvent("E", None).id) is UUID


def test_threads_share_no_id() -> None:
    with ThreadPoolExecutor(8) as threads:
        found = threads.map(lambda _: [new_id() for _ in range(1_000)], range(8))
    assert len({one for ids in found for one in ids}) == 8_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_ids_of_its_own() -> None:
    new_id()  # so that some are ready
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, new_id().bytes)
        os._exit(0)
    os.waitpid(child, 0)
    assert UUID(bytes=os.read(read, 16)) not in {new_id() for _ in range(1_000)}
