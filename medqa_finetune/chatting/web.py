"""One model, or two side by side, in a browser on this machine. Nothing leaves it."""

import html
import os
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing, suppress
from itertools import zip_longest
from typing import Any

from medqa_finetune.chatting.conversation import DISCLAIMER, Conversation
from medqa_finetune.chatting.session import Asking
from medqa_finetune.chatting.speaker import Manner, Speaker
from medqa_finetune.errors import ConfigError, Fault, MedQAError

# Of this machine, and of no network that it is in.
HOST = "127.0.0.1"
# What a browser has, so that no font is fetched.
FONTS = ["system-ui", "sans-serif"]
# Answers are text: no markup, formula or link in one is anything else.
PLAIN: dict[str, Any] = {"render_markdown": False, "sanitize_html": True, "latex_delimiters": [], "allow_tags": False,
         "allow_file_downloads": False, "feedback_options": None, "buttons": ["copy"]}  # fmt: skip

Talks = list[Conversation]
Messages = list[dict[str, str]]


class Answering:
    """What the page does: the same question to every model, each with a conversation of its own per visitor.

    Args:
        speakers: Who answers.
        asking: How; the page changes it.
    """

    def __init__(self, speakers: Sequence[Speaker], asking: Asking) -> None:
        self.speakers = speakers
        self.asking = asking

    def ask(
        self, question: str, talks: Talks | None, system: str, temperature: float, *lengths: float
    ) -> Generator[tuple[Any, ...], None, None]:
        """Yield what is shown as the answers grow, at the same pace.

        Args:
            question: Asked.
            talks: The visitor's conversations; None before the first question.
            system: Instructions; other ones than before begin anew.
            temperature: As in `Manner`.
            lengths: `top_p` and `max_new_tokens` of `Manner`.

        Yields:
            An empty question, the conversations, and for every model what was said.
        """
        import gradio as gr

        talks = talks or [Conversation(speaker, seed=self.asking.seed) for speaker in self.speakers]
        for talk in talks:
            talk.manner = Manner(float(temperature), float(lengths[0]), int(lengths[1]))
            if talk.system != system.strip():
                talk.instruct(system)
        before = [self._shown(talk) for talk in talks]
        try:
            with ExitStack() as stack:
                streams = [stack.enter_context(closing(talk.stream(question))) for talk in talks]
                said = [""] * len(talks)
                for texts in zip_longest(*streams):
                    said = [new if new is not None else old for new, old in zip(texts, said, strict=True)]
                    growing = [
                        [*shown, _message("user", question), _message("assistant", text)]
                        for shown, text in zip(before, said, strict=True)
                    ]
                    yield "", talks, *growing
        except MedQAError as error:
            gr.Warning(html.escape(str(error)))
        yield "", talks, *(self._shown(talk) for talk in talks)

    def reset(self, talks: Talks | None) -> tuple[Any, ...]:
        """Forget a visitor's conversations."""
        for talk in talks or []:
            talk.reset()
        return talks, *([] for _ in self.speakers)

    def _shown(self, talk: Conversation) -> Messages:
        shown: Messages = []
        for turn in talk.turns:
            answer = f"{turn.answer} [stopped]" if turn.stopped else turn.answer
            shown += [_message("user", turn.question), _message("assistant", answer)]
        return shown


def _message(role: str, content: str) -> dict[str, str]:
    # Gradio takes a text for HTML, of which it drops what could run: a `<b>` would be obeyed, a `<script>` be missing.
    return {"role": role, "content": html.escape(content, quote=False)}


def page(speakers: Sequence[Speaker], asking: Asking) -> Any:
    """Return the page, a Gradio application."""
    # Before Gradio is imported, which would report its use.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # Browsers would keep what was asked. By a variable: `launch` has an argument for it in newer releases alone.
    os.environ["GRADIO_RUN_HISTORY"] = "False"
    import gradio as gr

    answering = Answering(speakers, asking)
    length = asking.max_new_tokens or max(speaker.max_new_tokens for speaker in speakers)
    with gr.Blocks(analytics_enabled=False, title="medqa_finetune", fill_width=True) as built:
        gr.Markdown(DISCLAIMER)
        with gr.Row():
            shown = [gr.Chatbot(label=speaker.name, height=520, **PLAIN) for speaker in speakers]
        question = gr.Textbox(label="question", placeholder="感冒了怎么办？", autofocus=True)
        with gr.Row():
            send, stop, reset = gr.Button("send", variant="primary"), gr.Button("stop"), gr.Button("reset")
        with gr.Accordion("settings", open=False):
            settings = [
                gr.Textbox(asking.system, label="system (a change begins anew)"),
                gr.Slider(0, 2, asking.temperature, step=0.05, label="temperature (0: the most likely tokens)"),
                gr.Slider(0.05, 1, asking.top_p, step=0.05, label="top-p"),
                gr.Slider(1, max(2048, length), length, step=1, label="tokens of an answer at most"),
            ]
        talks = gr.State(None)
        inputs, outputs = [question, talks, *settings], [question, talks, *shown]
        events: Any = [
            listen(answering.ask, inputs, outputs, api_name=name, concurrency_id="models", concurrency_limit=1)
            for listen, name in ((send.click, "ask"), (question.submit, "submit"))
        ]
        stop.click(None, cancels=events)
        reset.click(answering.reset, [talks], [talks, *shown], api_name="reset")
    return built


def serve(speakers: Sequence[Speaker], asking: Asking, port: int) -> None:
    """Serve the page on this machine until Ctrl-C.

    Raises:
        ConfigError: the port is taken.
    """
    built = page(speakers, asking)
    from gradio.themes import Base

    try:
        built.queue().launch(
            server_name=HOST, server_port=port, share=False, inbrowser=False, quiet=True, prevent_thread_lock=True,
            ssr_mode=False, enable_monitoring=False, mcp_server=False, pwa=False, footer_links=[],
            theme=Base(font=FONTS, font_mono=["monospace"]),
        )  # fmt: skip
    except OSError:
        problem, hint = "another program uses this port", "Give another one."
        raise ConfigError(Fault("port-taken", problem, key="port", got=port, hint=hint)) from None
    print(f"http://{HOST}:{port}  {DISCLAIMER}  Ctrl-C ends it.", flush=True)
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)
    built.close()
