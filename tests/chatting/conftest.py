"""A run to talk to, and it opened; written once."""

from pathlib import Path

import pytest

from medqa_finetune.chatting.chat_model import ChatModel, load_source
from medqa_finetune.chatting.sources import source_of_run
from medqa_finetune.record.run_dir import RunDir
from tests.chatting.runs import write_run


@pytest.fixture(scope="session")
def adapter_run(micro_model: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return write_run(tmp_path_factory.mktemp("runs") / "lora_20k", micro_model)


@pytest.fixture(scope="session")
def chat_model(adapter_run: RunDir) -> ChatModel:
    return load_source(source_of_run(adapter_run.path), threads=1)
