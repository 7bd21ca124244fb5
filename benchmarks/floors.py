"""What a pass over a Llama must compute at least: the products of its layers."""


def pass_flops(hidden: int, intermediate: int, layers: int, *, tokens: float, read: float) -> float:
    """Return the FLOP of the layers' products in a forward pass over `tokens`, attention left out.

    2 for each parameter and token; in the last layer all tokens need keys, values and queries, but
    the output projection and the feed-forward only those that a head `read`s.
    """
    inward, outward = 3 * hidden**2, hidden**2 + 3 * hidden * intermediate
    return 2.0 * (layers * (inward + outward) * tokens - outward * (tokens - read))


def llama_flops(shape: dict[str, int], *, tokens: float, read: float) -> float:
    """Return `pass_flops` of a shape as `LlamaConfig` names it."""
    names = ("hidden_size", "intermediate_size", "num_hidden_layers")
    return pass_flops(*(shape[name] for name in names), tokens=tokens, read=read)
