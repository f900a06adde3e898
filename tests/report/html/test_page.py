import json

import pytest

from medqa_finetune.report.html.page import embedded_json


@pytest.mark.parametrize("text", ["</script>", "<!--<script>", "]]>&amp;", "\u2028\u2029", "\ud83d", "医学\x00"])
def test_embedded_json_cannot_leave_its_element(text: str) -> None:
    written = embedded_json({"text": text}).encode("utf-8", "backslashreplace").decode()
    assert not set(written) & set("<>&\u2028\u2029")
    assert json.loads(written) == {"text": text}


def test_chinese_stays_short() -> None:
    assert embedded_json("医学") == '"医学"'
