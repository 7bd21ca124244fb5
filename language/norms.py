"""Llama's norm in fewer passes over memory: on a CPU it is a fifth of a small model's step.

Shapes: B rows, D hidden.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.llama.modeling_llama import LlamaRMSNorm


class FewPassRMSNorm(LlamaRMSNorm):
    """The same norm, up to rounding, forwards and backwards.

    Statistics are float32 whatever the type. On a CPU results are rounded where transformers rounds
    them; on a GPU torch's kernel rounds once, where transformers takes five passes over memory.
    """

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return hidden_states (..., D) over their root mean square, times the weight."""
        if hidden_states.device.type != "cpu":
            shape, epsilon = self.weight.shape, self.variance_epsilon
            return F.rms_norm(hidden_states, shape, self.weight, epsilon)
        apply: Callable[..., Tensor] = _RMSNorm.apply
        return apply(hidden_states, self.weight, self.variance_epsilon)


def use_few_pass_norms_(model: nn.Module) -> None:
    """Give every Llama norm of `model` this class; parameters stay where they are.

    Done where models are made and loaded, so that all passes of all models round alike.
    """
    for module in model.modules():
        if type(module) is LlamaRMSNorm:
            module.__class__ = FewPassRMSNorm


def norm_of_rows(norm: LlamaRMSNorm) -> Callable[[Tensor], Tensor]:
    """Return the norm of hidden_BD as a function of few kernels, while the weight stays as it is.

    Statistics are float32 whatever the type, and the result is rounded once. On a CPU, where a few
    rows take as long as the kernels take to begin, the root of a sum of squares and of D ε is one
    kernel: hypot(|x|, sqrt(D ε)).
    """
    weight, epsilon = norm.weight, norm.variance_epsilon
    if weight.device.type != "cpu":
        return lambda hidden_BD: F.rms_norm(hidden_BD, weight.shape, weight, epsilon)
    size = len(weight)
    scaled, least = weight.float() * size**0.5, torch.tensor((size * epsilon) ** 0.5)

    def normalised(hidden_BD: Tensor) -> Tensor:
        length_B1 = torch.linalg.vector_norm(hidden_BD, dim=1, keepdim=True, dtype=torch.float32)
        return hidden_BD.div(length_B1.hypot_(least)).mul_(scaled).to(hidden_BD.dtype)

    return normalised


class _RMSNorm(torch.autograd.Function):
    """y = x r w with r = 1 / sqrt(mean(x²) + ε), and its gradient written out.

    With g the gradient of y and d = Σ_D g x r w: dx = r (g w - x r d / D), dw = Σ g x r.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - autograd's, which takes any attribute
        hidden: Tensor,
        weight: Tensor,
        epsilon: float,
    ) -> Tensor:
        wide = hidden.float()
        squares = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_()
        inverse = squares.div_(hidden.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(hidden, weight, inverse)
        output: Tensor = (wide * inverse).to(hidden.dtype).mul_(weight)
        return output

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        *gradients: Tensor,
    ) -> tuple[Tensor | None, ...]:
        hidden, weight, inverse = ctx.saved_tensors
        gradient, wide_weight = gradients[0].float(), weight.float()
        unit = hidden * inverse
        product = gradient * unit
        weight_grad = product.flatten(0, -2).sum(dim=0)
        along = (product @ wide_weight)[..., None]
        grad = gradient * wide_weight
        grad.addcmul_(unit, along, value=-1.0 / hidden.shape[-1]).mul_(inverse)
        return grad.to(hidden.dtype), weight_grad.to(weight.dtype), None
