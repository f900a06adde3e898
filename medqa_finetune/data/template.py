"""A chat template: what is put in front of every answer, and what is behind it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medqa_finetune.data.examples import Example, Turn
from medqa_finetune.errors import Fault, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PAIR = "a question and an answer"
PLAIN_TEMPLATE = "Use corpora of single questions, or a model with a plain template."


class ChatTemplate:
    """Renders dialogues by the template of a model's own tokenizer.

    Where no system prompt is given, none is named: templates that have a default one (Qwen2.5's) then take it.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer

    def prompt(self, question: str, system: str | None = None, history: Sequence[Turn] = ()) -> str:
        """Return the text up to where the answer to `question` begins.

        Raises:
            ModelError: the template does not take a system prompt, or no history.
        """
        messages = [] if system is None else [{"role": "system", "content": system}]
        for asked, said in history:
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        messages.append({"role": "user", "content": question})
        try:
            return str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        except Exception as error:  # Jinja's own kinds, and whatever a template raises
            beside = [name for name, given in (("a system prompt", system), ("earlier turns", history)) if given]
            what = f"a question with {' and '.join(beside)}" if beside else PAIR
            raise ModelError(_failing(what, error)) from None

    def parts(self, pair: Example) -> list[str]:
        """Return what stands before the first answer, that answer, what stands before the next one, and so on.

        Raises:
            ModelError: the template changes what came before when a turn is added, so that no answer has a place.
        """
        parts: list[str] = []
        done = ""
        for place, (question, answer) in enumerate(pair.turns):
            prompt = self.prompt(question, pair.system, pair.history[:place])
            if not prompt.startswith(done):
                raise ModelError(Fault(
                    "template-unfit",
                    f"the chat template changes earlier turns of pair {pair.id[:60]} when one is added, so that their "
                    "answers cannot be trained on",
                    hint=PLAIN_TEMPLATE,
                ))  # fmt: skip
            parts += [prompt[len(done) :], answer]
            done = prompt + answer
        return parts

    def ending(self) -> str:
        """Return what is put behind an answer.

        Raises:
            ModelError: the template fails on one, or does not put it right behind the generation prompt.
        """
        question, answer = "问", "答"
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        prompt = self.prompt(question)
        try:
            text = str(self._tokenizer.apply_chat_template(messages, tokenize=False))
        except Exception as error:  # as above
            raise ModelError(_failing(PAIR, error)) from None
        if not text.startswith(prompt + answer):
            raise ModelError(Fault(
                "template-unfit",
                "the chat template does not put the answer right behind the generation prompt: it cannot be trained on",
                hint="Use a model with another template.",
            ))  # fmt: skip
        return text[len(prompt + answer) :]


def _failing(what: str, error: Exception) -> Fault:
    hint = "Use a model with another template." if what == PAIR else PLAIN_TEMPLATE
    return Fault("template-fails", f"the chat template fails on {what} ({error})", hint=hint)
