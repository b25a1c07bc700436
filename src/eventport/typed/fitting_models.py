"""What may be in a pydantic model, so that it need not be compared.

A model's core schema says all that pydantic does between its fields and JSON: validators,
aliases, excluded fields and serializers stand there. What has only keys that are known here has
none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from eventport.typed import fitting
from eventport.typed.fitting import Accepted, Check


_Schema: TypeAlias = Mapping[str, Any]

_NAMING: Final = frozenset({"type", "ref", "metadata"})
"""Keys without a meaning for values."""

_KEYS: Final[Mapping[str, frozenset[str]]] = {
    kind: _NAMING | set(keys.split())
    for kind, keys in {
        "model": "cls schema config root_model custom_init",
        "model-fields": "fields model_name computed_fields",
        "model-field": "schema frozen",
        "definition-ref": "schema_ref",
        "default": "schema default default_factory default_factory_takes_data validate_default",
        "nullable": "schema",
        "list": "items_schema",
        "tuple": "items_schema variadic_item_index",
        "dict": "keys_schema values_schema",
        "literal": "expected",
        "enum": "cls members sub_type",
        "datetime": "microseconds_precision",
        **dict.fromkeys(("str", "int", "float", "bool", "none", "decimal", "uuid", "date"), ""),
    }.items()
}
_CONFIG: Final = frozenset(
    {
        "title",
        "strict",
        "frozen",
        "from_attributes",
        "hide_input_in_errors",
        "extra_fields_behavior",
    }
)

_LEAVES: Final[Mapping[str, Accepted]] = {
    "str": fitting.UNICODE,
    "int": fitting.INT64,
    "float": fitting.FLOAT,
    "bool": fitting.BOOL,
    "none": fitting.NONE,
    "decimal": fitting.FINITE_DECIMAL,
    "uuid": fitting.ID,
    "date": fitting.DATE,
    "datetime": fitting.TIME,
}


def check_of_model(cls: Any) -> Check | None:
    """Return a check for the instances of a model; None if there is none for this model."""
    if not has_plain_methods(cls) or not cls.__pydantic_complete__:
        return None
    schema: _Schema = cls.__pydantic_core_schema__
    known: list[_Schema] = []
    if schema["type"] == "definitions":
        known, schema = schema["definitions"], schema["schema"]
    accepted = _Reader({one["ref"]: one for one in known}).accepted(schema)
    return None if accepted is None else accepted.get(cls)


def has_plain_methods(cls: Any) -> bool:
    """Return whether a model leaves its conversion to pydantic's own methods."""
    from pydantic import BaseModel  # noqa: PLC0415  # only where it is in use

    return issubclass(cls, BaseModel) and all(
        getattr(getattr(cls, name), "__func__", getattr(cls, name))
        is getattr(getattr(BaseModel, name), "__func__", getattr(BaseModel, name))
        for name in ("model_dump", "model_validate_json")
    )


class _Reader:
    """Reads a core schema, whose definitions may refer to each other."""

    def __init__(self, definitions: Mapping[str, _Schema]) -> None:
        self._definitions = definitions
        self._made: dict[type, Check] = {}

    def accepted(self, schema: _Schema) -> Accepted | None:  # noqa: PLR0911  # one for each kind
        """Return what a field with this schema may hold; None if it may be anything."""
        kind = schema["type"]
        if not schema.keys() <= _KEYS.get(kind, frozenset()):
            return None
        match kind:
            case "definition-ref":
                return self.accepted(self._definitions[schema["schema_ref"]])
            case "default" | "model-field":
                return self.accepted(schema["schema"])
            case "nullable":
                return fitting.or_none(self.accepted(schema["schema"]))
            case "list" | "tuple" | "dict":
                return self._container(schema)
            case "literal":
                return fitting.one_of(schema["expected"])
            case "enum":
                return fitting.member_of(schema["cls"])
            case "model":
                check = self._model(schema)
                return None if check is None else {schema["cls"]: check}
            case _:
                return _LEAVES.get(kind)

    def _container(self, schema: _Schema) -> Accepted | None:
        kind = schema["type"]
        if kind == "dict":
            values = self.accepted(schema.get("values_schema", _ANY))
            is_text = schema.get("keys_schema", _ANY).keys() == {"type"}
            is_text = is_text and schema["keys_schema"]["type"] == "str"
            if values is None or not is_text:
                return None
            return {dict: fitting.all_values_of(values, fitting.UNICODE)}
        items: Any = schema.get("items_schema", _ANY)
        if kind == "tuple":
            if schema.get("variadic_item_index") != 0 or len(items) != 1:
                return None
            items = items[0]
        accepted = self.accepted(items)
        return (
            None
            if accepted is None
            else {list if kind == "list" else tuple: fitting.all_of(accepted)}
        )

    def _model(self, schema: _Schema) -> Check | None:
        cls, made = schema["cls"], self._made
        if cls in made:
            return made[cls]
        if not _is_simple(schema):
            return None

        def itself(value: Any) -> bool:
            return made[cls](value)

        made[cls] = itself  # until its check is there
        fields: dict[str, Accepted] = {}
        for name, field in schema["schema"]["fields"].items():
            if (accepted := self.accepted(field)) is None:
                return None
            fields[name] = accepted
        # What is no field.
        fields["__pydantic_extra__"] = fields["__pydantic_private__"] = fitting.NONE
        if (check := fitting.record_check(cls, fields)) is not None:
            made[cls] = check
        return check


def _is_simple(model: _Schema) -> bool:
    """Return whether a model has only fields, and no code of its own between these and JSON."""
    cls, config, inner = model["cls"], model.get("config", {}), model["schema"]
    if model.get("root_model") or model.get("custom_init"):
        return False
    if not config.keys() <= _CONFIG or config.get("extra_fields_behavior") == "allow":
        return False
    if not inner.keys() <= _KEYS["model-fields"] or inner.get("computed_fields"):
        return False
    return fitting.has_plain_attributes(cls) and [*inner["fields"]] == [*cls.__pydantic_fields__]


_ANY: Final[_Schema] = {"type": "any"}
