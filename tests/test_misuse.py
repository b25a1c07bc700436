"""What is entered by `async with` names the remedy when it is used in another way."""

from __future__ import annotations

from typing import Any

import pytest

from eventport import InvalidArgumentTypeError, connect


REMEDIES = {
    "connect": "write `async with connect(...) as store:`",
    "session": "write `async with store.session() as session:`",
    "subscribe": "write `async with store.subscribe() as events:`",
}


@pytest.mark.parametrize("name", REMEDIES)
async def test_misuse_names_the_remedy(name: str) -> None:
    async with connect("memory://") as store:
        make: Any = (lambda: connect("memory://")) if name == "connect" else getattr(store, name)
        with pytest.raises(InvalidArgumentTypeError) as awaited:
            await make()
        with pytest.raises(InvalidArgumentTypeError) as iterated:
            async for _ in make():
                pass
        with pytest.raises(InvalidArgumentTypeError) as entered, make():
            pass
        with pytest.raises(AttributeError) as forgotten:
            await make().append("s", [])
        for error in (awaited, iterated, entered, forgotten):
            assert REMEDIES[name] in str(error.value)
        assert not hasattr(make(), "append")
        async with make() as inside:
            assert hasattr(inside, "append") or name == "subscribe"
