"""Command-line entry point for chat: with models that runs have trained, or with any model."""

import glob
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from medqa_finetune.chatting.sources import Source, source_of_model, source_of_run
from medqa_finetune.config.checks import PRECISIONS
from medqa_finetune.config.command_line import print_help, run_command, wants_help
from medqa_finetune.config.command_options import Options, describe, option, parse_options
from medqa_finetune.config.ranges import at_least, check_temperature, integer_between, share
from medqa_finetune.errors import EXIT_DONE, ConfigError, DataError, Fault, MedQAError
from medqa_finetune.languages.translate import say
from medqa_finetune.log import log_to_terminal, visible
from medqa_finetune.record.run_dir import RECORD_NAME
from medqa_finetune.runtime import settle_before_torch

if TYPE_CHECKING:
    from medqa_finetune.chatting.conversation import ChatSettings

# Most models of a mode; any number for others.
MOST_MODELS = {"interactive": 1, "text": 1, "web": 2}


@dataclass(frozen=True)
class ChatOptions(Options):
    """Options of `chat`."""

    run: str | None = option(None, "folder of a finished run, or several", value="DIR|[DIR,DIR]", heading="models")
    runs: str | None = option(None, "every run whose folder matches, such as 'outputs/demo/*'", value="PATTERN")
    model: str | None = option(
        None, "a name of conf/model or a folder; with run=, where its base model lies now", value="NAME|DIR"
    )
    adapter: str | None = option(None, "adapter for model=, as peft saves it", value="DIR")
    any_base: bool = option(False, "accept an adapter that names another base model")
    load_in_4bit: bool = option(False, "base weights in NF4; otherwise as they were trained")
    load_in_8bit: bool = option(False, "base weights in int8")
    precision: str | None = option(None, "as in the run if left out", allowed=PRECISIONS)
    threads: int | None = option(
        None, "CPU threads for torch; as in the run if left out", check=partial(at_least, least=1)
    )
    mode: str | None = option(
        None,
        "a conversation; the same questions to all models; one answer; a page in the browser. Text if there is a "
        "prompt or the input is piped, else interactive",
        allowed=("interactive", "demo", "text", "web"),
        heading="conversation",
    )
    prompt: str | None = option(None, "mode=text: one question; - reads standard input", value="TEXT|-")
    questions: str | None = option(
        None, 'mode=demo: one question a line, or JSON Lines of {"question"}; ours if left out', value="FILE"
    )
    format: str = option("text", "mode=demo: a table, or one JSON object a line", allowed=("text", "json"))
    port: int = option(7860, "mode=web: port on 127.0.0.1", check=partial(integer_between, low=1024, high=65535))
    system: str = option("", "instructions before the conversation")
    temperature: float = option(
        0.0, "0 takes the most likely token, as the evaluation does", check=check_temperature, heading="sampling"
    )
    top_p: float = option(1.0, "sample from the most likely tokens that add up to this share", check=share)
    seed: int = option(0, "seed of the sampling", check=partial(at_least, least=0))
    max_new_tokens: int | None = option(
        None, "most tokens of an answer; the run's own setting, or 512, if left out", check=partial(at_least, least=1)
    )

    def conflicts(self) -> Iterator[Fault]:
        """Yield faults of options that exclude each other, and of naming no model."""
        runs = [value for value in (self.run, self.runs) if value is not None]
        if not runs and self.model is None:
            hint = "Give run=DIR, runs=PATTERN or model=FOLDER; see --help."
            yield Fault("missing-key", "no model is given", hint=hint)
        if len(runs) > 1:
            yield self._conflict("runs", "run= is given as well", "Give one of them.")
        if self.adapter is not None and (runs or self.model is None):
            yield self._conflict("adapter", "needs model=FOLDER and no run, which has its own adapter")
        if self.load_in_4bit and self.load_in_8bit:
            yield self._conflict("load_in_8bit", "load_in_4bit=true is given as well", "Give one of them.")
        if self.prompt is not None and self.mode not in (None, "text"):
            yield self._conflict("prompt", f"is for mode=text, not mode={self.mode}")
        if self.questions is not None and self.mode != "demo":
            yield self._conflict("questions", "is for mode=demo only")
        if self.format == "json" and self.mode != "demo":
            yield self._conflict("format", "is for mode=demo only")

    def _conflict(self, key: str, problem: str, hint: str = "") -> Fault:
        return Fault("conflict", problem, key=key, got=getattr(self, key), hint=hint)

    @property
    def quantization(self) -> str | None:
        """Quantization of the base weights (`nf4`, `int8`); None for that of the training."""
        return "nf4" if self.load_in_4bit else "int8" if self.load_in_8bit else None


USAGE = f"""\
usage: python -m medqa_finetune.chat key=value …

Talks to models that runs have trained, or to any model. Answers are generated and are no medical advice.

  python -m medqa_finetune.chat run=DIR                                a conversation in the terminal
  python -m medqa_finetune.chat run=DIR prompt='感冒了怎么办？'        one answer, plain, for scripts
  python -m medqa_finetune.chat runs='outputs/demo/*' mode=demo        the same questions to several runs
  python -m medqa_finetune.chat run=[DIR,DIR] mode=web                 two runs side by side in a browser
  python -m medqa_finetune.chat model=DIR adapter=DIR load_in_4bit=true

{describe(ChatOptions)}"""


def main() -> NoReturn:
    """Run the command `chat`, and end the process."""
    run_command(chat)


def chat(arguments: list[str]) -> int:
    """Chat with the models that `arguments` name, and return the exit code.

    Raises:
        MedQAError: an option is impossible, or a run or model cannot be used; raised before torch is loaded where
            possible.
    """
    if wants_help(arguments):
        print_help(USAGE)
        return EXIT_DONE
    options = parse_options(ChatOptions, arguments)
    mode = options.mode or ("interactive" if options.prompt is None and sys.stdin.isatty() else "text")
    sources = find_sources(options)
    if len(sources) > MOST_MODELS.get(mode, len(sources)):
        problem = f"takes at most {MOST_MODELS[mode]} model(s), and {len(sources)} are named"
        raise ConfigError(Fault("too-many", problem, key="mode", got=mode, hint="mode=demo takes any number."))
    log_to_terminal()
    settle_before_torch()
    return MODES[mode](options, sources)


def find_sources(options: ChatOptions) -> list[Source]:
    """Return the models that the options name, checked.

    Raises:
        MedQAError: one of them cannot be used.
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
        (source if precision is None else replace(source, precision=precision)).with_quantization(options.quantization)
        for source in unique
    ]


def _sources_of_runs(options: ChatOptions, paths: Sequence[Path]) -> tuple[list[Path], list[Source]]:
    """Return the runs and their sources; unusable runs that match a pattern are reported and skipped.

    Raises:
        MedQAError: a run given by name cannot be used, or no run that matches the pattern can.
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
        print(say("left out: {fault}", fault=visible(each.shown())), file=sys.stderr)
    return [path for path, _ in found], [source for _, source in found]


def _run_folders(options: ChatOptions) -> list[Path]:
    if options.runs is not None:
        matching = sorted(Path(name) for name in glob.glob(str(Path(options.runs).expanduser())))  # noqa: PTH207 (a pattern may be absolute)
        runs = [path for path in matching if (path / RECORD_NAME).is_file()]
        if not runs:
            problem = f"none of the {len(matching)} matches is the folder of a run" if matching else "nothing matches"
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


def _settings(options: ChatOptions) -> "ChatSettings":
    from medqa_finetune.chatting.conversation import ChatSettings

    return ChatSettings(
        options.temperature, options.top_p, options.max_new_tokens, options.system, options.seed, options.threads
    )


def _interactive(options: ChatOptions, sources: Sequence[Source]) -> int:
    from medqa_finetune.chatting.conversation import start_conversation
    from medqa_finetune.chatting.interactive import TerminalChat

    return TerminalChat(start_conversation(sources[0], _settings(options))).run()


def _text(options: ChatOptions, sources: Sequence[Source]) -> int:
    from medqa_finetune.chatting.conversation import start_conversation
    from medqa_finetune.chatting.terminal import escape_controls

    question = _question(options)
    answer = start_conversation(sources[0], _settings(options)).ask(question)
    text = escape_controls(answer) if sys.stdout.isatty() else answer
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
    from medqa_finetune.chatting.side_by_side import QUESTIONS, print_table, read_questions

    # Read before torch is loaded, so that a broken file is refused at once.
    questions = list(QUESTIONS) if options.questions is None else read_questions(Path(options.questions))
    from medqa_finetune.chatting.conversation import DISCLAIMER, answer_all

    answers = {source.name: answer_all(source, questions, _settings(options)) for source in sources}
    if options.format == "json":
        for number, question in enumerate(questions):
            given = {name: all_given[number] for name, all_given in answers.items()}
            print(json.dumps({"question": question, "answers": given}, ensure_ascii=False))
    else:
        print_table(questions, answers)
        print(DISCLAIMER)
    return EXIT_DONE


def _web(options: ChatOptions, sources: Sequence[Source]) -> int:
    if find_spec("gradio") is None:
        hint = "Run pip install 'medqa_finetune[web]'."
        raise ConfigError(Fault("not-installed", "Gradio is not installed", key="mode", got="web", hint=hint))
    from medqa_finetune.chatting.conversation import start_conversation
    from medqa_finetune.chatting.web import serve

    serve(
        [start_conversation(source, _settings(options)).model for source in sources], _settings(options), options.port
    )
    return EXIT_DONE


MODES = {"interactive": _interactive, "text": _text, "demo": _demo, "web": _web}


if __name__ == "__main__":
    main()
