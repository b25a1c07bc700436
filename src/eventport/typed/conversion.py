"""Instances of a program's classes to JSON values, and back; never in a way that changes them."""

from __future__ import annotations

import re

from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from typing import Any, Final, TypeVar, cast
from weakref import WeakKeyDictionary

import msgspec

from msgspec import Struct

from eventport.errors import InvalidArgumentTypeError, InvalidEventError
from eventport.typed.fitting import Check
from eventport.typed.fitting_models import check_of_model, has_plain_methods
from eventport.typed.fitting_records import check_of_record
from eventport.typed.sameness import find_difference, parts
from eventport.validation import check_plain_function, show, show_key


C = TypeVar("C")

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode

# What msgspec says of a value without quoting it; the path may follow.
_MSGSPEC_REASON: Final = re.compile(
    r"(Expected `.*|Object missing required field `[^`]*`|Number out of range"
    r"|Object contains unknown field `\w{1,60}`|Invalid [A-Za-z0-9 ]+"
    r"|Encoding objects of type \S+ is unsupported|Only dicts with [a-z -]+ keys are supported)"
)
_MSGSPEC_PATH: Final = re.compile(r"(?:`key` in )?`\$([\w.\[\]-]*)`")

_MAX_DEPTH: Final = 64
"""How deep a part that cannot be encoded is searched for; a value may refer to itself."""


class Conversion(Struct, frozen=True):
    """How the instances of a class become JSON values, and come back."""

    name: str
    """The name of the class, with which the paths in messages begin."""
    encode: Callable[[Any], Any]
    """Turns an instance into JSON values."""
    decode: Callable[[Any], Any]
    """Turns JSON values into an instance."""
    is_jsonable: Callable[[Any], bool]
    """Returns whether a part of an instance can be turned into JSON by itself."""
    fits: Check | None
    """Finds those instances that need no comparison, if that can be said of the class."""
    is_same: Callable[[Any, Any], bool] | None = None
    """Returns whether an instance and what it came back as are the same, though they differ."""
    encode_fitting: Callable[[Any], Any] | None = None
    """A faster `encode` for instances that `fits` has found, if there is one."""

    def to_json(self, value: object, what: str) -> Any:
        """Turn an instance into JSON values that come back as the same: equal, of equal types.

        Args:
            value: The instance.
            what: What it is, for the message.

        Raises:
            InvalidEventError: it would not; the message has the path, and no values.
        """
        fits, fast = self.fits, self.encode_fitting
        try:
            if fits is not None and fast is not None and fits(value):
                return fast(value)
            plain = self.encode(value)
        except Exception as exc:
            path = "".join(self._unfit(value, 0))
            raise self._refusal(what, path, f"cannot be encoded: {explain(exc)[1]}") from exc
        if fits is not None and fast is None and fits(value):
            return plain
        try:
            back = self.decode(plain)
        except Exception as exc:
            path, reason = explain(exc)
            raise self._refusal(what, path, f"could not be read again: {reason}") from exc
        found = find_difference(value, back)
        if found is not None and not (self.is_same and self.is_same(value, back)):
            raise self._refusal(what, *found)
        return plain

    def _refusal(self, what: str, path: str, reason: str) -> InvalidEventError:
        message = f"{what} would not come back as it is: {self.name}{path}: {reason}"
        return InvalidEventError(message)

    def _unfit(self, value: object, depth: int) -> Iterator[str]:
        """Give the path to the innermost part that cannot be turned into JSON."""
        for segment, part in parts(value) if depth < _MAX_DEPTH else ():
            if not self.is_jsonable(part):
                yield segment
                yield from self._unfit(part, depth + 1)
                return


def conversion_of(cls: type) -> Conversion:
    """Return how the instances of a class are converted.

    Raises:
        InvalidArgumentTypeError: it is no class that can be converted.
    """
    if not isinstance(cast("object", cls), type):
        message = f"a class is needed here, not {show(cls)}"
        raise InvalidArgumentTypeError(message)
    if (known := _conversions.get(cls)) is None:
        known = _conversions[cls] = _pydantic(cls) if is_pydantic(cls) else _msgspec(cls)
    return known


def custom_conversion(
    cls: type[C], encode: Callable[[C], Any], decode: Callable[[Any], C]
) -> Conversion:
    """Return the conversion of a class by functions of the program's.

    Two instances are also the same if they are encoded equally, since classes that other
    programs generate may have no other comparison.
    """
    for name, function in (("encode", encode), ("decode", decode)):
        if not callable(function):
            message = f"{name} must be a function, not {show(function)}"
            raise InvalidArgumentTypeError(message)
        check_plain_function(name, function)
    if not isinstance(cast("object", cls), type):
        message = f"a class is needed here, not {show(cls)}"
        raise InvalidArgumentTypeError(message)
    is_opaque = not is_record(cls)

    def is_same(value: Any, back: Any) -> bool:
        return is_opaque and type(value) is type(back) and bool(encode(value) == encode(back))

    return Conversion(cls.__qualname__, encode, decode, lambda _: True, None, is_same)


_conversions: Final[WeakKeyDictionary[type, Conversion]] = WeakKeyDictionary()


def is_pydantic(cls: object) -> bool:
    """Return whether a class is a pydantic model."""
    return hasattr(cls, "model_validate_json") and hasattr(cls, "model_dump")


def is_record(cls: type[Any]) -> bool:
    """Return whether a class is a dataclass, attrs class, Struct or pydantic model."""
    declares = is_dataclass(cls) or issubclass(cls, Struct) or hasattr(cls, "__attrs_attrs__")
    return declares or is_pydantic(cls)


def explain(exc: Exception) -> tuple[str, str]:
    """Return the path at which a value did not fit, and why, without quoting the value.

    The texts of msgspec, of pydantic and of a class's own checks may hold values, so that only
    what is known to be free of them is taken.
    """
    if callable(getattr(exc, "errors", None)) and hasattr(exc, "error_count"):
        pydantic: Any = exc
        return _explain_pydantic(
            pydantic.errors(include_url=False, include_input=False, include_context=False)
        )
    if isinstance(exc, msgspec.ValidationError | TypeError):
        text, _, place = str(exc).rpartition(" - at ")
        path = _MSGSPEC_PATH.fullmatch(place)
        if (known := _MSGSPEC_REASON.match(text if path else str(exc))) is not None:
            return path[1] if path else "", known[0].strip()
    error = exc.__cause__ if isinstance(exc, msgspec.ValidationError) else exc
    return "", f"{type(error or exc).__name__} was raised"


def _explain_pydantic(errors: list[dict[str, Any]]) -> tuple[str, str]:
    path = "".join(
        f".{part}"
        if isinstance(part, str) and part.isidentifier()
        else f"[{part if isinstance(part, int) else show_key(part, 0)}]"
        for part in errors[0]["loc"]
    )
    more = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
    return path, errors[0]["type"].replace("_", " ") + more


def _pydantic(cls: Any) -> Conversion:
    from pydantic_core import to_jsonable_python  # noqa: PLC0415  # only where it is in use

    is_plain = has_plain_methods(cls) and cls.__pydantic_complete__
    # What `model_dump` calls: it has more arguments than a small event has fields.
    dump: Any = cls.__pydantic_serializer__.to_python if is_plain else cls.model_dump

    def encode_fitting(value: Any) -> Any:
        # Without warnings, which quote values: what they warn of is found by the comparison.
        return dump(value, mode="json", by_alias=True, round_trip=True, warnings=False)

    def encode(value: Any) -> Any:
        plain = encode_fitting(value)
        _encode(plain)  # it refuses text and numbers that pydantic lets through
        return plain

    def decode(plain: Any) -> Any:
        # As JSON, since a strict model takes no text for a time from Python, but from JSON.
        return cls.model_validate_json(_encode(plain))

    def is_jsonable(part: Any) -> bool:
        return _works(lambda: _encode(to_jsonable_python(part)))

    fits = check_of_model(cls)
    return Conversion(
        cls.__name__, encode, decode, is_jsonable, fits, encode_fitting=encode_fitting
    )


def _msgspec(cls: type[Any]) -> Conversion:
    try:
        msgspec.json.Decoder(cls)  # it checks all fields
    except (TypeError, NameError) as exc:
        message = f"{cls.__qualname__} cannot be turned into JSON and back: {exc}"
        raise InvalidArgumentTypeError(message) from exc

    def encode(value: Any) -> Any:
        return _decode(_encode(value))

    def decode(plain: Any) -> Any:
        return msgspec.convert(plain, cls, str_keys=True)

    return Conversion(
        cls.__name__,
        encode,
        decode,
        lambda part: _works(lambda: _encode(part)),
        check_of_record(cls),
    )


def _works(function: Callable[[], object]) -> bool:
    try:
        function()
    except Exception:  # noqa: BLE001  # whatever it is: only whether there is one matters
        return False
    return True
