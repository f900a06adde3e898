"""What was probably meant by arguments that are no `key=value`: the whole command, corrected.

Nothing is run that was not typed. The corrected command is a hint, which can be copied.
"""

import dataclasses
import re
import shlex
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from medqa_finetune.config.flags import FLAGS, HELP, Flag, flag_named
from medqa_finetune.config.schema_faults import Annotation, alternatives
from medqa_finetune.errors import ConfigError, Fault

# Kinds of keys, as far as their values are typed differently.
GROUP, LIST, SWITCH, NUMBER, TEXT = "group", "list", "switch", "number", "text"
MANY = ("-m", "--multirun")
PACKAGE = "medqa_finetune"
# Dashes that editors and chat programs make of `--`.
DASHES = re.compile(r"[–—―−－]+")
# Chinese keyboards type these.
WIDE = str.maketrans("＝，：", "=,:")
# Words that stand for no name.
NO_NAMES = ("null", "none", "true", "false")
NUMERIC = re.compile(r"-?[\d.]+(e[-+]?\d+)?", re.IGNORECASE)
SWEEPS = re.compile(r"(choice|range|glob)\(.*\)")
# Names of settings elsewhere.
ALIASES = {
    "lr": "train.learning_rate",
    "r": "method.rank",
    "lora_r": "method.rank",
    "lora_rank": "method.rank",
    "lora_alpha": "method.alpha",
    "lora_dropout": "method.dropout",
    "num_train_epochs": "train.epochs",
    "per_device_train_batch_size": "train.batch_size",
    "max_seq_length": "train.max_length",
    "lr_scheduler_type": "train.scheduler",
    "output_dir": "outputs",
}
# What other programs call what another command, or a setting of Hydra, does here.
CONFIG_FILES = ("config", "config_file", "conf", "cfg_file")
DRY_RUNS = ("dry-run", "dry_run", "dryrun", "plan", "estimate")
VERBOSE = ("verbose", "debug", "v")
# Corpora by the ending of their file.
FORMATS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "jsonl", ".parquet": "parquet", ".txt": "text"}


@dataclasses.dataclass(frozen=True)
class Words:
    """What may be typed after a command.

    Attributes:
        kinds: Kind of every key (`GROUP`, `LIST`, …; empty for any other).
        choices: Options of every group, in the order in which a bare name is looked for.
        flags: Whether flags of a composition may be typed.
        path_key: Returns the arguments that an existing path stands for; none by default.
    """

    kinds: Mapping[str, str]
    choices: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    flags: bool = False
    path_key: Callable[[Path], list[str]] = lambda _: []


def typed_command() -> str:
    """Return how the running command is typed: `python -m medqa_finetune.train`, or the name of its script."""
    main = sys.modules["__main__"]
    name = main.__spec__.name if main.__spec__ else ""
    program = Path(sys.argv[0])
    if name.startswith(f"{PACKAGE}."):
        return f"python -m {name}"
    if program.suffix == ".py" and program.parent.name == "scripts":
        return f"python scripts/{program.name}"
    return (
        program.name
        if program.name.startswith("medqa-") or program.name == "summarize"
        else f"python -m {PACKAGE}.train"
    )


def command_of(arguments: Sequence[str], command: str = "") -> str:
    """Return a command, the running one if none is named, with arguments that are quoted where a shell needs it."""
    program = f"python -m {PACKAGE}.{command}" if command else typed_command()
    return " ".join([program, *map(shlex.quote, arguments)])


def refuse_mistyped(arguments: Sequence[str], words: Callable[[], Words]) -> None:
    """Refuse arguments that are neither flags nor `key=value`, with the command that was probably meant.

    Args:
        arguments: Arguments typed after the command.
        words: Returns what may be typed; called where something is wrong.

    Raises:
        ConfigError: an argument is mistyped; one fault, whose hint has the whole corrected command.
    """
    if not any(map(_is_suspect, arguments)) and not any(map(_is_flag_like, arguments)):
        return
    repair = Repair(arguments, words())
    if repair.fault is not None:
        raise ConfigError(repair.fault)


def _is_flag_like(argument: str) -> bool:
    return bool(re.match(r"[-–—―−－]", argument)) and argument not in MANY


def _is_suspect(argument: str) -> bool:
    if argument.startswith("~"):
        return False
    key, equals, value = argument.partition("=")
    if "/" in key and not key.startswith("hydra/") and Path(argument).expanduser().exists():
        return True
    return not equals or not key or value.endswith(",") or "＝" in key or "，" in value or ",," in value


class Repair:
    """Arguments read from left to right, each corrected where it can be.

    Attributes:
        arguments: The corrected arguments.
        fault: What is wrong first; None where nothing is.
    """

    def __init__(self, arguments: Sequence[str], words: Words) -> None:
        self._words = words
        self._waiting = list(arguments)
        self._wrong: tuple[str, str] | None = None
        self._hopeless: Fault | None = None
        self.arguments: list[str] = []
        while self._waiting:
            self._take(self._waiting.pop(0))
        self._finish()
        self.fault = self._fault()

    def _fault(self) -> Fault | None:
        if self._hopeless is not None or self._wrong is None:
            return self._hopeless
        problem, got = self._wrong
        return Fault("mistyped", problem, got=got, hint=f"Did you mean `{command_of(self.arguments)}`?")

    def _note(self, problem: str, got: str) -> None:
        self._wrong = self._wrong or (problem, got)

    def _take(self, argument: str) -> None:
        plain = self._plain(argument)
        flag = flag_named(plain)
        if flag is not None and self._is_flag(flag):
            self.arguments.append(plain)
            if (
                flag.value
                and "=" not in plain
                and self._waiting
                and (not flag.usual or self._waiting[0] in flag.allowed)
            ):
                self.arguments.append(self._waiting.pop(0))
        elif plain.startswith("-"):
            self._take_flag(plain)
        else:
            whole = self._joined(plain)
            # The folder of a run has settings in its name.
            is_path = "/" in whole.partition("=")[0] and self._words.path_key(Path(whole).expanduser())
            if not is_path and ("=" in whole.lstrip("=") or whole.startswith("~")):
                self.arguments.append(whole)
            else:
                self._take_bare(whole)

    def _is_flag(self, flag: Flag) -> bool:
        # `export` has a key `run`, and `--run` of a composition does nothing.
        return flag.name in HELP or (self._words.flags and flag.name.lstrip("-") not in self._words.kinds)

    def _plain(self, argument: str) -> str:
        """Return an argument with the signs of a plain keyboard, where others cannot be meant."""
        dashes = DASHES.match(argument)
        if dashes:
            rest = argument[dashes.end() :].translate(WIDE)
            self._note("must begin with -, not with a dash", argument)
            return ("-" if len(rest.partition("=")[0]) == 1 else "--") + rest
        key, wide, value = argument.partition("＝")
        if wide and "=" not in key:
            self._note("must be key=value with a plain =", argument)
            argument = f"{key}={value}"
        key, equals, value = argument.partition("=")
        if equals and "，" in value and self._kind(key) not in (TEXT, ""):
            self._note("must have plain commas", argument)
            return f"{key}={value.translate(WIDE)}"
        if equals and ",," in value and self._kind(key) not in (TEXT, None):
            self._note("must have one comma between values", argument)
            return f"{key}={re.sub(',,+', ',', value)}"
        return argument

    def _joined(self, argument: str) -> str:
        """Return an argument with what follows it, where a space stands before or after `=` or a comma."""
        whole = argument
        while self._waiting and self._goes_on(whole, self._waiting[0]):
            following = self._waiting.pop(0)
            needs_comma = (
                _open_bracket(whole) and not whole.endswith((",", "[")) and not following.startswith((",", "]"))
            )
            whole += ("," if needs_comma else "") + following
        if whole != argument:
            self._note("must be one word, without spaces around = and commas", argument)
        key, _, value = whole.partition("=")
        if value.endswith(",") and self._kind(key) != TEXT:
            self._note("must not end with a comma", whole)
            whole = whole.rstrip(",")
        return whole

    def _goes_on(self, whole: str, following: str) -> bool:
        if following.startswith("=") or (following.startswith(",") and "=" in whole):
            return "=" not in whole or following.startswith(",")
        if "=" in following or following.startswith(("-", "~")):
            return False
        key = whole.partition("=")[0]
        return (whole.endswith((",", "=")) and self._kind(key) is not None) or _open_bracket(whole)

    def _take_flag(self, argument: str) -> None:
        name, equals, value = argument.strip(",").lstrip("-").partition("=")
        key = self._key_named(name)
        flag = "" if key == name.replace("-", "_") else self._flag_like(name)
        if not name and self._words.flags:
            self._note("is not needed", argument)
        elif self._words.flags and re.match(r"-m,*\w+=", argument):
            self._note("must be two words", argument)
            self.arguments.append("-m")
            self._waiting.insert(0, argument[2:].lstrip(","))
        elif self._words.flags and name.replace("-", "_") in CONFIG_FILES:
            self._note("there is no such flag", argument)
            path = Path(value if equals else self._waiting.pop(0) if self._waiting else "DIR/FILE.yaml")
            self.arguments += ["--config-dir", str(path.parent), "--config-name", path.stem]
        elif key is not None and not flag:
            self._note("must be key=value, without dashes", argument)
            self.arguments.append(f"{key}={value if equals else self._values(key)}")
        elif flag:
            self._note("there is no such flag", argument)
            takes = next(each for each in FLAGS if flag in (each.name, each.short)).value
            follows = bool(takes) and not equals and bool(self._waiting) and "=" not in self._waiting[0]
            value = self._waiting.pop(0) if follows else value
            self.arguments.append(f"{flag}={value}" if takes and value else flag)
        elif self._words.flags and (name in VERBOSE or name.startswith("hydra.")):
            self._note("must be key=value, without dashes", argument)
            self.arguments.append(f"{'hydra.verbose' if name in VERBOSE else name}={value or 'true'}")
        elif self._words.flags and name in DRY_RUNS:
            rest = [each for each in (*self.arguments, *self._waiting) if each != argument]
            hint = f"What it would take says `{command_of(rest, 'plan')}`."
            self._give_up(Fault("unknown-flag", "there is no such flag", got=argument, hint=hint))
        elif group := next((group for group, options in self._words.choices.items() if name in options), None):
            self._note("must be key=value, without dashes", argument)
            self.arguments.append(f"{group}={name}")
        else:
            self._give_up(self._no_flag(argument, name.replace("-", "_")))

    def _no_flag(self, argument: str, name: str) -> Fault:
        fault = Fault("unknown-flag", "there is no such flag", got=argument)
        flag = flag_named(argument)
        if flag is not None and not self._words.flags:
            hint = f"It is for `{command_of([], 'train')}` and `plan`; leave it out."
            return fault.but(problem="is no flag of this command", hint=hint)
        several = [key for key in self._words.kinds if key.endswith(f".{name}")]
        if several:
            return fault.but(hint=f"Did you mean {' or '.join(f'{key}=VALUE' for key in several)}?")
        return fault.but(allowed=self._flags)

    @property
    def _flags(self) -> tuple[str, ...]:
        return tuple(flag.name for flag in FLAGS) if self._words.flags else HELP

    def _flag_like(self, name: str) -> str:
        """Return the flag that a name with one dash, or with others inside, stands for; empty for none."""
        bare = {flag.replace("-", ""): flag for flag in self._flags}
        short = {flag.short.lstrip("-"): flag.short for flag in FLAGS if flag.name in self._flags and flag.short}
        plain = name.replace("-", "").replace("_", "").lower()
        if plain in bare or plain in short:
            return bare.get(plain, "") or short[plain]
        close = get_close_matches(plain, bare, n=1, cutoff=0.75)
        return bare[close[0]] if close else ""

    def _values(self, key: str) -> str:
        """Take the values that follow a key from what is waiting, and return them as one."""
        if self._kind(key) == SWITCH and not (self._waiting and self._waiting[0].lower() in ("true", "false")):
            return "true"
        values = []
        while self._waiting and "=" not in self._waiting[0] and not re.match(r"[-–—~][^\d.]", self._waiting[0]):
            values.append(self._waiting.pop(0).strip(","))
        joined = (" " if self._kind(key) == TEXT else ",").join(filter(None, values))
        return f"[{joined}]" if self._kind(key) == LIST and not joined.startswith("[") else joined or "VALUE"

    def _take_bare(self, argument: str) -> None:
        earlier, _, before = (self.arguments[-1] if self.arguments else "").partition("=")
        key, colon, value = argument.translate(WIDE).partition(":")
        follows = bool(self._waiting) and "=" not in self._waiting[0] and not self._waiting[0].startswith("-")
        if not self.arguments and typed_command().endswith((f".{argument}", f"-{argument}")):
            self._note("the command is typed twice", argument)
        elif before and self._is_value(earlier.lstrip("+"), argument):
            self._note("several values are separated by commas", argument)
            inside = before.strip("[]")
            joined = f"{inside},{argument}"
            self.arguments[-1] = f"{earlier}=[{joined}]" if self._kind(earlier) == LIST else f"{earlier}={joined}"
        elif self._kind(argument) is not None and follows:
            self._note("must be key=value", argument)
            self.arguments.append(f"{argument}={self._values(argument)}")
        elif colon and value and self._kind(key) is not None:
            self._note("must be key=value", argument)
            self.arguments.append(f"{key}={value}")
        elif len(groups := [group for group, options in self._words.choices.items() if argument in options]) == 1:
            self._note("must be key=value", argument)
            self.arguments.append(f"{groups[0]}={argument}")
        elif found := self._words.path_key(Path(argument).expanduser()):
            self._note("must be key=value", argument)
            self.arguments += found
        elif before and self._kind(earlier) == TEXT:
            self._note("a value with spaces must be quoted", argument)
            self.arguments[-1] += f" {argument}"
        else:
            self._give_up(self._no_pair(argument, groups))

    def _is_value(self, key: str, value: str) -> bool:
        kind = self._kind(key)
        is_number = kind == NUMBER and NUMERIC.fullmatch(value) is not None
        return is_number or kind == LIST or value in self._words.choices.get(key, ())

    def _no_pair(self, argument: str, groups: Sequence[str]) -> Fault:
        if groups:
            hint = f"Did you mean {' or '.join(f'{group}={argument}' for group in groups)}?"
        elif self._kind(argument) is not None:
            hint = f"Give it a value: {argument}=VALUE."
        else:
            names = [option for each in self._words.choices.values() for option in each]
            close = [] if argument in NO_NAMES else get_close_matches(argument, names, n=1)
            group = next(
                (group for group, options in self._words.choices.items() if close and close[0] in options), None
            )
            hint = f"Did you mean {group}={close[0]}?" if group else f"See `{typed_command()} --help`."
        return Fault("not-key-value", "must be key=value", got=argument, hint=hint)

    def _give_up(self, fault: Fault) -> None:
        self._hopeless = self._hopeless or fault

    def _kind(self, key: str) -> str | None:
        return self._words.kinds.get(key.lstrip("+"))

    def _key_named(self, name: str) -> str | None:
        """Return the key with a name, or the only one that ends with it: `learning-rate` is `train.learning_rate`."""
        keys = self._words.kinds
        name = name.replace("-", "_")
        if name in keys:
            return name
        if ALIASES.get(name) in keys:
            return ALIASES[name]
        # The last part of a key, where only one has it.
        named: dict[str, list[str]] = {}
        for key in keys:
            named.setdefault(key.rpartition(".")[2], []).append(key)
        single = {last: found[0] for last, found in named.items() if len(found) == 1}
        close = [name] if name in single else get_close_matches(name, [*single, *keys], n=1, cutoff=0.8)
        return single.get(close[0], close[0]) if close else None

    def _finish(self) -> None:
        """Write lists in brackets, and ask for a matrix where a value is several."""
        for position, argument in enumerate(self.arguments):
            key, equals, value = argument.partition("=")
            if equals and self._kind(key) == LIST and not value.startswith("[") and is_swept(value):
                self.arguments[position] = f"{key}=[{value}]"
        many = any(each in MANY or each.startswith("hydra.mode=") for each in self.arguments)
        swept = [each for each in self.arguments if self._sweeps(each)]
        if swept and self._words.flags and not many:
            self.arguments.insert(0, "-m")

    def _sweeps(self, argument: str) -> bool:
        key, equals, value = argument.partition("=")
        return bool(equals) and self._kind(key) not in (LIST, None) and is_swept(value)


def is_swept(value: str) -> bool:
    """Return whether a value is several, to be run one after the other: `a,b`, `range(1,4)`."""
    if SWEEPS.fullmatch(value):
        return True
    outside = re.sub(r"'[^']*'|\"[^\"]*\"", "", value)
    while (inner := re.sub(r"\[[^\[\]]*\]|\{[^{}]*\}|\([^()]*\)", "", outside)) != outside:
        outside = inner
    return "," in outside


def _open_bracket(argument: str) -> bool:
    value = argument.partition("=")[2]
    return value.startswith(("[", "{")) and value.count("[") + value.count("{") > value.count("]") + value.count("}")


def kind_of(hint: Annotation) -> str:
    """Return the kind of a key from the type of its values; empty for any other."""
    found = [each for each in alternatives(hint) if each is not type(None)]
    for kind, types in ((SWITCH, (bool,)), (NUMBER, (int, float)), (TEXT, (str,))):
        if found and all(each in types for each in found):
            return kind
    return LIST if any(typing.get_origin(each) is list for each in found) else ""
