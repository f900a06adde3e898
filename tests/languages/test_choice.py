"""Which language is spoken."""

import pytest

from medqa_finetune.languages.choice import chosen


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"), ({"LANG": "C.UTF-8"}, "en"), ({"LANG": "zh_CN.UTF-8"}, "zh"), ({"LANG": "zh"}, "zh"),
        ({"LC_ALL": "C", "LANG": "zh_CN.UTF-8"}, "en"), ({"LC_ALL": "", "LC_MESSAGES": "zh_TW", "LANG": "C"}, "zh"),
        ({"LC_ALL": "zh_CN.GB18030", "MEDQA_LANG": "en"}, "en"), ({"LANG": "de_DE", "MEDQA_LANG": "zh"}, "zh"),
        ({"LANG": "fr_FR.UTF-8"}, "en"), ({"LANG": "zha_CN"}, "en"),
    ],
)  # fmt: skip
def test_the_first_named_language_is_spoken(environment: dict[str, str], language: str) -> None:
    assert chosen(environment) == language
