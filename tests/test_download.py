"""What `medqa-download` is asked for; the downloads themselves are tested with `scripts/download_*.py`."""

from collections.abc import Callable

import pytest

from medqa_finetune import download as command
from medqa_finetune.errors import ConfigError
from tests.faulty import only_fault


@pytest.mark.parametrize(
    ("typed", "called", "with_what"),
    [
        ("model qwen2.5-3b source=modelscope", "download_model", ["model=qwen2.5-3b", "source=modelscope"]),
        ("model=qwen2.5-3b", "download_model", ["model=qwen2.5-3b"]),
        ("--model qwen2.5-3b", "download_model", ["--model", "qwen2.5-3b"]),
        ("qwen2.5-3b", "download_model", ["model=qwen2.5-3b"]),
        ("Qwen/Qwen2.5-7B", "download_model", ["model=Qwen/Qwen2.5-7B"]),
        ("corpus huatuo26m_lite", "download_corpus", ["corpus=huatuo26m_lite"]),
        ("corpus=huatuo26m_lite corpus.files=[a.json]", "download_corpus",
         ["corpus=huatuo26m_lite", "corpus.files=[a.json]"]),
    ],
)  # fmt: skip
def test_a_model_or_a_corpus(typed: str, called: str, with_what: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[str, list[str]]] = []

    def called_as(name: str) -> Callable[[list[str]], int]:
        def note(arguments: list[str]) -> int:
            given.append((name, arguments))
            return 0

        return note

    for name in ("download_model", "download_corpus"):
        monkeypatch.setattr(command, name, called_as(name))
    assert command.download(typed.split()) == 0
    assert given == [(called, with_what)]


@pytest.mark.parametrize(("typed", "code"), [("", "missing-key"), ("model=a/b corpus=c", "conflict")])
def test_one_thing_is_named(typed: str, code: str) -> None:
    with pytest.raises(ConfigError) as caught:
        command.download(typed.split())
    assert only_fault(caught).code == code
