"""A Llama's last layer, computed where its output is read.

Keys and values of the last layer come from every token; its output is needed only at tokens that a
head reads: those before response tokens, or the last one of a row. At the others the output
projection and the feed-forward, three quarters of a layer's work, are left out, forwards and
backwards. What is read is the same up to rounding.

Shapes: T tokens on a line of packed rows, R of these that are read, D hidden.
"""

from typing import Any

from torch import Tensor, nn
from transformers import LlamaModel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer


class LastLayer(LlamaDecoderLayer):
    """A decoder layer that returns its output at the places `read_R` alone, where it is given them.

    Its attention must be `language.packed_attention.PackedLlamaAttention` then.
    """

    def forward(
        self,
        hidden_states: Tensor,
        *arguments: Any,  # noqa: ANN401 - what transformers gives its layers
        read_R: Tensor | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> Tensor:
        """Return hidden states (1, R, D) for (1, T, D); at all of T without `read_R`."""
        if read_R is None:
            output: Tensor = super().forward(hidden_states, *arguments, **kwargs)
            return output
        assert not arguments, "a Llama names all but the hidden states"
        normalised = self.input_layernorm(hidden_states)
        attended, _ = self.self_attn(normalised, taken_R=read_R, **kwargs)
        attended = hidden_states[:, read_R] + attended
        result: Tensor = attended + self.mlp(self.post_attention_layernorm(attended))
        return result


def use_last_layer_(model: nn.Module) -> None:
    """Give the last layer of every Llama in `model` this class; parameters stay where they are.

    Done where models are made and loaded: a model that is cut over processes has classes of its own
    for its layers afterwards.
    """
    for module in model.modules():
        if isinstance(module, LlamaModel) and type(module.layers[-1]) is LlamaDecoderLayer:
            module.layers[-1].__class__ = LastLayer


def reads_places(model: LlamaModel) -> bool:
    """Return whether `model` takes `read_R`."""
    return isinstance(model.layers[-1], LastLayer)
