"""Floating-point operations of a model, from its shapes; a multiply-add counts as two."""

from dataclasses import dataclass

from medqa_finetune.architecture.size import ModelSize


@dataclass(frozen=True)
class Flops:
    """The cost of a pass over a model, in floating-point operations.

    Attributes:
        per_token: Per token: the linear layers, adapters included.
        per_answer_token: In addition, per token whose logits are computed: the head.
        per_attended: Per pair of a position and one that it attends to, itself or an earlier one.
    """

    per_token: int
    per_answer_token: int
    per_attended: int

    def of(self, tokens: int, answer_tokens: int, squared_lengths: int) -> int:
        """Return the cost of sequences of n tokens, in each of which n * (n + 1) / 2 pairs are attended.

        Args:
            tokens: Sum of n.
            answer_tokens: Tokens whose logits are computed.
            squared_lengths: Sum of n².
        """
        attended = (squared_lengths + tokens) // 2
        return tokens * self.per_token + answer_tokens * self.per_answer_token + attended * self.per_attended

    def times(self, factor: int) -> "Flops":
        """Return the cost multiplied by `factor`."""
        return Flops(factor * self.per_token, factor * self.per_answer_token, factor * self.per_attended)


def forward_flops(size: ModelSize, adapter_weights: int = 0) -> Flops:
    """Return the cost of one forward pass.

    Two per weight of every matrix that a token passes; per attended pair four times the width of all heads, for its
    score and its share of the output (Kaplan et al. 2020, arXiv:2001.08361, section 2.1, table 1). Like there, norms,
    activations and softmax are left out; so is the dequantization of weights.

    Args:
        size: Size of the base.
        adapter_weights: Adapter weights that a token is multiplied with.
    """
    return Flops(
        per_token=2 * (size.linear_weights + size.passed_expert_weights + adapter_weights),
        per_answer_token=2 * size.vocabulary * size.hidden,
        per_attended=4 * sum(size.attention_widths),
    )
