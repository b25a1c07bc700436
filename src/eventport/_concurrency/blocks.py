"""What has to be entered by `async with`, and says so when it is used in another way."""

from __future__ import annotations

import functools

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Never, ParamSpec, TypeVar

from eventport.errors import InvalidArgumentTypeError


P = ParamSpec("P")
T = TypeVar("T")


class _Block(AbstractAsyncContextManager[T, "bool | None"]):
    """An async context manager that names the remedy for `await`, `with` and forgotten blocks."""

    def __init__(self, manager: AbstractAsyncContextManager[T], remedy: str) -> None:
        self._manager = manager
        self._remedy = remedy

    async def __aenter__(self) -> T:
        return await self._manager.__aenter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> bool | None:
        return await self._manager.__aexit__(exc_type, exc_value, traceback)

    def __await__(self) -> Never:
        message = f"it cannot be awaited: {self._remedy}"
        raise InvalidArgumentTypeError(message)

    def __aiter__(self) -> Never:
        message = f"it has to be entered first: {self._remedy}"
        raise InvalidArgumentTypeError(message)

    def __enter__(self) -> Never:
        message = f"it takes `async with`, not `with`: {self._remedy}"
        raise InvalidArgumentTypeError(message)

    def __exit__(self, *_: object) -> None:
        """Be there, so that `__enter__` is asked."""

    def __getattr__(self, name: str) -> Never:
        message = f"no {name!r} before it has been entered: {self._remedy}"
        raise AttributeError(message)


def entered_as(
    usage: str,
) -> Callable[[Callable[P, AsyncGenerator[T, None]]], Callable[P, AbstractAsyncContextManager[T]]]:
    """Decorate an async generator as `asynccontextmanager` does; misuse names the right use.

    Args:
        usage: How it is meant to be used, such as ``async with connect(...) as store:``.
    """

    def decorate(
        function: Callable[P, AsyncGenerator[T, None]],
    ) -> Callable[P, AbstractAsyncContextManager[T]]:
        make = asynccontextmanager(function)

        @functools.wraps(function)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[T]:
            return _Block(make(*args, **kwargs), f"write `{usage}`")

        return wrapped

    return decorate
