"""The proof that a server holds the weights it should: what it says of tokens is recomputed here.

B rows, T tokens in a row.
"""

from statistics import fmean
from typing import NamedTuple

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from language.chat import decode_response, encode_prompt
from language.generation import GenerationRequest, generate
from language.logprobs import response_logprobs
from language.rows import TokenRow, pad_rows
from language.servers import LogprobsKind, ServedRow, Server, WantedRow, row_seed
from language.tokenizers import eos_id_of, pad_id_of
from language.transport import ServerError
from records.dialogues import Dialogue
from records.servers import PROOF_TOLERANCES, HandOver

_TEMPERATURE = 0.7
"""Not 1, so that tempered and untempered log-probabilities can be told apart."""
_NUM_TOKENS = 16


class WrongWeightsError(ServerError):
    """A server holds other weights than it should."""


class Proof(NamedTuple):
    """What a server's tokens were found to be."""

    logprobs_kind: LogprobsKind | None
    """Which log-probabilities it gives; None where it gives none."""
    mean_gap: float
    """Nats between its log-probabilities and ours, mean over tokens; 0 where it gives none."""
    max_gap: float
    """Largest of these."""
    num_compared: int
    """Tokens compared, or, where it gives no log-probabilities, greedy texts."""


def prove_weights(
    server: Server, policy: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase
) -> Proof:
    """Return the proof that `server` holds the weights of `policy`.

    A few responses are sampled there; the log-probabilities it gives their tokens, tempered or not
    as it likes, must be ours within the tolerance of the coarser type. Weights that differ by less,
    such as those of neighbouring steps, are told apart by their version alone. Where a server gives
    no log-probabilities, its greedy texts must be ours: all of them in float32, and more than half
    in coarser types, whose near ties fall either way.

    Raises:
        WrongWeightsError: It holds others; says by how much and what to do.
        ServerError: It cannot be asked.
    """
    confirm_weights(server)
    num_prompts = server.config.num_proof_prompts
    prompts = [_prompt_ids(tokenizer, number) for number in range(num_prompts)]
    temperature = _TEMPERATURE if server.gives_tokens else 0.0
    eos_ids = (eos_id_of(tokenizer),)
    served = [
        server.sample(
            WantedRow(ids, temperature, 1.0, _NUM_TOKENS, row_seed(num_prompts, number), eos_ids)
        )
        for number, ids in enumerate(prompts)
    ]
    if server.gives_tokens:
        return _compare_logprobs(server, policy, tokenizer, prompts, served)
    return _compare_texts(server, policy, tokenizer, prompts, served)


def confirm_weights(server: Server) -> None:
    """Compare the version that the server itself says with the one it was given.

    Says nothing where one of them is not known: of servers that no weights were handed to, or that
    have no place for a version.

    Raises:
        WrongWeightsError: They differ.
    """
    if server.config.handover is HandOver.NONE:
        return
    version = server.weight_version()
    if version is not None and version != server.weights:
        raise WrongWeightsError(
            server.transport.name,
            f"it says that its weights are {version!r}, not {server.weights!r}: it was restarted, "
            "or another run uses it. Give each run a server of its own, and start this one again",
        )


def _prompt_ids(tokenizer: PreTrainedTokenizerBase, number: int) -> tuple[int, ...]:
    prompt = Dialogue.from_texts(f"What do you know of the number {number}?")
    return tuple(encode_prompt(tokenizer, prompt))


@torch.no_grad()
def _compare_logprobs(
    server: Server,
    policy: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[tuple[int, ...]],
    served: list[ServedRow],
) -> Proof:
    rows = [TokenRow(ids, row.ids) for ids, row in zip(prompts, served, strict=True)]
    batch = pad_rows(rows, pad_id=pad_id_of(tokenizer), device=policy.device)
    theirs = torch.tensor([value for row in served for value in row.logprobs])
    kinds = {LogprobsKind.AS_DRAWN: _TEMPERATURE, LogprobsKind.UNTEMPERED: 1.0}
    gaps: dict[LogprobsKind, torch.Tensor] = {}
    for kind, temperature in kinds.items():
        logprobs_BT = response_logprobs(policy, batch, temperature=temperature)
        gaps[kind] = (logprobs_BT[batch.response_mask_BT].cpu() - theirs).abs().double()
    kind = min(gaps, key=lambda candidate: float(gaps[candidate].mean()))
    proof = Proof(kind, float(gaps[kind].mean()), float(gaps[kind].max()), len(theirs))
    tolerance = max(PROOF_TOLERANCES[dtype] for dtype in _dtypes(server, policy))
    if not proof.mean_gap <= tolerance:
        raise WrongWeightsError(
            server.transport.name,
            f"its log-probabilities of {proof.num_compared} tokens are {proof.mean_gap:.4g} nats "
            f"from ours on average (at most {proof.max_gap:.4g}), where {tolerance:g} is allowed "
            f"for {'/'.join(_dtypes(server, policy))}: it holds other weights than "
            f"{server.weights or 'the policy'}. {_remedy(server)}",
        )
    return proof


def _compare_texts(
    server: Server,
    policy: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[tuple[int, ...]],
    served: list[ServedRow],
) -> Proof:
    requests = [GenerationRequest(ids, 0.0, 1.0, _NUM_TOKENS, seed=0) for ids in prompts]
    generated = generate(policy, requests, eos_ids=[eos_id_of(tokenizer)])
    ours = [decode_response(tokenizer, response.ids) for (response,) in generated]
    theirs = [row.text.replace("\0", "\N{REPLACEMENT CHARACTER}").strip() for row in served]
    equal_share = fmean(a == b for a, b in zip(ours, theirs, strict=True))
    is_exact = set(_dtypes(server, policy)) == {"float32"}
    if equal_share < 1.0 if is_exact else equal_share <= 0.5:
        raise WrongWeightsError(
            server.transport.name,
            f"{1.0 - equal_share:.0%} of {len(ours)} greedy texts are not ours, such as "
            f"{next(b for a, b in zip(ours, theirs, strict=True) if a != b)!r}: it holds other "
            f"weights than {server.weights or 'the policy'}. {_remedy(server)}",
        )
    return Proof(None, 0.0, 0.0, len(ours))


def _dtypes(server: Server, policy: LlamaForCausalLM) -> list[str]:
    return sorted({server.config.dtype, str(policy.dtype).removeprefix("torch.")})


def _remedy(server: Server) -> str:
    return (
        f"Start it on the policy's folder (it serves {server.model} now), set `handover` in its "
        "entry, or, if it computes in another type, correct `dtype`"
    )
