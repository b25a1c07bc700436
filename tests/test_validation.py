"""Arguments mean the same on every backend: these are accepted, those are refused, in words."""

from __future__ import annotations

import enum
import re

from collections.abc import Callable
from typing import Any, Final, Literal

import pytest

from hypothesis import given
from hypothesis import strategies as st

from eventport import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    InvalidArgumentError,
    InvalidArgumentTypeError,
    InvalidEventError,
    InvalidEventTypeError,
    InvalidStreamNameError,
)
from eventport.expectations import Expectation, exact_version, holds
from eventport.validation import (
    MAX_INT,
    check_event_type,
    check_expectation,
    check_int,
    check_optional_int,
    check_prefix,
    check_stream,
    check_types,
)


class Name(enum.StrEnum):
    ORDER = "order-1"
    ANY = "any"


class OldName(str, enum.Enum):  # noqa: UP042  # its str() is not its value
    ORDER = "order-1"
    ANY = "any"


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class Number(enum.IntEnum):
    THREE = 3


class Unshowable:
    def __repr__(self) -> str:
        raise LookupError("no repr")


NAME_CHECKS: Final[dict[str, tuple[Callable[[object], Any], type[Exception], str]]] = {
    "stream": (check_stream, InvalidStreamNameError, "stream name"),
    "event type": (check_event_type, InvalidEventTypeError, "event type"),
    "prefix": (check_prefix, InvalidStreamNameError, "prefix"),
}
each_name = pytest.mark.parametrize(
    ("check", "error", "what"), NAME_CHECKS.values(), ids=NAME_CHECKS.keys()
)


@each_name
@pytest.mark.parametrize(
    "name",
    ["a", " ", "order-1", "a b", "é", "\U0001f600", "a$", "x" * 500, "é" * 250, "\u2028", "\xa0"],
)
def test_names_are_any_short_text(
    check: Callable[[object], Any], error: type[Exception], what: str, name: str
) -> None:
    assert check(name) == name


@each_name
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x" * 501, "500"),
        ("é" * 250 + "x", "has 501 UTF-8 bytes; the limit is 500"),
        ("\U0001f600" * 126, "has 504 UTF-8 bytes; the limit is 500"),
        ("x" * 10_000_000, "has 10000000 UTF-8 bytes"),
        ("a\0b", r"contains the control character '\x00': remove it"),
        ("a\n", r"contains the control character '\n'"),
        ("\x7f", r"contains the control character '\x7f'"),
        ("a\x85", r"contains the control character '\x85'"),
        ("\0" + "x" * 10_000_000, r"contains the control character '\x00'"),
        ("a\ud800", "contains a lone surrogate"),
        (False, "must be text, not False (bool)"),
        (7, "must be text, not 7 (int)"),
        (10**5000, "must be text, not a value without a repr (int)"),
        (Unshowable(), "must be text, not a value without a repr (Unshowable)"),
        (b"order", "must be text, not b'order' (bytes)"),
        (["order"], "must be text, not ['order'] (list)"),
    ],
    ids=range(16),
)
def test_other_names_are_refused_in_words(
    check: Callable[[object], Any],
    error: type[Exception],
    what: str,
    name: object,
    message: str,
) -> None:
    with pytest.raises(error, match=f"^{what} .*{re.escape(message)}") as caught:
        check(name)
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) < 300
    str(caught.value).encode()


def test_a_name_is_not_empty_but_a_prefix_may_be() -> None:
    with pytest.raises(InvalidStreamNameError, match="stream name is empty"):
        check_stream("")
    with pytest.raises(InvalidEventTypeError, match="event type is empty"):
        check_event_type("")
    assert check_prefix("") is None
    assert check_prefix(None) is None


@pytest.mark.parametrize("name", ["$", "$all", "$ü"])
def test_streams_that_begin_with_a_dollar_are_reserved(name: str) -> None:
    with pytest.raises(InvalidStreamNameError, match=r"starts with '\$', which is reserved"):
        check_stream(name)
    assert check_event_type(name) == name
    assert check_prefix(name) == name


@each_name
@pytest.mark.parametrize("name", [Name.ORDER, OldName.ORDER, Text("order-1")])
def test_text_of_a_subclass_becomes_plain(
    check: Callable[[object], Any], error: type[Exception], what: str, name: str
) -> None:
    checked = check(name)
    assert type(checked) is str
    assert checked == "order-1"


@given(st.text())
def test_the_quick_path_for_names_obeys_the_full_rules(name: str) -> None:
    text = name.encode(errors="surrogatepass")
    valid = (
        0 < len(text) <= 500
        and not re.search("[\0-\x1f\x7f-\x9f\ud800-\udfff]", name)
        and not name.startswith("$")
    )
    if valid:
        assert check_stream(name) == name
    else:
        with pytest.raises(InvalidStreamNameError):
            check_stream(name)


def test_an_event_type_s_error_is_about_an_event_and_a_name() -> None:
    assert issubclass(InvalidEventTypeError, InvalidEventError)
    assert issubclass(InvalidEventTypeError, InvalidStreamNameError)


def test_types_select_events() -> None:
    assert check_types(None) is None
    assert check_types(["a", "b", "a"]) == frozenset({"a", "b"})
    assert check_types({"a": 1}) == frozenset({"a"})
    assert check_types(Name) == frozenset({"order-1", "any"})
    plain = check_types([Name.ORDER])
    assert plain
    assert [type(name) for name in plain] == [str]


@pytest.mark.parametrize(
    ("types", "error", "message"),
    [
        ("Paid", InvalidArgumentTypeError, "must be a collection of type names, not 'Paid'"),
        (7, InvalidArgumentTypeError, "must be a collection of type names, not 7"),
        (iter(["a"]), InvalidArgumentTypeError, "must be a collection of type names"),
        (Unshowable(), InvalidArgumentTypeError, "not a value without a repr"),
        ([], InvalidArgumentError, "types is empty and would match no event: pass None"),
        (["a", ""], InvalidEventTypeError, "event type is empty"),
        (["a", None], InvalidEventTypeError, "event type must be text"),
        (b"ab", InvalidEventTypeError, "event type must be text, not 97"),
    ],
)
def test_other_types_are_refused(types: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_types(types)


@pytest.mark.parametrize("expected", [0, 1, MAX_INT, ANY, NO_STREAM, STREAM_EXISTS])
def test_expectations_are_versions_and_three_names(expected: Expectation) -> None:
    assert check_expectation(expected) == expected


@pytest.mark.parametrize(
    ("expected", "plain"), [(Name.ANY, "any"), (OldName.ANY, "any"), (Number.THREE, 3)]
)
def test_expectations_of_a_subclass_become_plain(expected: object, plain: object) -> None:
    checked = check_expectation(expected)
    assert checked == plain
    assert type(checked) is type(plain)


@pytest.mark.parametrize(
    ("expected", "error"),
    [
        (-1, InvalidArgumentError),
        (2**63, InvalidArgumentError),
        (10**5000, InvalidArgumentError),
        ("ANY", InvalidArgumentError),
        ("", InvalidArgumentError),
        ("x" * 10_000_000, InvalidArgumentError),
        (True, InvalidArgumentTypeError),
        (None, InvalidArgumentTypeError),
        (1.0, InvalidArgumentTypeError),
        (b"any", InvalidArgumentTypeError),
        ([], InvalidArgumentTypeError),
        (Unshowable(), InvalidArgumentTypeError),
    ],
    ids=range(12),
)
def test_other_expectations_are_refused(expected: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"expected must be a version .*any.*no_stream.*, not ") as e:
        check_expectation(expected)
    assert len(str(e.value)) < 300


@pytest.mark.parametrize(
    ("expected", "at_0", "at_1", "at_2", "exact"),
    [
        (ANY, True, True, True, None),
        (NO_STREAM, True, False, False, 0),
        (STREAM_EXISTS, False, True, True, None),
        (0, True, False, False, 0),
        (1, False, True, False, 1),
    ],
)
def test_what_an_expectation_means(
    expected: Expectation, at_0: bool, at_1: bool, at_2: bool, exact: int | None
) -> None:
    assert [holds(expected, version) for version in range(3)] == [at_0, at_1, at_2]
    assert exact_version(expected) == exact


def test_integers_have_bounds() -> None:
    assert check_int("after", 0) == 0
    assert check_int("after", MAX_INT) == MAX_INT == 2**63 - 1
    assert type(check_int("after", Number.THREE)) is int
    assert check_optional_int("max_count", None) is None
    assert check_optional_int("max_count", 3) == 3


@pytest.mark.parametrize(
    ("value", "least", "error", "message"),
    [
        (-1, 0, InvalidArgumentError, "after must be from 0 to 9223372036854775807, not -1"),
        (0, 1, InvalidArgumentError, "after must be from 1 to 9223372036854775807, not 0"),
        (2**63, 0, InvalidArgumentError, "not 9223372036854775808"),
        (10**5000, 0, InvalidArgumentError, "after must be from 0"),
        (True, 0, InvalidArgumentTypeError, "after must be an integer, not True"),
        (1.0, 0, InvalidArgumentTypeError, "after must be an integer, not 1.0"),
        ("1", 0, InvalidArgumentTypeError, "after must be an integer, not '1'"),
        (None, 0, InvalidArgumentTypeError, "after must be an integer, not None"),
        (Unshowable(), 0, InvalidArgumentTypeError, "after must be an integer, not a value"),
    ],
    ids=range(9),
)
def test_other_integers_are_refused(
    value: object, least: Literal[0, 1], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        check_int("after", value, least=least)
    assert isinstance(caught.value, TypeError) is (error is InvalidArgumentTypeError)
