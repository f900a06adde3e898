"""How much arithmetic a model takes, by its shapes: floating-point operations per token, a multiply-add being two."""

import dataclasses
from dataclasses import dataclass

from medqa_finetune.architecture.size import ModelSize, layer_number
from medqa_finetune.config.schema import MethodConfig
from medqa_finetune.model.targets import adapted_matrices, adapter_weights

# What reads a layer's input: in the lowest layer that is trained, no gradient is needed below these.
INPUT_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value", "c_attn")


@dataclass(frozen=True)
class Flops:
    """What a pass over a model costs, in floating-point operations.

    Attributes:
        per_token: For every token: the linear layers, adapters included.
        per_answer_token: On top, for every token whose logits are computed: the head.
        per_attended: For every pair of a position and one that it looks at, itself and those before it.
    """

    per_token: int
    per_answer_token: int
    per_attended: int

    def of(self, tokens: int, answer_tokens: int, squared_lengths: int) -> int:
        """Return the cost of sequences of n tokens, in each of which n * (n + 1) / 2 positions are attended."""
        attended = (squared_lengths + tokens) // 2
        return tokens * self.per_token + answer_tokens * self.per_answer_token + attended * self.per_attended


def forward_flops(size: ModelSize, method: MethodConfig) -> Flops:
    """Return the cost of one forward pass.

    Two per weight of every matrix that a token passes, adapters beside theirs; four times the width of all heads per
    attended position: its score and its share of the output (Kaplan et al. 2020, arXiv:2001.08361, section 2.1, table
    1). Norms, activations and softmax are left out, as they are there; so are what takes quantized weights apart, and
    what DoRA does to the weights themselves: lengths of rows, once a pass and not for every token.
    """
    return Flops(
        per_token=2 * (size.linear_weights + _products(adapted_matrices(size, method), method)),
        per_answer_token=2 * size.vocabulary * size.hidden,
        per_attended=4 * sum(size.attention_widths),
    )


def training_flops(size: ModelSize, method: MethodConfig) -> Flops:
    """Return the cost of a forward and a backward pass.

    Backward takes two per weight for the gradient of a matrix's input, where something below is trained, and two more
    for that of the weight itself, where it is trained; attention twice what it takes forwards (Chowdhery et al. 2022,
    arXiv:2204.02311, appendix B, for training every weight: six per weight). So frozen weights cost four, not six.
    Gradient checkpointing computes a forward pass anew, which is no progress and is not counted.

    Exact where adapters are beside all linear layers; where they are beside some, the lowest layer that has one is
    reckoned as if all had, a little high. So is the lowest layer of Phi, whose MLP reads the layer's input, too.
    """
    forward = forward_flops(size, method)
    if method.trains == "nothing":
        return forward
    if method.trains == "all":
        return Flops(*(3 * each for each in (forward.per_token, forward.per_answer_token, forward.per_attended)))
    adapted = adapted_matrices(size, method)
    lowest = min(map(_layer, adapted))
    crossed = {
        name: shape
        for name, shape in size.linear.items()
        if _layer(name) > lowest or (_layer(name) == lowest and name.split(".")[-1] not in INPUT_PROJECTIONS)
    }
    weights = sum(rows * columns for rows, columns in crossed.values())
    # Both halves of an adapter are trained, and the upper one always hands a gradient to the lower one.
    trained = _products(adapted, method)
    to_lower = method.rank * sum(rows for rows, _ in adapted.values())
    to_input = method.rank * sum(columns for name, (_, columns) in adapted.items() if name in crossed)
    return Flops(
        per_token=forward.per_token + 2 * (weights + trained + to_lower + to_input),
        per_answer_token=2 * forward.per_answer_token,
        per_attended=forward.per_attended + 2 * 4 * sum(size.attention_widths[lowest:]),
    )


def _products(adapted: dict[str, tuple[int, int]], method: MethodConfig) -> int:
    """Return the weights of adapters that a token is multiplied with; DoRA's lengths only scale."""
    return adapter_weights(adapted, dataclasses.replace(method, dora=False))


def _layer(name: str) -> int:
    """Return the number of the layer that a matrix lies in; 0 for one that lies in none."""
    return layer_number(name) or 0
