"""The door to talking: to what runs have trained, or to any model."""

import glob
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from medqa_finetune.chatting.questions import QUESTIONS, read_questions
from medqa_finetune.chatting.sources import Source, source_of_model, source_of_run
from medqa_finetune.config.checks import PRECISIONS
from medqa_finetune.config.command_line import parse_options, run_door, wants_help
from medqa_finetune.config.evaluation_checks import manner_faults
from medqa_finetune.errors import EXIT_DONE, ConfigError, DataError, Fault, MedQAError
from medqa_finetune.log import log_to_terminal, visible
from medqa_finetune.record.run_dir import RECORD_NAME
from medqa_finetune.runtime import limit_spinning

if TYPE_CHECKING:
    from medqa_finetune.chatting.session import Asking

USAGE = """\
Talk to what a run has trained, or to any model. Answers are generated, and no medical advice.

  python -m medqa_finetune.chat run=DIR                                  a conversation in the terminal
  python -m medqa_finetune.chat run=DIR prompt='感冒了怎么办？'          one answer, plain, for scripts
  python -m medqa_finetune.chat runs='outputs/demo/*' mode=demo          the same questions to several runs
  python -m medqa_finetune.chat run=[DIR,DIR] mode=web                   two of them side by side in a browser
  python -m medqa_finetune.chat model=FOLDER adapter=FOLDER load_in_4bit=true
Who:
  run=DIR | run=[DIR,DIR]    folders of finished runs
  runs=PATTERN               every run whose folder fits
  model=NAME|FOLDER          a model of conf/model or a folder; beside run=, where its base model lies now
  adapter=FOLDER             an adapter on it, as peft saves it; any_base=true although it names another base
  load_in_4bit=true          base weights in NF4, load_in_8bit=true in int8         default as they were trained
  precision=auto|bf16|fp16|fp32   threads=N                                         default as in the run
How:
  mode=interactive|demo|text|web        default text where there is a prompt or the input is piped, else interactive
  prompt=TEXT | prompt=-                one question, or standard input             for mode=text
  questions=FILE                        one a line, or JSON Lines of {"question"}   for mode=demo; else our own
  format=text|json                      a table, or a JSON object a line            for mode=demo
  port=7860                             of 127.0.0.1                                for mode=web
  system=TEXT                           instructions before the conversation        default none
  temperature=0 top_p=1 seed=0          0 takes the most likely tokens, as the evaluation does
  max_new_tokens=N                      tokens of an answer                         default the run's own, or 512
"""
MODES = ("interactive", "demo", "text", "web")
FORMATS = ("text", "json")
# Models that a mode talks to at most.
CELLS = {"interactive": 1, "text": 1, "web": 2}


@dataclass(frozen=True)
class ChatOptions:
    """What can be typed after `chat`; see USAGE.

    Raises:
        ConfigError: with every fault.
    """

    run: str | None = None
    runs: str | None = None
    model: str | None = None
    adapter: str | None = None
    any_base: bool = False
    load_in_4bit: bool = False
    load_in_8bit: bool = False
    mode: str | None = None
    prompt: str | None = None
    system: str = ""
    questions: str | None = None
    format: str = "text"
    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int | None = None
    seed: int = 0
    precision: str | None = None
    threads: int | None = None
    port: int = 7860

    def __post_init__(self) -> None:
        length = 1 if self.max_new_tokens is None else self.max_new_tokens
        manner = manner_faults(self.temperature, self.top_p, length)
        faults: list[Fault] = [*self._who_faults(), *self._how_faults(), *manner]
        if faults:
            raise ConfigError(*faults)

    def _who_faults(self) -> Iterator[Fault]:
        runs = [value for value in (self.run, self.runs) if value is not None]
        if not runs and self.model is None:
            hint = "Give run=DIR, runs=PATTERN or model=FOLDER; --help says more."
            yield Fault("missing-key", "nothing says which model to talk to", hint=hint)
        if len(runs) > 1:
            yield self._conflict("runs", "run= is given as well", "Give one of them.")
        if self.adapter is not None and (runs or self.model is None):
            yield self._conflict("adapter", "needs model=FOLDER and no run, which has its own adapter")
        if self.load_in_4bit and self.load_in_8bit:
            yield self._conflict("load_in_8bit", "load_in_4bit=true is given as well", "Give one of them.")

    def _how_faults(self) -> Iterator[Fault]:
        for key, allowed in (("mode", MODES), ("format", FORMATS), ("precision", PRECISIONS)):
            value = getattr(self, key)
            if value not in allowed and value != getattr(ChatOptions, key):
                yield Fault("not-allowed", f"no such {key}", key=key, got=value, allowed=tuple(allowed))
        if self.prompt is not None and self.mode not in (None, "text"):
            yield self._conflict("prompt", f"is for mode=text, not mode={self.mode}")
        for key in ("questions", "format"):
            if getattr(self, key) != getattr(ChatOptions, key) and self.mode != "demo":
                yield self._conflict(key, "is for mode=demo alone")
        if self.seed < 0:
            yield Fault("out-of-range", "must be an integer ≥ 0", key="seed", got=self.seed)
        if self.threads is not None and self.threads < 1:
            yield Fault("out-of-range", "must be an integer ≥ 1", key="threads", got=self.threads)
        if not 1024 <= self.port <= 65535:
            yield Fault("out-of-range", "must be an integer from 1024 to 65535", key="port", got=self.port)

    def _conflict(self, key: str, problem: str, hint: str = "") -> Fault:
        return Fault("conflict", problem, key=key, got=getattr(self, key), hint=hint)

    @property
    def quantization(self) -> str | None:
        """How base weights are to be held; None for as they were trained."""
        return "nf4" if self.load_in_4bit else "int8" if self.load_in_8bit else None


def main() -> NoReturn:
    """Talk as the command line asks, and end the process."""
    run_door(chat)


def chat(arguments: list[str]) -> int:
    """Talk to what `arguments` name, and return the exit code.

    Raises:
        MedQAError: an option is impossible, or a run or model cannot be talked to; found before torch is loaded where
            that is possible.
    """
    if wants_help(arguments):
        print(USAGE, end="")
        return EXIT_DONE
    options = parse_options(ChatOptions, arguments)
    mode = options.mode or ("interactive" if options.prompt is None and sys.stdin.isatty() else "text")
    sources = find_sources(options)
    if len(sources) > CELLS.get(mode, len(sources)):
        problem = f"talks to at most {CELLS[mode]} of them, and {len(sources)} models are named"
        raise ConfigError(Fault("too-many", problem, key="mode", got=mode, hint="mode=demo takes any number."))
    log_to_terminal()
    limit_spinning()
    return DOORS[mode](options, sources)


def find_sources(options: ChatOptions) -> list[Source]:
    """Return whom the options name, every one checked.

    Raises:
        MedQAError: one of them cannot be talked to.
    """
    paths = _run_folders(options)
    if not paths:
        found = [source_of_model(str(options.model), options.adapter, any_base=options.any_base)]
    else:
        paths, found = _sources_of_runs(options, paths)
    names = [source.name for source in found]
    unique = [
        source if names.count(source.name) == 1 else replace(source, name=str(path))
        for source, path in zip(found, paths or names, strict=True)
    ]
    precision = options.precision
    return [
        (source if precision is None else replace(source, precision=precision)).held_in(options.quantization)
        for source in unique
    ]


def _sources_of_runs(options: ChatOptions, paths: Sequence[Path]) -> tuple[list[Path], list[Source]]:
    """Return the runs that can be talked to; of those that a pattern fits the others are said and left out.

    Raises:
        MedQAError: a run that was asked for by name cannot be talked to, or none that a pattern fits can.
    """
    if options.runs is None:
        return list(paths), [source_of_run(path, options.model) for path in paths]
    found: list[tuple[Path, Source]] = []
    errors = []
    for path in paths:
        try:
            found.append((path, source_of_run(path, options.model)))
        except MedQAError as error:
            errors.append(error)
    if not found:
        raise errors[0] if len(errors) == 1 else ConfigError(*(fault for each in errors for fault in each.faults))
    for each in errors:
        print(f"left out: {visible(str(each))}", file=sys.stderr)
    return [path for path, _ in found], [source for _, source in found]


def _run_folders(options: ChatOptions) -> list[Path]:
    if options.runs is not None:
        fitting = sorted(Path(name) for name in glob.glob(str(Path(options.runs).expanduser())))  # noqa: PTH207 (a pattern may be absolute)
        runs = [path for path in fitting if (path / RECORD_NAME).is_file()]
        if not runs:
            problem = f"none of the {len(fitting)} matches is the folder of a run" if fitting else "nothing matches"
            hint = f"Give a pattern of folders with a {RECORD_NAME}."
            raise ConfigError(Fault("no-match", problem, key="runs", got=options.runs, hint=hint))
        return runs
    if options.run is None:
        return []
    is_list = options.run.startswith("[") and options.run.endswith("]")
    names = options.run[1:-1].split(",") if is_list else [options.run]
    if not all(name.strip() for name in names):
        problem = "must be the folder of a run, or several: run=[DIR,DIR]"
        raise ConfigError(Fault("wrong-type", problem, key="run", got=options.run))
    return [Path(name.strip()).expanduser() for name in names]


def _asking(options: ChatOptions) -> "Asking":
    from medqa_finetune.chatting.session import Asking

    return Asking(
        options.temperature, options.top_p, options.max_new_tokens, options.system, options.seed, options.threads
    )


def _interactive(options: ChatOptions, sources: Sequence[Source]) -> int:
    from medqa_finetune.chatting.interactive import Session
    from medqa_finetune.chatting.session import begin

    return Session(begin(sources[0], _asking(options))).run()


def _text(options: ChatOptions, sources: Sequence[Source]) -> int:
    from medqa_finetune.chatting.session import begin
    from medqa_finetune.chatting.terminal import harmless

    question = _question(options)
    answer = begin(sources[0], _asking(options)).ask(question)
    text = harmless(answer) if sys.stdout.isatty() else answer
    try:
        print(text)
    except UnicodeEncodeError:
        problem = f"the encoding of standard output ({sys.stdout.encoding}) lacks characters of the answer"
        raise ConfigError(Fault("wrong-encoding", problem, hint="Set PYTHONIOENCODING=utf-8.")) from None
    return EXIT_DONE


def _question(options: ChatOptions) -> str:
    if options.prompt not in (None, "-"):
        return str(options.prompt)
    if options.prompt is None and sys.stdin.isatty():
        hint = "Give prompt=TEXT, or a question on standard input."
        raise ConfigError(Fault("missing-key", "is missing", key="prompt", hint=hint))
    try:
        question = sys.stdin.buffer.read().decode(sys.stdin.encoding)
    except UnicodeDecodeError as error:
        problem = f"standard input is not {error.encoding} (byte {error.start})"
        raise DataError(Fault("wrong-encoding", problem, hint="Set PYTHONIOENCODING to what it is.")) from None
    if not question.strip():
        hint = "Give a question there, or prompt=TEXT."
        raise DataError(Fault("empty", "standard input is empty", hint=hint))
    return question


def _demo(options: ChatOptions, sources: Sequence[Source]) -> int:
    questions = list(QUESTIONS) if options.questions is None else read_questions(Path(options.questions))
    # Imported here, so that a broken file of questions is refused before torch is loaded.
    from medqa_finetune.chatting.conversation import DISCLAIMER
    from medqa_finetune.chatting.session import answers_of
    from medqa_finetune.chatting.side_by_side import print_table

    answers = {source.name: answers_of(source, questions, _asking(options)) for source in sources}
    if options.format == "json":
        for number, question in enumerate(questions):
            said = {name: given[number] for name, given in answers.items()}
            print(json.dumps({"question": question, "answers": said}, ensure_ascii=False))
    else:
        print_table(questions, answers)
        print(DISCLAIMER)
    return EXIT_DONE


def _web(options: ChatOptions, sources: Sequence[Source]) -> int:
    if find_spec("gradio") is None:
        hint = "Run pip install 'medqa_finetune[web]'."
        raise ConfigError(Fault("not-installed", "Gradio is not installed", key="mode", got="web", hint=hint))
    from medqa_finetune.chatting.session import begin
    from medqa_finetune.chatting.web import serve

    serve([begin(source, _asking(options)).speaker for source in sources], _asking(options), options.port)
    return EXIT_DONE


DOORS = {"interactive": _interactive, "text": _text, "demo": _demo, "web": _web}


if __name__ == "__main__":
    main()
