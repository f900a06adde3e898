from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from medqa_finetune.compat.torch_compile import compiled_layers
from scripts.small_models import SIZES


def test_compiled_layers_are_as_before_after_the_block() -> None:
    compiled: list[Any] = []

    def backend(graph: Any, _: Any) -> Any:
        compiled.append(graph)
        return graph.forward

    torch._dynamo.reset()
    model: Any = Qwen2ForCausalLM(Qwen2Config(vocab_size=300, **SIZES))
    model.eval()
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        plain = model(input_ids=ids, use_cache=False).logits
        assert compiled == []
        with compiled_layers(model, backend=backend, dynamic=True) as number:
            assert number == SIZES["num_hidden_layers"]
            torch.testing.assert_close(model(input_ids=ids, use_cache=False).logits, plain)
        assert compiled != []
        compiled.clear()
        torch._dynamo.reset()  # what was compiled is forgotten, and would be compiled anew
        model(input_ids=ids, use_cache=False)
    assert compiled == []
