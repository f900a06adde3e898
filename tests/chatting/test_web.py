"""The page: what it sends and shows, over HTTP as a browser does; a browser itself where there is one."""

import html
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from medqa_finetune.chatting.chat_model import Sampling
from medqa_finetune.chatting.conversation import ChatSettings
from medqa_finetune.chatting.web import PageEvents
from tests.chatting.fakes import Parrot
from tests.commands import ROOT

needs_gradio = pytest.mark.skipif(find_spec("gradio") is None, reason="needs the extra: pip install -e '.[web]'")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SETTINGS: tuple[Any, ...] = ("", 0.0, 1.0, 64)
HOSTILE = "<script>document.title='obeyed'</script><img src=x onerror=\"document.title='obeyed'\">**粗**"


def ask(answering: PageEvents, question: str, talks: Any = None, settings: Any = SETTINGS) -> list[tuple[Any, ...]]:
    return list(answering.ask(question, talks, *settings))


@needs_gradio
def test_two_models_answer_at_the_same_pace() -> None:
    answering = PageEvents([Parrot("一二三"), Parrot("四")], ChatSettings())  # type: ignore[list-item]
    shown = [[chat[-1]["content"] for chat in update[2:]] for update in ask(answering, "头痛")]
    assert shown == [["一", "四"], ["一二", "四"], ["一二三", "四"], ["一二三", "四"]]


@needs_gradio
def test_every_visitor_has_conversations_of_their_own() -> None:
    answering = PageEvents([Parrot()], ChatSettings())  # type: ignore[list-item]
    mine = ask(answering, "头痛")[-1][1]
    theirs = ask(answering, "咳嗽")[-1][1]
    again = ask(answering, "多久？", mine)[-1]
    assert [turn.question for turn in again[1][0].turns] == ["头痛", "多久？"]
    assert [turn.question for turn in theirs[0].turns] == ["咳嗽"]
    assert [message["role"] for message in again[2]] == ["user", "assistant"] * 2


@needs_gradio
def test_settings_change_and_new_instructions_reset() -> None:
    parrot = Parrot()
    answering = PageEvents([parrot], ChatSettings())  # type: ignore[list-item]
    talks = ask(answering, "头痛", None, ("简短。", 0.5, 0.9, 20))[-1][1]
    assert parrot.samplings == [Sampling(0.5, 0.9, 20)]
    assert talks[0].system == "简短。"
    assert len(ask(answering, "多久？", talks, ("简短。", 0.5, 0.9, 20))[-1][1][0].turns) == 2
    assert len(ask(answering, "多久？", talks, ("详细。", 0.5, 0.9, 20))[-1][1][0].turns) == 1


@needs_gradio
def test_an_answer_that_is_stopped_stays_marked() -> None:
    answering = PageEvents([Parrot("一二三")], ChatSettings())  # type: ignore[list-item]
    updates = answering.ask("头痛", None, *SETTINGS)
    talks = next(updates)[1]
    updates.close()
    assert [(turn.answer, turn.stopped) for turn in talks[0].turns] == [("一", True)]
    assert ask(answering, "多久？", talks)[-1][2][1]["content"] == "一 [stopped]"


@needs_gradio
def test_empty_questions_are_refused() -> None:
    answering = PageEvents([Parrot()], ChatSettings())  # type: ignore[list-item]
    with pytest.warns(UserWarning, match=r"\S"):  # outside of a page, Gradio's pop-up is a warning
        ((question, talks, shown),) = ask(answering, " ")
    assert (question, talks[0].turns, shown) == ("", [], [])


def test_a_reset_forgets_everything() -> None:
    answering = PageEvents([Parrot(), Parrot()], ChatSettings())  # type: ignore[list-item]
    assert answering.reset(None) == (None, [], [])


SERVER = """\
import sys
from medqa_finetune.chatting.conversation import ChatSettings
from medqa_finetune.chatting.web import serve
from tests.chatting.fakes import Parrot
one, two = Parrot({hostile!r}), Parrot("四五六")
two.name = "macaw"
serve([one, two], ChatSettings(), int(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A served page, its address; it must call nobody in the network, so a proxy that nobody answers is set."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER.format(hostile=HOSTILE), str(port)], env=environment, text=True,
        cwd=tmp_path_factory.mktemp("web"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith(f"http://127.0.0.1:{port}  "), line + process.stdout.read()
    assert "不构成医疗建议" in line
    yield f"http://127.0.0.1:{port}"
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    process.stdout.close()


def fetch(address: str, body: Any = None) -> str:
    """Return what the page answers; no proxy lies between."""
    _, host, path = re.split("//|(?<=[0-9])/", f"{address}/" if address.count("/") == 2 else address, maxsplit=2)
    connection = HTTPConnection(host, timeout=60)
    connection.request(
        "GET" if body is None else "POST", f"/{path}", body and json.dumps(body), {"Content-Type": "application/json"}
    )
    text = connection.getresponse().read().decode()
    connection.close()
    return text


@needs_gradio
@pytest.mark.slow
def test_both_models_answer_over_http(page: str) -> None:
    started = json.loads(fetch(f"{page}/gradio_api/call/ask", {"data": ["头痛", "", 0, 1, 64]}))
    events = fetch(f"{page}/gradio_api/call/ask/{started['event_id']}")
    last = json.loads(events.rpartition("event: complete\ndata: ")[2].splitlines()[0])
    texts = [message["content"][0]["text"] for chat in last[2:] for message in chat]
    assert texts == ["头痛", html.escape(HOSTILE, quote=False), "头痛", "四五六"]
    assert events.count("event: generating") > 10


@needs_gradio
@pytest.mark.slow
def test_only_this_machine_is_listened_to(page: str) -> None:
    port = int(page.rpartition(":")[2])
    listening = Path("/proc/net/tcp").read_text().splitlines()[1:]
    hosts = [line.split()[1].partition(":")[0] for line in listening if line.split()[1].endswith(f":{port:04X}")]
    assert set(hosts) == {"0100007F"}


@needs_gradio
@pytest.mark.slow
def test_the_page_names_no_other_host(page: str) -> None:
    config = json.loads(fetch(f"{page}/config"))
    assert config["analytics_enabled"] is False
    assert not config.get("run_history")  # older releases of Gradio keep none
    assert re.findall(r"""(?:src|href)=["'](?:https?:)?//(?!127\.0\.0\.1)[^"']+""", fetch(page)) == []


@needs_gradio
@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None or find_spec("playwright") is None, reason="needs playwright and a chromium")
def test_a_browser_shows_plain_text_offline(page: str) -> None:
    from playwright.sync_api import sync_playwright

    asked: list[str] = []
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        shown = browser.new_page()
        shown.on("request", lambda request: asked.append(request.url))
        shown.goto(page)
        shown.get_by_label("question").fill("头痛<b>粗</b>")
        shown.get_by_role("button", name="send").click()
        shown.get_by_text("四五六").wait_for(timeout=60_000)
        shown.get_by_text("**粗**").wait_for(timeout=60_000)
        assert shown.title() == "medqa_finetune"
        texts = [message.inner_text() for message in shown.locator("[data-testid=bot]").all()]
        assert [text.strip() for text in texts] == [HOSTILE, "四五六"]
        assert shown.locator("[data-testid=bot] img, [data-testid=bot] script, [data-testid=user] b").count() == 0
        browser.close()
    assert [url for url in asked if not url.startswith((f"{page}/", "data:", "blob:"))] == []


@needs_gradio
@pytest.mark.slow
def test_a_taken_port_is_named(page: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SERVER.format(hostile=""), page.rpartition(":")[2]], cwd=ROOT, capture_output=True,
        text=True, check=False, timeout=120,
    )  # fmt: skip
    assert f"port={page.rpartition(':')[2]}: " in done.stderr
