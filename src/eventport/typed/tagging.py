"""Fields that are tags: ``course: Annotated[str, Tag("course")]`` makes the tag ``course:1``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import Any, TypeAlias, cast, get_type_hints
from uuid import UUID

from msgspec import Struct

from eventport.errors import InvalidArgumentError, InvalidArgumentTypeError, InvalidEventError


TagsOf: TypeAlias = Callable[[Any], AbstractSet[str]]
"""Returns the tags of an instance."""


class Tag(Struct, frozen=True):
    """Marks a field of an event's class whose value is a tag.

    The value is text, a whole number or a UUID; None for no tag; or a collection of these, each of
    which is a tag of its own.
    """

    prefix: str
    """What stands before the value, with a colon in between."""

    def __post_init__(self) -> None:
        """Refuse what makes no readable tag."""
        if not isinstance(cast("object", self.prefix), str) or not self.prefix:
            message = f"Tag takes what stands before the value, such as 'course': {self.prefix!r}"
            raise InvalidArgumentTypeError(message)

    def of(self, value: object, what: str) -> set[str]:
        """Return the tags that a value makes.

        Raises:
            InvalidEventError: it makes none; the message does not show it.
        """
        if value is None:
            return set()
        if isinstance(value, (str, UUID, int)) and not isinstance(value, bool):
            return {f"{self.prefix}:{value}"}
        if isinstance(value, (list, tuple, set, frozenset)):
            parts = cast("Iterable[object]", value)
            return {tag for part in parts for tag in self.of(part, what)}
        message = (
            f"{what} is a tag, and of type {type(value).__name__}: text, a whole number, a UUID, "
            "None, or a collection of these can be a tag"
        )
        raise InvalidEventError(message)


def tags_of(cls: type, given: TagsOf | None) -> TagsOf | None:
    """Return what gives the tags of a class's instances: its marked fields, and a function.

    Raises:
        InvalidArgumentError: a field seems to be marked, but its annotation cannot be resolved.
    """
    fields = _marked(cls)
    if not fields:
        return given

    def tags(event: Any) -> AbstractSet[str]:
        found: set[str] = set() if given is None else set(given(event))
        for name, tag in fields:
            found |= tag.of(getattr(event, name), f"{cls.__qualname__}.{name}")
        return found

    return tags


def _marked(cls: type) -> list[tuple[str, Tag]]:
    try:
        hints = get_type_hints(cls, include_extras=True)
    except Exception as exc:
        # A class that is never asked for its annotations may have some that mean nothing.
        annotations = (vars(base).get("__annotations__", {}) for base in cls.__mro__)
        texts = (str(text) for one in annotations for text in one.values())
        if not any("Tag(" in text for text in texts):
            return []
        message = (
            f"{cls.__qualname__} has a field that is a tag, but its annotations cannot be resolved "
            "outside of the function that defines it: define the class in a module, or pass tags="
        )
        raise InvalidArgumentError(message) from exc
    return [
        (name, mark)
        for name, hint in hints.items()
        for mark in getattr(hint, "__metadata__", ())
        if isinstance(mark, Tag)
    ]
