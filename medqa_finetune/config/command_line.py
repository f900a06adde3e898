"""How a command reads `key=value` arguments, and how its errors become lines, JSON and an exit code."""

import contextlib
import dataclasses
import difflib
import enum
import errno
import json
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from medqa_finetune.child_process import leave_faults
from medqa_finetune.errors import EXIT_INTERRUPTED, EXIT_RUN_FAILED, NO_VALUE, ConfigError, Fault, MedQAError, brief
from medqa_finetune.log import shown, visible
from medqa_finetune.runtime import collect_no_more
from medqa_finetune.stopping import EXIT_OFFSET, Interrupted
from medqa_finetune.versions import warn_of_untested_versions

T = TypeVar("T")

HELP = ("--help", "-h")
# Typed, it asks for one JSON object on standard output, also of what a command is refused for.
JSON_FORMAT = "format=json"
# Of a library's own words, in a message.
WORDS_CHARS = 100
# What looking at a path ends in that is too long, goes through a file or round in a circle, or may not be looked at.
BAD_PATH = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP, errno.EACCES)
# What Hydra's grammar takes as a value without quotes.
HYDRA_CAN_READ = re.compile(r"[A-Za-z0-9_/\-+.$%*@?|:]*")
PLAIN_ELEMENT = re.compile(r"[^\[\]{},:]+")
SWEPT_ELEMENT = re.compile(r"[^,]+")
CALL = re.compile(r"[a-z_]+\(.*\)")


def wants_help(arguments: Sequence[str]) -> bool:
    """Say whether usage was asked for."""
    return any(argument in HELP for argument in arguments)


def quoted(argument: str) -> str:
    """Return an override with quotes where Hydra's grammar needs them: around Chinese text, spaces, brackets, `=`.

    Lists (`[title,ask]`) and sweeps (`a,b`) are quoted element by element; what is quoted already, an interpolation or
    a function call (`range(1,4)`) stays as it is.
    """
    key, equals, value = argument.partition("=")
    if not equals or argument.startswith("-") or re.search(r"""['"]|\$\{|\\""", value) or CALL.fullmatch(value):
        return argument
    inside = PLAIN_ELEMENT if value.startswith(("[", "{")) else SWEPT_ELEMENT
    return f"{key}={inside.sub(_quoted_element, value)}"


def _quoted_element(found: re.Match[str]) -> str:
    text = found.group()
    return text if HYDRA_CAN_READ.fullmatch(text) else f"'{text}'"


def parse_options(schema: type[T], arguments: Sequence[str], *, prefix: str = "", bare: Collection[str] = ()) -> T:
    """Return `schema` filled from `key=value` arguments.

    Args:
        schema: A dataclass, flat, each field of it with a default. Text fields take the value as typed (`run=010` is
            the folder `010`), `null` being None; others are read as YAML.
        arguments: What was typed after the command.
        prefix: Stands before the keys as they are typed, `plan.` for instance.
        bare: Fields that are typed without it.

    Raises:
        ConfigError: an argument without `=`, an unknown or repeated key, or a value of the wrong type; its fault names
            the key as it is typed, the value, and where the key is unknown, the keys that are allowed.
    """
    hints = typing.get_type_hints(schema)
    fields = {name if name in bare else prefix + name: name for name in hints}
    values: dict[str, Any] = {}
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


def unknown_key(key: str, got: Any, allowed: Collection[str]) -> Fault:
    """Return the fault of a key that does not exist, with the one that may be meant."""
    close = difflib.get_close_matches(key.lstrip("+~-"), allowed, n=1)
    hint = f"Did you mean {close[0]}?" if close else ""
    return Fault("unknown-key", "there is no such key", key=key, got=got, allowed=tuple(allowed), hint=hint)


def _filled(schema: type[T], values: Mapping[str, Any], fields: Mapping[str, str]) -> T:
    # Loaded where they are needed: --help answers sooner without them.
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from medqa_finetune.compat.omegaconf import refusal_of, words_of

    # OmegaConf checks types against the dataclass. A frozen dataclass arrives read-only, and so do its children.
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


def _value(key: str, text: str, hint: Any) -> Any:
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


def type_fault(hint: Any, key: str | None, got: Any) -> Fault:
    """Return the fault of a value that is none of the types of an annotation."""
    members = tuple(_members(hint))
    if members:
        return Fault("not-allowed", "unknown value", key=key, got=got, allowed=members)
    return Fault("wrong-type", f"must be {type_name(hint)}", key=key, got=got)


def _members(hint: Any) -> Iterator[str]:
    for each in alternatives(hint):
        if isinstance(each, type) and issubclass(each, enum.Enum):
            yield from each.__members__


def alternatives(hint: Any) -> tuple[Any, ...]:
    """Return the types that an annotation allows."""
    return typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)


def type_name(hint: Any) -> str:
    """Return what an annotation allows, for whoever typed something else: `an integer or null`."""
    return " or ".join(map(_name, alternatives(hint)))


def _name(hint: Any) -> str:
    names = {bool: "true or false", int: "an integer", float: "a number", str: "text", type(None): "null"}
    if hint in names:
        return names[hint]
    is_mapping = dataclasses.is_dataclass(hint) or dict in (hint, typing.get_origin(hint))
    return "a mapping of keys to values" if is_mapping else "a list such as [a,b]"


def run_door(door: Callable[[list[str]], int], arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and end the process with its exit code.

    An error that the package raised on purpose is printed as `error: …` on standard error, without a traceback, and so
    is a path that the system does not take. With `format=json` among the arguments its fields are printed on standard
    output as well, as one JSON object, and where the environment variable `MEDQA_FAULTS_FILE` names a file, they are
    written there. Any other error is a defect and keeps its traceback. A reader that went away (`| head`) ends the
    process quietly.

    Args:
        door: The command: takes the arguments, returns an exit code.
        arguments: What was typed after the command; the process's own if None.
    """
    typed = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not wants_help(typed):
            warn_of_untested_versions()
        code = door(typed)
        sys.stdout.flush()
    except MedQAError as error:
        code = _refuse(error, typed)
    except KeyboardInterrupt:
        _complain("interrupted")
        code = EXIT_INTERRUPTED
    except Interrupted as error:
        _complain(f"{error}; the same command resumes from here")
        code = EXIT_OFFSET + error.number
    except BrokenPipeError:
        _close_output()
        code = EXIT_RUN_FAILED
    except OSError as error:
        if error.errno not in BAD_PATH:
            raise
        fault = Fault("bad-path", str(error.strerror), file=brief(error.filename), hint="Give another path.")
        code = _refuse(ConfigError(fault), typed)
    collect_no_more()
    sys.exit(code)


def _refuse(error: MedQAError, typed: Sequence[str]) -> int:
    """Say in every form that is asked for why a command is refused, and return its exit code."""
    _complain(f"error: {error}")
    # What UTF-8 cannot hold, halves of characters in names of files, JSON has as `\\ud83d`.
    fields = json.dumps(error.as_json(), ensure_ascii=False).encode(errors="backslashreplace").decode()
    if JSON_FORMAT in typed:
        try:
            print(fields, flush=True)
        except OSError:  # a reader that went away, or a disk that is full; the exit code still counts
            _close_output()
    leave_faults(fields)
    return error.exit_code


def _close_output() -> None:
    # Python flushes standard output once more while it exits; this gives that flush somewhere to go.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(text: str) -> None:
    # A terminal that was closed takes no more words; the exit code still counts.
    with contextlib.suppress(OSError):
        print(shown(text), file=sys.stderr)


def aligned_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str] = ()) -> str:
    """Return a plain text table, columns two spaces apart.

    Args:
        header: Column names, k of them.
        rows: Cells, k per row. Characters that a terminal would obey (escape codes, line breaks) are shown escaped.
        left: Names of columns aligned to the left; the others go to the right, as numbers do.
    """
    lines = [list(header), *([visible(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if name in left else cell.rjust(width)
            for name, cell, width in zip(header, line, widths, strict=True)
        ).rstrip()
        for line in lines
    )
