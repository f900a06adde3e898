"""How a door reads `key=value` arguments, and how its errors become one line and an exit code."""

import contextlib
import dataclasses
import difflib
import enum
import errno
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

from medqa_finetune.collector import collect_no_more
from medqa_finetune.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_RUN_FAILED, ConfigError, MedQAError
from medqa_finetune.log import shown, visible
from medqa_finetune.stopping import EXIT_OFFSET, Interrupted
from medqa_finetune.versions import warn_of_untested_versions

T = TypeVar("T")

HELP = ("--help", "-h")
# Of what was typed, in a message.
SHOWN_CHARS = 100
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
    """Return an override with quotes where Hydra's grammar wants them: around Chinese text, spaces, brackets, `=`.

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


def parse_options(schema: type[T], arguments: Sequence[str], prefix: str = "") -> T:
    """Return `schema` filled from `key=value` arguments.

    Args:
        schema: A dataclass, flat, each field of it with a default. Text fields take the value as typed (`run=010` is
            the folder `010`), `null` being None; others are read as YAML.
        arguments: What was typed after the command.
        prefix: What stood before each key, and is named in faults.

    Raises:
        ConfigError: an argument without `=`, an unknown or repeated key, or a value of the wrong type; names the key,
            the value and the allowed keys.
    """
    try:
        return _parsed(schema, arguments)
    except ConfigError as error:
        raise ConfigError(*(prefix + fault.problem.lstrip("'") for fault in error.faults)) from None


def _parsed(schema: type[T], arguments: Sequence[str]) -> T:
    hints = typing.get_type_hints(schema)
    values: dict[str, Any] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals:
            raise ConfigError(f"{_brief(argument)}: key=value is wanted; the keys are {_listed(hints)}.")
        if key not in hints:
            raise ConfigError(
                f"{_brief(argument)}: unknown key {_brief(key)}{_guess(key, hints)}; the keys are {_listed(hints)}."
            )
        if key in values:
            raise ConfigError(f"{_brief(argument)}: {key} is given twice.")
        values[key] = _value(argument, text, hints[key])
    return _filled(schema, values, hints)


def _filled(schema: type[T], values: dict[str, Any], hints: dict[str, Any]) -> T:
    # Loaded where they are needed: --help answers sooner without them.
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from medqa_finetune.compat.omegaconf import refusal_of, words_of

    # OmegaConf checks types against the dataclass. A frozen dataclass arrives read-only, and so do its children.
    config = OmegaConf.structured(schema)
    for key, value in values.items():
        OmegaConf.set_readonly(config, False)
        try:
            OmegaConf.update(config, key, value)
        except OmegaConfBaseException as error:
            reason = words_of(error)
            raise ConfigError(
                f"{key}={_brief(value)}: {type_name(hints[key])} is wanted ({reason[:SHOWN_CHARS]})."
            ) from None
    try:
        return typing.cast("T", OmegaConf.to_object(config))
    except OmegaConfBaseException as error:  # text with `${…}` in it
        key, reason = refusal_of(error).key, words_of(error)
        setting = f"{key}={_brief(values[key])}" if key in values else key or "an argument"
        raise ConfigError(f"{setting}: this cannot be resolved ({reason[:SHOWN_CHARS]}).") from None


def _value(argument: str, text: str, hint: Any) -> Any:
    if str in alternatives(hint):
        return None if text == "null" and type(None) in alternatives(hint) else text
    import yaml

    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # also an int of over 4,300 digits, or lists in lists in …
        raise ConfigError(f"{_brief(argument)}: {type_name(hint)} is wanted, and this cannot be read.") from None
    if isinstance(value, list) and any(isinstance(part, list | dict) for part in value):
        raise ConfigError(f"{_brief(argument)}: {type_name(hint)} is wanted, without lists inside.")
    if value is None and type(None) not in alternatives(hint):
        raise ConfigError(f"{_brief(argument)}: {type_name(hint)} is wanted, got nothing.")
    return value


def _brief(typed: Any) -> str:
    """Return what was typed as it is shown in a message, however long it is."""
    return repr(typed) if len(repr(typed)) <= SHOWN_CHARS else repr(typed)[:SHOWN_CHARS] + "…"


def alternatives(hint: Any) -> tuple[Any, ...]:
    """Return the types that an annotation allows."""
    return typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)


def type_name(hint: Any) -> str:
    """Return what an annotation allows, as it is said to whoever typed something else: `a whole number or null`."""
    return " or ".join(map(_name, alternatives(hint)))


def _name(hint: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "null"}
    if hint in names:
        return names[hint]
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return " or ".join(hint.__members__)
    is_mapping = dataclasses.is_dataclass(hint) or dict in (hint, typing.get_origin(hint))
    return "a mapping of keys to values" if is_mapping else "a list such as [a,b]"


def _listed(hints: dict[str, Any]) -> str:
    return ", ".join(hints)


def _guess(key: str, hints: dict[str, Any]) -> str:
    close = difflib.get_close_matches(key.lstrip("+~-"), hints, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def run_door(door: Callable[[list[str]], int], arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a door and end the process with its exit code.

    An error that the package raised on purpose is printed as `error: …` on standard error, without a traceback, and so
    is a path that the system does not take; any other is a defect and keeps its traceback. A reader that went away
    (`| head`) ends the process quietly.

    Args:
        door: Takes the arguments, returns an exit code.
        arguments: What was typed after the command; the process's own if None.
    """
    typed = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not wants_help(typed):
            warn_of_untested_versions()
        code = door(typed)
        sys.stdout.flush()
    except MedQAError as error:
        _complain(f"error: {error}")
        code = error.exit_code
    except KeyboardInterrupt:
        _complain("interrupted")
        code = EXIT_INTERRUPTED
    except Interrupted as error:
        _complain(f"{error}; the same command goes on from here")
        code = EXIT_OFFSET + error.number
    except BrokenPipeError:
        # Python flushes standard output once more while it exits; give that flush somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_RUN_FAILED
    except OSError as error:
        if error.errno not in BAD_PATH:
            raise
        _complain(f"error: {str(error.filename)[:SHOWN_CHARS]}: {error.strerror}. Give another path.")
        code = EXIT_BAD_INPUT
    collect_no_more()
    sys.exit(code)


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
