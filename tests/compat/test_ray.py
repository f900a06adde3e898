"""What an address of a Ray cluster means."""

import socket
from importlib.util import find_spec

import pytest

from medqa_finetune.compat.ray import answers, resolved_address

without_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra: pip install -e '.[ray]'")


def test_whoever_listens_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert answers(address)
    assert not answers(address)


@without_ray
def test_address_is_taken_as_it_is_or_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolved_address("10.0.0.1:6379") == "10.0.0.1:6379"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.2:6379")
    assert resolved_address("auto") == "10.0.0.2:6379"
