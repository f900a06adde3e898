"""How much arithmetic a model takes, by its shapes: floating-point operations, a multiply-add being two."""

from dataclasses import dataclass

from medqa_finetune.architecture.size import ModelSize


@dataclass(frozen=True)
class Flops:
    """What a pass over a model costs, in floating-point operations.

    Attributes:
        per_token: For every token: the linear layers, adapters included.
        per_answer_token: In addition, for every token whose logits are computed: the head.
        per_attended: For every pair of a position and one that it looks at, itself and those before it.
    """

    per_token: int
    per_answer_token: int
    per_attended: int

    def of(self, tokens: int, answer_tokens: int, squared_lengths: int) -> int:
        """Return the cost of sequences of n tokens, in each of which n * (n + 1) / 2 positions are attended."""
        attended = (squared_lengths + tokens) // 2
        return tokens * self.per_token + answer_tokens * self.per_answer_token + attended * self.per_attended

    def times(self, factor: int) -> "Flops":
        """Return so many times the cost."""
        return Flops(factor * self.per_token, factor * self.per_answer_token, factor * self.per_attended)


def forward_flops(size: ModelSize, adapter_weights: int = 0) -> Flops:
    """Return the cost of one forward pass.

    Two per weight of every matrix that a token passes; four times the width of all heads per attended position: its
    score and its share of the output (Kaplan et al. 2020, arXiv:2001.08361, section 2.1, table 1). Norms, activations
    and softmax are left out, as they are there; so is the dequantization of weights.

    Args:
        size: Of the base.
        adapter_weights: Weights of adapters that a token is multiplied with.
    """
    return Flops(
        per_token=2 * (size.linear_weights + adapter_weights),
        per_answer_token=2 * size.vocabulary * size.hidden,
        per_attended=4 * sum(size.attention_widths),
    )
