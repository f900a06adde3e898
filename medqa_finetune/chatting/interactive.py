"""A conversation in a terminal."""

import dataclasses
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from medqa_finetune.chatting.conversation import DISCLAIMER, Conversation
from medqa_finetune.chatting.terminal import brake, edit_lines, harmless, is_readable, settle_terminal
from medqa_finetune.config.ranges import sampling_faults
from medqa_finetune.errors import EXIT_DONE, ConfigError, Fault, MedQAError
from medqa_finetune.record.files import write_json

PROMPT = "> "
HELP = """\
/help             this list
/reset            forget what was said
/system TEXT      instruct the model and begin anew; without TEXT, no instructions
/save FILE        write the conversation as JSON
/temperature 0.7  draw tokens instead of taking the most likely ones (0)
/top-p 0.9        of the most likely tokens that together have this probability
/max-tokens 200   length of an answer
/exit             leave (or Ctrl-D)
Ctrl-C stops an answer; what was said stays in the conversation. A question that begins with / takes a second one."""
SETTINGS = {"/temperature": "temperature", "/top-p": "top_p", "/max-tokens": "max_new_tokens"}


class Session:
    """What a terminal shows of a conversation, and what its commands do.

    Args:
        conversation: With whom.
    """

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self._saved: set[Path] = set()
        self._commands: dict[str, Callable[[str], None]] = {
            "/help": lambda _: print(HELP),
            "/reset": self._reset,
            "/system": self._instruct,
            "/save": self._save,
            **{name: self._setter(name) for name in SETTINGS},
        }

    def run(self) -> int:
        """Read questions until the input ends or `/exit`, and return the exit code.

        Raises:
            KeyboardInterrupt: Ctrl-C at the prompt.
        """
        settle_terminal()
        edit_lines()
        print(f"{harmless(self.conversation.speaker.name)}. {DISCLAIMER}\n/help lists the commands.")
        while (line := self._read()) is not None:
            if line in ("/exit", "/quit"):
                break
            self.take(line)
        return EXIT_DONE

    def take(self, line: str) -> None:
        """Do what one line asks for; what is wrong with it is said, and the session goes on."""
        if not line:
            return
        try:
            if line.startswith("/") and not line.startswith("//"):
                self._command(line)
            else:
                self._answer(line[1:] if line.startswith("/") else line)
        except MedQAError as error:
            print(harmless(str(error)))

    def _read(self) -> str | None:
        try:
            line = input(PROMPT)
        except EOFError:
            print()
            return None
        if is_readable(line):
            return line.strip()
        print("This is not in the terminal's encoding; set PYTHONIOENCODING to the one it has.")
        return ""

    def _answer(self, question: str) -> None:
        shown = ""
        with brake() as stop, closing(self.conversation.stream(question)) as growing:
            try:
                for text in growing:
                    if not shown and self.conversation.note:
                        print(f"({self.conversation.note})")
                    # A tokenizer may take back a space that it had put before a sign.
                    fresh = text[len(shown) :] if text.startswith(shown) else f"\n{text}"
                    print(harmless(fresh), end="", flush=True)
                    shown = text
                    if stop.pulled:
                        break
            except KeyboardInterrupt:
                stop.pulled = True
        print(" [stopped]" if stop.pulled else "" if shown else "(no answer)")

    def _command(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        if name in self._commands:
            self._commands[name](rest.strip())
        else:
            print(f"There is no {harmless(name)}; /help lists what there is.")

    def _reset(self, _: str) -> None:
        self.conversation.reset()
        print("Forgotten; a new conversation begins.")

    def _instruct(self, text: str) -> None:
        self.conversation.instruct(text)
        print("Instructed; a new conversation begins." if self.conversation.system else "No instructions; begun anew.")

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
        print(f"Saved {len(self.conversation.turns)} turns in {harmless(name)}.")

    def _setter(self, name: str) -> Callable[[str], None]:
        field = SETTINGS[name]

        def change(text: str) -> None:
            manner = self.conversation.manner
            kind = type(getattr(manner, field))
            try:
                value = kind(text)
            except ValueError:
                problem = f"must be {'an integer' if kind is int else 'a number'}"
                raise ConfigError(Fault("wrong-type", problem, key=name, got=text)) from None
            changed = dataclasses.replace(manner, **{field: value})
            faults = list(sampling_faults(changed.temperature, changed.top_p, changed.max_new_tokens))
            if faults:
                raise ConfigError(*faults)
            self.conversation.manner = changed
            print(f"{name[1:]} is {value}.")

        return change
