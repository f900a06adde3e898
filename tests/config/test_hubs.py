"""What is advised where a hub cannot be reached."""

import pytest

from medqa_finetune.config.hubs import ENDPOINT, OFFLINE, other_ways


@pytest.mark.parametrize(
    ("variables", "hub", "advice"),
    [
        ({}, "huggingface", "export HF_ENDPOINT="),
        ({}, "huggingface", "source=modelscope"),
        ({}, "modelscope", "source=huggingface"),
        ({ENDPOINT: "https://x"}, "huggingface", "unset HF_ENDPOINT"),
        ({ENDPOINT: "https://x"}, "huggingface", "export HF_ENDPOINT=https://hf-mirror.com, source=modelscope"),
        ({ENDPOINT: "https://hf-mirror.com/"}, "huggingface", "in this order: source=modelscope"),
        ({OFFLINE: "1"}, "huggingface", "unset HF_HUB_OFFLINE"),
        ({OFFLINE: "0"}, "huggingface", "export HF_ENDPOINT="),
    ],
)
def test_the_advice_follows_what_is_set(
    variables: dict[str, str], hub: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (ENDPOINT, OFFLINE):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert advice in other_ways(hub, "source")
