"""Chat with one model, or two side by side, in a browser on this machine. Nothing is sent elsewhere."""

import html
import os
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing, suppress
from itertools import zip_longest
from typing import Any

from medqa_finetune.chatting.chat_model import ChatModel, Sampling
from medqa_finetune.chatting.conversation import DISCLAIMER, ChatSettings, Conversation
from medqa_finetune.errors import ConfigError, Fault, MedQAError
from medqa_finetune.languages.translate import say

# Reachable from this machine only.
HOST = "127.0.0.1"
# Fonts of the browser: none is downloaded.
FONTS = ["system-ui", "sans-serif"]
# Answers are plain text: no markup, formula or link is rendered.
PLAIN: dict[str, Any] = {
    "render_markdown": False,
    "sanitize_html": True,
    "latex_delimiters": [],
    "allow_tags": False,
    "allow_file_downloads": False,
    "feedback_options": None,
    "buttons": ["copy"],
}

Talks = list[Conversation]
Messages = list[dict[str, str]]


class PageEvents:
    """Event handlers of the page: ask every model the same question, in one conversation per visitor and model."""

    def __init__(self, models: Sequence[ChatModel], settings: ChatSettings) -> None:
        self.models = models
        self.settings = settings

    def ask(
        self, question: str, talks: Talks | None, system: str, temperature: float, *lengths: float
    ) -> Generator[tuple[Any, ...], None, None]:
        """Yield the page's contents while the answers grow token by token.

        Args:
            question: From the text box.
            talks: The visitor's conversations; None before the first question.
            system: System prompt; a change starts new conversations.
            temperature: As in `Sampling`.
            lengths: `top_p` and `max_new_tokens` of `Sampling`.

        Yields:
            An empty question, the conversations, and the messages of every model.
        """
        import gradio as gr

        talks = talks or [Conversation(model, seed=self.settings.seed) for model in self.models]
        for talk in talks:
            talk.sampling = Sampling(float(temperature), float(lengths[0]), int(lengths[1]))
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
        """Remove the turns of a visitor's conversations."""
        for talk in talks or []:
            talk.reset()
        return talks, *([] for _ in self.models)

    def _shown(self, talk: Conversation) -> Messages:
        shown: Messages = []
        for turn in talk.turns:
            answer = f"{turn.answer} [stopped]" if turn.stopped else turn.answer
            shown += [_message("user", turn.question), _message("assistant", answer)]
        return shown


def _message(role: str, content: str) -> dict[str, str]:
    # Gradio reads text as HTML: it would render a `<b>` and drop a `<script>`.
    return {"role": role, "content": html.escape(content, quote=False)}


def build_page(models: Sequence[ChatModel], settings: ChatSettings) -> Any:
    """Return the page, a Gradio application."""
    # Set before the import of Gradio, which would report usage.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # Browsers would store the questions. Only newer releases have an argument for this.
    os.environ["GRADIO_RUN_HISTORY"] = "False"
    import gradio as gr

    events = PageEvents(models, settings)
    length = settings.max_new_tokens or max(model.max_new_tokens for model in models)
    with gr.Blocks(analytics_enabled=False, title="medqa_finetune", fill_width=True) as built:
        gr.Markdown(DISCLAIMER)
        with gr.Row():
            shown = [gr.Chatbot(label=model.name, height=520, **PLAIN) for model in models]
        question = gr.Textbox(label="question", placeholder="感冒了怎么办？", autofocus=True)
        with gr.Row():
            send, stop, reset = gr.Button("send", variant="primary"), gr.Button("stop"), gr.Button("reset")
        with gr.Accordion("settings", open=False):
            controls = [
                gr.Textbox(settings.system, label="system (a change starts a new conversation)"),
                gr.Slider(0, 2, settings.temperature, step=0.05, label="temperature (0: most likely tokens)"),
                gr.Slider(0.05, 1, settings.top_p, step=0.05, label="top-p"),
                gr.Slider(1, max(2048, length), length, step=1, label="most tokens of an answer"),
            ]
        talks = gr.State(None)
        inputs, outputs = [question, talks, *controls], [question, talks, *shown]
        answers: Any = [
            listen(events.ask, inputs, outputs, api_name=name, concurrency_id="models", concurrency_limit=1)
            for listen, name in ((send.click, "ask"), (question.submit, "submit"))
        ]
        stop.click(None, cancels=answers)
        reset.click(events.reset, [talks], [talks, *shown], api_name="reset")
    return built


def serve(models: Sequence[ChatModel], settings: ChatSettings, port: int) -> None:
    """Serve the page on this machine until Ctrl-C.

    Raises:
        ConfigError: the port is in use.
    """
    built = build_page(models, settings)
    from gradio.themes import Base

    try:
        built.queue().launch(
            server_name=HOST,
            server_port=port,
            share=False,
            inbrowser=False,
            quiet=True,
            prevent_thread_lock=True,
            ssr_mode=False,
            enable_monitoring=False,
            mcp_server=False,
            pwa=False,
            footer_links=[],
            theme=Base(font=FONTS, font_mono=["monospace"]),
        )
    except OSError:
        problem, hint = "another program uses this port", "Give another one."
        raise ConfigError(Fault("port-taken", problem, key="port", got=port, hint=hint)) from None
    print(f"http://{HOST}:{port}  {DISCLAIMER}  {say('Ctrl-C stops the server.')}", flush=True)
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)
    built.close()
