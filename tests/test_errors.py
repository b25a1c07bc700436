"""Errors have one base, say what they are also, and survive the way between processes."""

from __future__ import annotations

import copy
import multiprocessing
import pickle

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Final

import pytest

import eventport

from eventport import ConcurrencyError, EventportError, errors
from eventport._engine.stream_reader import require

from eventport_conformance.waiting import HANG_SECONDS


OWN: Final = [
    error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, EventportError)
]
PORT: Final = [error for error in OWN if error.__name__ in eventport.__all__]
"""Those of the port itself; the others are raised by what is built on it, and tested there."""

PLAIN: Final = [error for error in PORT if error is not ConcurrencyError]

BUILTINS: Final[dict[str, set[type[Exception]]]] = {
    "ConfigurationError": {ValueError},
    "InvalidArgumentError": {ValueError},
    "InvalidArgumentTypeError": {ValueError, TypeError},
    "InvalidEventError": {ValueError},
    "InvalidEventTypeError": {ValueError},
    "InvalidStreamNameError": {ValueError},
}


@pytest.mark.parametrize("error", OWN)
def test_every_error_is_documented_and_one_of_ours(error: type[EventportError]) -> None:
    assert getattr(eventport, error.__name__, error) is error
    assert issubclass(error, EventportError)
    assert error.__doc__


def test_every_error_of_the_port_is_public() -> None:
    # That of a condition stands beside the queries that it names.
    assert {error.__name__ for error in PORT} | {"BoundaryError"} == {
        name for name in eventport.__all__ if name.endswith("Error")
    }
    assert len(PORT) == 18


@pytest.mark.parametrize("error", OWN)
def test_bad_arguments_are_also_value_or_type_errors(error: type[EventportError]) -> None:
    assert {ValueError, TypeError} & set(error.__mro__) == BUILTINS.get(error.__name__, set())


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_errors_can_be_copied(duplicate: Callable[[EventportError], EventportError]) -> None:
    for kind in PLAIN:
        error = duplicate(kind("what, and the remedy"))
        assert type(error) is kind
        assert str(error) == "what, and the remedy"
    conflict = duplicate(ConcurrencyError("s", "no_stream", 3))
    assert isinstance(conflict, ConcurrencyError)
    assert (conflict.stream, conflict.expected, conflict.actual) == ("s", "no_stream", 3)
    assert str(conflict) == "stream 's': expected 'no_stream', but it is at version 3"


def test_a_conflict_comes_back_from_another_process() -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        future = pool.submit(require, "s", 2, 0)
        with pytest.raises(ConcurrencyError) as caught:
            future.result(timeout=HANG_SECONDS)
    assert (caught.value.stream, caught.value.expected, caught.value.actual) == ("s", 2, 0)


def test_a_conflict_says_what_was_expected_and_found() -> None:
    assert str(ConcurrencyError("s", 2, 0)) == "stream 's': expected 2, but it does not exist"
    assert (
        str(ConcurrencyError("s", "stream_exists", 0))
        == "stream 's': expected 'stream_exists', but it does not exist"
    )
    assert str(ConcurrencyError("s", 2, 5)) == "stream 's': expected 2, but it is at version 5"
