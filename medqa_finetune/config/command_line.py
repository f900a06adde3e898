"""How a command runs: its errors become lines, JSON and an exit code; its tables and overrides become text."""

import contextlib
import errno
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import medqa_finetune
from medqa_finetune.child_process import leave_faults
from medqa_finetune.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_RUN_FAILED, ConfigError, Fault, MedQAError, brief
from medqa_finetune.languages.choice import LANGUAGES, SYSTEM_VARIABLES, VARIABLE, choose
from medqa_finetune.languages.help_page import columns, help_page
from medqa_finetune.languages.translate import say
from medqa_finetune.log import shown, visible
from medqa_finetune.ranks import WITHOUT, refuse_several
from medqa_finetune.runtime import collect_no_more
from medqa_finetune.stopping import EXIT_OFFSET, Interrupted
from medqa_finetune.versions import warn_of_untested_versions

HELP = ("--help", "-h")
VERSION = "--version"
# Option of every command: the language of what it prints.
LANGUAGE = "lang"
LANGUAGE_HELP = (
    f"Every command takes {LANGUAGE}={'|'.join(LANGUAGES)}: the language of messages and help; the locale's "
    f"({', '.join(SYSTEM_VARIABLES)}) if left out."
)
# Requests one JSON object on standard output, also for errors.
JSON_FORMAT = "format=json"
# Errors of paths that are too long, go through a file, loop, or may not be read.
BAD_PATH = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP, errno.EACCES)
# Values that need no quotes in Hydra's grammar.
HYDRA_CAN_READ = re.compile(r"[A-Za-z0-9_/\-+.$%*@?|:]*")
PLAIN_ELEMENT = re.compile(r"[^\[\]{},:]+")
SWEPT_ELEMENT = re.compile(r"[^,]+")
CALL = re.compile(r"[a-z_]+\(.*\)")


def wants_help(arguments: Sequence[str]) -> bool:
    """Return whether the arguments ask for usage."""
    return any(argument in HELP for argument in arguments)


def print_help(page: str) -> None:
    """Print a command's usage in the chosen language."""
    print_words(help_page(f"{page.rstrip()}\n\n{LANGUAGE_HELP}"))


def print_words(text: str) -> None:
    """Print a text for people; characters that the encoding of standard output lacks are escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def without_language(arguments: Sequence[str]) -> list[str]:
    """Return arguments without `lang=`, and speak the language that it names from now on.

    Raises:
        ConfigError: there is no such language.
    """
    named = [each.removeprefix("--") for each in arguments if each.startswith((f"{LANGUAGE}=", f"--{LANGUAGE}="))]
    given = [(LANGUAGE, each.partition("=")[2]) for each in named] or [(VARIABLE, os.environ.get(VARIABLE, ""))]
    key, language = given[-1]
    if language in LANGUAGES:
        choose(language)
    elif named or language:
        os.environ.pop(VARIABLE, None)
        raise ConfigError(Fault("not-allowed", "there is no such language", key=key, got=language, allowed=LANGUAGES))
    return [each for each in arguments if each.removeprefix("--") not in named]


def quoted(argument: str) -> str:
    """Return an override with quotes where Hydra's grammar needs them: around Chinese text, spaces, brackets, `=`.

    Lists (`[title,ask]`) and sweeps (`a,b`) are quoted element by element; quoted values, interpolations and function
    calls (`range(1,4)`) do not change.
    """
    key, equals, value = argument.partition("=")
    if not equals or argument.startswith("-") or re.search(r"""['"]|\$\{|\\""", value) or CALL.fullmatch(value):
        return argument
    inside = PLAIN_ELEMENT if value.startswith(("[", "{")) else SWEPT_ELEMENT
    return f"{key}={inside.sub(_quoted_element, value)}"


def _quoted_element(found: re.Match[str]) -> str:
    text = found.group()
    return text if HYDRA_CAN_READ.fullmatch(text) else f"'{text}'"


def run_command(
    command: Callable[[list[str]], int], arguments: Sequence[str] | None = None, *, several: bool = False
) -> NoReturn:
    """Run a command and end the process with its exit code.

    Errors raised on purpose are printed as `error: …` on standard error, without a traceback; so are paths that the
    system refuses. With `format=json` among the arguments, the error is printed on standard output as well, as one JSON
    object; if the environment variable `MEDQA_FAULTS_FILE` names a file, it is written there too. Any other error is a
    defect and keeps its traceback. If the reader of standard output exits (`| head`), the process ends quietly.

    Args:
        command: Takes the arguments, returns an exit code.
        arguments: Arguments typed after the command; those of this process if None.
        several: Whether several processes of torchrun may run it together.
    """
    typed = list(sys.argv[1:] if arguments is None else arguments)
    # A notebook's cell passes on a backend of its kernel, which another Python may not have; commands draw to files.
    os.environ["MPLBACKEND"] = "agg"
    if VERSION in typed:
        print(f"medqa_finetune {medqa_finetune.__version__}")
        sys.exit(EXIT_DONE)
    try:
        typed = without_language(typed)
        if not several:
            refuse_several(WITHOUT)
        if not wants_help(typed):
            warn_of_untested_versions()
        code = command(typed)
        sys.stdout.flush()
    except MedQAError as error:
        code = _refuse(error, typed)
    except KeyboardInterrupt:
        _complain(say("interrupted"))
        code = EXIT_INTERRUPTED
    except Interrupted as error:
        _complain(say("{reason}; the same command resumes from here", reason=error))
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
    """Print an error in every requested form, and return its exit code."""
    _complain(say("error: {faults}", faults=error.shown()))
    # Lone surrogates, from file names that are not UTF-8, cannot be encoded; JSON escapes them: `\\ud83d`.
    fields = json.dumps(error.as_json(), ensure_ascii=False).encode(errors="backslashreplace").decode()
    if JSON_FORMAT in typed:
        try:
            print(fields, flush=True)
        except OSError:  # the reader has exited, or the disk is full; the exit code still counts
            _close_output()
    leave_faults(fields)
    return error.exit_code


def _close_output() -> None:
    # Python flushes standard output again at exit; this flush must not fail.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(text: str) -> None:
    # A closed terminal cannot be written to; the exit code still counts.
    with contextlib.suppress(OSError):
        print(shown(text), file=sys.stderr)


def aligned_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str] = ()) -> str:
    """Return a plain text table, columns two spaces apart.

    Args:
        header: Column names, k of them.
        rows: Cells, k per row. Control characters (escape codes, line breaks) are escaped.
        left: Names of left-aligned columns; the others are right-aligned.
    """
    lines = [list(header), *([visible(cell) for cell in row] for row in rows)]
    widths = [max(map(columns, column)) for column in zip(*lines, strict=True)]

    def aligned(cell: str, name: str, width: int) -> str:
        room = " " * (width - columns(cell))
        return cell + room if name in left else room + cell

    return "\n".join(
        "  ".join(aligned(cell, name, width) for name, cell, width in zip(header, line, widths, strict=True)).rstrip()
        for line in lines
    )
