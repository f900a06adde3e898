"""Which hubs answer, by servers on this machine in their place."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub.constants
import pytest

from medqa_finetune.checkup import hubs
from medqa_finetune.checkup.result import Check, State
from medqa_finetune.config.hubs import MIRROR


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    # What another test's environment said when the client was loaded.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


# Nothing listens there.
CLOSED = "http://127.0.0.1:9"


@contextmanager
def server(code: int = 200, seconds: float = 0.0) -> Iterator[str]:
    """Yield the address of a server that answers with a code after some seconds."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            time.sleep(seconds)
            self.send_response(code)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()
    serving.server_close()
    thread.join()


def checked(monkeypatch: pytest.MonkeyPatch, up: str, *, endpoint: str = "") -> Check:
    """Return the check with servers for the hubs that are up: `h` Hugging Face, `m` its mirror, `s` ModelScope."""
    for name in (*hubs.OFFLINE, "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with ExitStack() as servers:
        for letter, name in (("h", "HUGGING_FACE"), ("m", "MIRROR"), ("s", "MODELSCOPE")):
            monkeypatch.setattr(hubs, name, servers.enter_context(server()) if letter in up else CLOSED + letter)
        return hubs.check_hubs()


def test_all_hubs_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    check = checked(monkeypatch, "hms")
    assert (check.state, check.faults) == (State.OK, [])
    assert None not in check.facts["reachable"].values()


@pytest.mark.parametrize(("up", "remedy"), [("ms", "HF_ENDPOINT="), ("s", "source=modelscope"), ("", "HTTPS_PROXY")])
def test_the_remedy_is_a_hub_that_answers(monkeypatch: pytest.MonkeyPatch, up: str, remedy: str) -> None:
    check = checked(monkeypatch, up)
    (fault,) = check.faults
    assert (check.state, fault.code) == (State.WARNING, "hub-unreachable")
    assert remedy in fault.hint


def test_a_dead_endpoint_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    (fault,) = checked(monkeypatch, "hms", endpoint=f"{CLOSED}9").faults
    assert (fault.key, fault.got) == ("HF_ENDPOINT", f"{CLOSED}9")
    assert "unset HF_ENDPOINT" in fault.hint


@pytest.mark.parametrize(("code", "answers"), [(200, True), (403, True), (407, False), (502, False)])
def test_what_a_proxy_says_is_no_answer(code: int, answers: bool) -> None:
    with server(code) as address:
        (answer,) = hubs.ask([address])
    assert (answer.seconds is not None) is answers


def test_a_silent_server_takes_no_longer_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "SECONDS", 0.2)
    with server(seconds=0.7) as address:
        (answer,) = hubs.ask([address])
    assert answer.seconds is None


@pytest.mark.parametrize("variable", hubs.OFFLINE)
def test_offline_asks_nobody(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    for name in hubs.OFFLINE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(hubs, "ask", None)
    check = hubs.check_hubs()
    assert (check.state, check.facts["offline"]) == (State.SKIPPED, variable)


@pytest.mark.parametrize(
    ("what", "hub", "up", "command"),
    [
        ("model=a", "huggingface", "hms", "Run `medqa-download model=a`."),
        ("model=a", "huggingface", "m", "Run `HF_ENDPOINT=https://hf-mirror.com medqa-download model=a`."),
        ("model=a", "huggingface", "s", "medqa-download model=a source=modelscope`."),
        ("corpus=b", "huggingface", "s", "Run `medqa-download corpus=b` on a machine"),
        ("corpus=b", "modelscope", "s", "medqa-download corpus=b source=modelscope`."),
        ("model=a", "huggingface", "", "Run `medqa-download model=a` on a machine"),
    ],
)
def test_the_hint_is_a_command_that_reaches_a_hub(
    monkeypatch: pytest.MonkeyPatch, what: str, hub: str, up: str, command: str
) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    addresses = {"h": hubs.HUGGING_FACE, "m": MIRROR, "s": hubs.MODELSCOPE}
    reached = {address: 0.1 if letter in up else None for letter, address in addresses.items()}
    assert command in hubs.download_hint(what, hub, reached)


def test_an_endpoint_that_is_dead_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", CLOSED)
    reached = {CLOSED: None, hubs.HUGGING_FACE: 0.1}
    assert "`env -u HF_ENDPOINT medqa-download model=a`" in hubs.download_hint("model=a", "huggingface", reached)
