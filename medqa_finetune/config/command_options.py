"""Options of a command: typed as `key=value`, described by one dataclass, which checks them and renders `--help`.

A command declares its options as a frozen dataclass derived from `Options`, one field per option, made by `option`:

    @dataclass(frozen=True)
    class SummarizeOptions(Options):
        outputs: str = option("outputs", "folder with runs, at any depth", value="DIR")

`parse_options` fills it from the command line and `describe` renders it. OmegaConf checks the types, as it does for the
settings of an experiment. It is imported inside functions, since `--help` is faster without it.
"""

import dataclasses
import textwrap
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from medqa_finetune.config.corrections import Words, kind_of, refuse_mistyped
from medqa_finetune.config.ranges import one_of
from medqa_finetune.config.schema_faults import Annotation, alternatives, type_fault, type_name, unknown_key
from medqa_finetune.errors import NO_VALUE, ConfigError, Fault, brief

T = TypeVar("T")
# Takes the key as typed and the value, which is not None.
Check = Callable[[str, Any], Iterable[Fault]]

# Most characters of a library's message inside ours.
WORDS_CHARS = 100
# Columns of `--help`.
WIDTH, FORM_WIDTH = 118, 28
METADATA = "option"
FLAG = "--"


@dataclasses.dataclass(frozen=True)
class _Description:
    text: str
    value: str
    allowed: tuple[str, ...]
    check: Check | None
    heading: str
    bare: bool
    positional: bool


def option(
    default: Any,
    text: str,
    *,
    value: str = "",
    allowed: Sequence[str] = (),
    check: Check | None = None,
    heading: str = "",
    bare: bool = False,
    positional: bool = False,
) -> Any:
    """Return a dataclass field that is an option of a command.

    Args:
        default: Value where it is not typed.
        text: Description for `--help`; states what None means.
        value: Placeholder of the value in `--help` (`DIR`); derived from `allowed` or the type if empty.
        allowed: The allowed values, or for a list the allowed elements; any if empty.
        check: Yields faults of a value that is not None, for instance a function of `config/ranges`.
        heading: Heading in `--help` above this option.
        bare: Typed without the prefix that the command's other options have.
        positional: May be typed without its key; such options are filled in the order of the fields.
    """
    described = {METADATA: _Description(text, value, tuple(allowed), check, heading, bare, positional)}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=described)
    return dataclasses.field(default=default, metadata=described)


class Options:
    """Base of a command's options.

    Attributes:
        PREFIX: Prefix of the typed keys, `plan.` for instance.

    Raises:
        ConfigError: with every fault of the values.
    """

    PREFIX: ClassVar[str] = ""

    def __post_init__(self) -> None:
        faults = [*self._value_faults(), *self.conflicts()]
        if faults:
            raise ConfigError(*faults)

    def conflicts(self) -> Iterable[Fault]:
        """Return faults that involve more than one option; none by default."""
        return ()

    def _value_faults(self) -> Iterator[Fault]:
        for key, field in _typed_fields(type(self)).items():
            described = _description(field)
            value = getattr(self, field.name)
            if described is None or value is None:
                continue
            if described.allowed:
                for each in value if isinstance(value, list) else [value]:
                    yield from one_of(key, each, described.allowed)
            if described.check is not None:
                yield from described.check(key, value)


def parse_options(schema: type[T], arguments: Sequence[str], *, prefix: str = "") -> T:
    """Return `schema` filled from `key=value` arguments.

    Args:
        schema: A flat dataclass, each field of it with a default. Text fields take the value as typed (`run=010` is
            the folder `010`), `null` being None; others are read as YAML.
        arguments: Arguments typed after the command.
        prefix: Prefix of the keys of a schema that is not an `Options`.

    Raises:
        ConfigError: an argument without `=`, an unknown or repeated key, or a value of the wrong type; its fault names
            the key as it is typed, the value, and for an unknown key the allowed ones.
    """
    hints = typing.get_type_hints(schema)
    fields = {key: field.name for key, field in _typed_fields(schema, prefix).items()}
    values: dict[str, Any] = {}
    if issubclass(schema, Options):
        refuse_mistyped(arguments, lambda: option_words(schema))
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals:
            problem = "must be key=value with a known key"
            raise ConfigError(Fault("not-key-value", problem, got=argument, allowed=tuple(fields)))
        if key not in fields:
            raise ConfigError(unknown_key(brief(key), text, fields))
        if key in values:
            raise ConfigError(Fault("given-twice", "is given twice", key=key, got=text))
        values[key] = _value(key, text, hints[fields[key]])
    return _filled(schema, values, fields)


def option_words(schema: type[Options]) -> Words:
    """Return what may be typed after a command with these options."""
    hints = typing.get_type_hints(schema)
    fields = _typed_fields(schema)
    placeholders = {key: each.value for key, field in fields.items() if (each := _description(field)) is not None}

    def path_key(path: Path) -> list[str]:
        what = "DIR" if path.is_dir() else "FILE" if path.is_file() else None
        return next(([f"{key}={path}"] for key, value in placeholders.items() if what and what in value), [])

    kinds = {key: kind_of(hints[field.name]) for key, field in fields.items()}
    choices = {key: each.allowed for key, field in fields.items() if (each := _description(field)) and each.allowed}
    return Words(kinds, choices, path_key=path_key)


def split_options(schema: type[Options], arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split arguments into a command's own options and the rest, both in the order typed."""
    keys = option_keys(schema)
    own = [
        argument
        for argument in arguments
        if argument.partition("=")[0] in keys or (schema.PREFIX and argument.startswith(schema.PREFIX))
    ]
    return own, [argument for argument in arguments if argument not in own]


def option_keys(schema: type[Options]) -> tuple[str, ...]:
    """Return the keys of a command's options, with their prefix."""
    return tuple(_typed_fields(schema))


def from_flags(schema: type[Options], arguments: Sequence[str]) -> list[str]:
    """Convert arguments typed as flags or without their key to `key=value`; others do not change.

    `--to DIR` and `--to=DIR` become `to=DIR`, `--sizes 20k 50k` becomes `sizes=[20k,50k]`, `--cache-only` becomes
    `cache_only=true`.

    Raises:
        ConfigError: an unknown flag, or one without its value.
    """
    hints = typing.get_type_hints(schema)
    fields = _typed_fields(schema)
    unnamed = [key for key, field in fields.items() if (each := _description(field)) and each.positional]
    waiting, found = list(arguments), []
    while waiting:
        argument = waiting.pop(0)
        name, equals, text = argument.removeprefix(FLAG).partition("=")
        key = name.replace("-", "_")
        if not argument.startswith(FLAG):
            found.append(f"{unnamed.pop(0)}={argument}" if unnamed and not equals else argument)
        elif key not in fields:
            raise ConfigError(unknown_key(argument.partition("=")[0], text if equals else NO_VALUE, fields))
        elif equals:
            found.append(f"{key}={text}")
        elif hints[fields[key].name] is bool:
            found.append(f"{key}=true")
        else:
            found.append(f"{key}={_values_of_flag(argument, waiting, hints[fields[key].name])}")
    return found


def _values_of_flag(flag: str, waiting: list[str], hint: Annotation) -> str:
    """Remove the values of a flag from the front of `waiting`, and return them as one value."""
    if not waiting or waiting[0].startswith(FLAG):
        raise ConfigError(Fault("missing-value", f"must be followed by {type_name(hint)}", key=flag))
    if typing.get_origin(hint) is not list:
        return waiting.pop(0)
    values = []
    while waiting and not waiting[0].startswith(FLAG) and "=" not in waiting[0]:
        values.append(waiting.pop(0))
    return f"[{','.join(values)}]"


def describe(schema: type[Options]) -> str:
    """Return the options of a command for `--help`: each with form, description and default."""
    hints = typing.get_type_hints(schema)
    lines = []
    for key, field in _typed_fields(schema).items():
        described = _description(field)
        if described is None:
            continue
        if described.heading:
            lines.append(f"{described.heading}:")
        form = f"{key}={described.value or _form(hints[field.name], described.allowed)}"
        lines.append(help_line(form, described.text + _default_in_words(field)))
    return "\n".join(lines) + "\n"


def help_line(form: str, text: str) -> str:
    """Return one entry of `--help`: the form, and in a second column, wrapped, the description."""
    indent = " " * FORM_WIDTH
    wrapped = textwrap.wrap(text, WIDTH - FORM_WIDTH, break_on_hyphens=False, break_long_words=False)
    first = f"  {form}".ljust(FORM_WIDTH) if len(form) + 4 <= FORM_WIDTH else f"  {form}\n{indent}"
    return first + f"\n{indent}".join(wrapped)


def _form(hint: Annotation, allowed: Sequence[str]) -> str:
    kind = next(each for each in alternatives(hint) if each is not type(None))
    if typing.get_origin(kind) is list:
        return "[a,b]"
    if allowed:
        return "|".join(allowed)
    return "true|false" if kind is bool else "N" if kind in (int, float) else "TEXT"


def _default_in_words(field: "dataclasses.Field[Any]") -> str:
    if field.default is None or field.default == "":
        return ""
    value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    return f" (default {value:g})" if isinstance(value, float) else f" (default {brief(value)})"


def _description(field: "dataclasses.Field[Any]") -> _Description | None:
    return typing.cast("_Description | None", field.metadata.get(METADATA))


def _typed_fields(schema: type, prefix: str = "") -> dict[str, "dataclasses.Field[Any]"]:
    before = schema.PREFIX if issubclass(schema, Options) else prefix
    found = {}
    own = vars(schema).get("__annotations__", {})
    # A command's own options come before those that it shares with others.
    for field in sorted(dataclasses.fields(schema), key=lambda field: field.name not in own):
        described = _description(field)
        found[field.name if described is not None and described.bare else before + field.name] = field
    return found


def _filled(schema: type[T], values: Mapping[str, Any], fields: Mapping[str, str]) -> T:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from medqa_finetune.compat.omegaconf import refusal_of, words_of

    # A frozen dataclass gives a read-only node, with read-only children.
    config, hints = OmegaConf.structured(schema), typing.get_type_hints(schema)
    for key, value in values.items():
        OmegaConf.set_readonly(config, False)
        try:
            OmegaConf.update(config, fields[key], value)
        except OmegaConfBaseException:
            raise ConfigError(type_fault(hints[fields[key]], key, value)) from None
    try:
        return typing.cast("T", OmegaConf.to_object(config))
    except OmegaConfBaseException as error:  # text with `${…}` in it
        refused, words = refusal_of(error).key, words_of(error)[:WORDS_CHARS]
        key = next((key for key in values if fields[key] == refused), refused)
        problem = f"cannot be resolved ({words})"
        raise ConfigError(Fault("unresolved", problem, key=key or None, got=values.get(key, NO_VALUE))) from None


def _value(key: str, text: str, hint: Annotation) -> object:
    if str in alternatives(hint):
        return None if text == "null" and type(None) in alternatives(hint) else text
    import yaml

    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # also an int of over 4,300 digits, or lists in lists in …
        problem = f"must be {type_name(hint)}, and cannot be read as YAML"
        raise ConfigError(Fault("not-yaml", problem, key=key, got=text)) from None
    if isinstance(value, list) and any(isinstance(part, list | dict) for part in value):
        raise ConfigError(Fault("wrong-type", f"must be {type_name(hint)}, without lists inside", key=key, got=value))
    if value is None and type(None) not in alternatives(hint):
        raise ConfigError(type_fault(hint, key, value if text.strip() else text))
    return value
