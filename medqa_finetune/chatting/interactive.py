"""A conversation in a terminal."""

import dataclasses
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from medqa_finetune.chatting.conversation import DISCLAIMER, Conversation
from medqa_finetune.chatting.terminal import (
    catch_interrupt,
    edit_lines,
    escape_controls,
    is_readable,
    tolerate_other_encodings,
)
from medqa_finetune.config.ranges import sampling_faults
from medqa_finetune.errors import EXIT_DONE, ConfigError, Fault, MedQAError
from medqa_finetune.languages.translate import Kind, say, translated
from medqa_finetune.record.files import write_json

PROMPT = "> "
HELP = """\
/help             this list
/reset            start a new conversation
/system TEXT      set the instructions and start a new conversation; without TEXT, none
/save FILE        write the conversation as JSON
/temperature 0.7  sample tokens; 0 takes the most likely ones
/top-p 0.9        sample from the most likely tokens that add up to this share
/max-tokens 200   most tokens of an answer
/exit             leave (or Ctrl-D)
Ctrl-C stops an answer; its text stays in the conversation. Type // for a question that begins with /."""
SETTINGS = {"/temperature": "temperature", "/top-p": "top_p", "/max-tokens": "max_new_tokens"}


class TerminalChat:
    """A conversation in a terminal; lines that begin with `/` are commands."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self._saved: set[Path] = set()
        self._commands: dict[str, Callable[[str], None]] = {
            "/help": lambda _: print(translated(HELP, Kind.SAID)),
            "/reset": self._reset,
            "/system": self._instruct,
            "/save": self._save,
            **{name: self._setter(name) for name in SETTINGS},
        }

    def run(self) -> int:
        """Read questions until `/exit` or the end of the input, and return the exit code.

        Raises:
            KeyboardInterrupt: Ctrl-C at the prompt.
        """
        tolerate_other_encodings()
        edit_lines()
        print(f"{escape_controls(self.conversation.model.name)}. {DISCLAIMER}\n{say('/help lists the commands.')}")
        while (line := self._read()) is not None:
            if line in ("/exit", "/quit"):
                break
            self.take(line)
        return EXIT_DONE

    def take(self, line: str) -> None:
        """Answer a question or run a command; faults are printed, not raised."""
        if not line:
            return
        try:
            if line.startswith("/") and not line.startswith("//"):
                self._command(line)
            else:
                self._answer(line[1:] if line.startswith("/") else line)
        except MedQAError as error:
            print(escape_controls(error.shown()))

    def _read(self) -> str | None:
        try:
            line = input(PROMPT)
        except EOFError:
            print()
            return None
        if is_readable(line):
            return line.strip()
        print(say("The line is not in the terminal's encoding; set PYTHONIOENCODING to its encoding."))
        return ""

    def _answer(self, question: str) -> None:
        shown = ""
        with catch_interrupt() as stop, closing(self.conversation.stream(question)) as growing:
            try:
                for text in growing:
                    if not shown and self.conversation.note:
                        print(f"({self.conversation.note})")
                    # Tokenizers may drop an earlier space once the next character is decoded.
                    fresh = text[len(shown) :] if text.startswith(shown) else f"\n{text}"
                    print(escape_controls(fresh), end="", flush=True)
                    shown = text
                    if stop.made:
                        break
            except KeyboardInterrupt:
                stop.made = True
        print(f" {say('[stopped]')}" if stop.made else "" if shown else say("(no answer)"))

    def _command(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        if name in self._commands:
            self._commands[name](rest.strip())
        else:
            print(say("unknown command {name}; /help lists the commands.", name=escape_controls(name)))

    def _reset(self, _: str) -> None:
        self.conversation.reset()
        print(say("New conversation."))

    def _instruct(self, text: str) -> None:
        self.conversation.instruct(text)
        instructed = bool(self.conversation.system)
        print(say("New conversation, with instructions." if instructed else "New conversation, without instructions."))

    def _save(self, name: str) -> None:
        path = Path(name).expanduser()
        if not name:
            raise ConfigError(Fault("missing-value", "needs the name of a file", key="/save"))
        if path.exists() and path.resolve() not in self._saved:
            problem = "exists already, so nothing was written"
            raise ConfigError(Fault("already-exists", problem, file=name, hint="Give another name."))
        try:
            write_json(path, self.conversation.transcript())
        except OSError as error:
            problem = f"cannot be written ({error.strerror})"
            raise ConfigError(Fault("not-writable", problem, file=name)) from None
        self._saved.add(path.resolve())
        print(say("Saved {count} turns in {name}.", count=len(self.conversation.turns), name=escape_controls(name)))

    def _setter(self, name: str) -> Callable[[str], None]:
        field = SETTINGS[name]

        def change(text: str) -> None:
            sampling = self.conversation.sampling
            kind = type(getattr(sampling, field))
            try:
                value = kind(text)
            except ValueError:
                problem = f"must be {'an integer' if kind is int else 'a number'}"
                raise ConfigError(Fault("wrong-type", problem, key=name, got=text)) from None
            changed = dataclasses.replace(sampling, **{field: value})
            faults = list(sampling_faults(changed.temperature, changed.top_p, changed.max_new_tokens))
            if faults:
                raise ConfigError(*faults)
            self.conversation.sampling = changed
            print(say("{setting} is {value}.", setting=name[1:], value=value))

        return change
