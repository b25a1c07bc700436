"""The toolkit's streams have valid names, and different things never share one."""

from __future__ import annotations

import pytest

from hypothesis import given
from hypothesis import strategies as st

from eventport import InvalidStreamNameError
from eventport.toolkit_streams import is_toolkit_stream, toolkit_stream
from eventport.validation import MAX_NAME_BYTES, check_stream


PARTS = st.lists(st.text(max_size=200), max_size=4)


def test_a_name_reads_well() -> None:
    assert (
        toolkit_stream("key", "email", "ada@example.org") == "eventport/key/email/ada@example.org"
    )
    assert toolkit_stream("snapshot", "order/1") == "eventport/snapshot/order%2F1"


@given(PARTS, PARTS)
def test_different_parts_make_different_valid_names(one: list[str], other: list[str]) -> None:
    names = [toolkit_stream("key", *parts) for parts in (one, other)]
    assert (names[0] == names[1]) == (one == other)
    for name in names:
        assert check_stream(name) == name
        assert is_toolkit_stream(name)


def test_what_is_too_long_keeps_its_beginning_and_stays_different() -> None:
    names = [toolkit_stream("key", "email", "é" * 300 + end) for end in ("", "a", "b")]
    assert len(set(names)) == 3
    for name in names:
        assert name.startswith("eventport/key/email/éé")
        assert len(name.encode()) <= MAX_NAME_BYTES
    # Nobody can make up a short part that gives the name of a long one.
    made_up = names[0].removeprefix("eventport/key/email/")
    assert toolkit_stream("key", "email", made_up) != names[0]


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(InvalidStreamNameError, match="lone surrogate"):
        toolkit_stream("key", "\ud800")


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidStreamNameError, match="7 \\(int\\)"):
        toolkit_stream("key", 7)  # type: ignore[arg-type]


def test_other_streams_are_not_the_toolkits() -> None:
    assert not is_toolkit_stream("eventports/1")
    assert not is_toolkit_stream("order/eventport/1")
