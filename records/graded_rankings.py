"""Readers of sets with one verdict for a pair: OpenAssistant's ranks, HHH, LLMBar."""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from records.dialogues import Dialogue
from records.digests import digest_bytes
from records.graded import GradedComparison, GradedJudgement, ModelResponse, aligned
from records.hh_rlhf import parse_dialogue
from records.imports import ImportReport, Row, json_rows
from records.preferences import Axis

_LLMBAR_FILES = ("Natural", "Adversarial_Neighbor", "Adversarial_GPTInst", "Processed_MT-Bench")
_SAFETY_SUBSET = "harmless"


def read_oasst(folder: Path, report: ImportReport) -> Iterator[GradedComparison]:
    """Yield the pairs of ranked sibling replies in OpenAssistant's message trees.

    The crowd's ranks are one judgement, without degrees. Rows are trees; kept ones have ranks.

    Raises:
        RecordError: A field is missing or out of bounds.
    """
    for row in json_rows(folder / "en_100_tree.shared.jsonl.gz"):
        report.num_read += 1
        tree_id = row.text("message_tree_id")
        root = row.part(row.value("prompt"), "prompt")
        pairs = [
            comparison
            for path, replies in _ranked_siblings(root, ())
            for comparison in _sibling_pairs(tree_id, path, replies)
        ]
        if not pairs:
            report.skipped["tree without two ranked siblings"] += 1
            continue
        report.num_kept += 1
        yield from pairs


def read_hhh(folder: Path, report: ImportReport) -> Iterator[GradedComparison]:
    """Yield HHH alignment: pairs whose better response its authors chose.

    Raises:
        RecordError: A field is missing or empty.
    """
    for row in json_rows(folder / "hhh_alignment.jsonl.gz"):
        report.num_read += 1
        subset = row.choice("subset", ("helpful", "honest", "harmless", "other"))
        turns, is_joined = parse_dialogue(f"\n\nHuman: {row.text('prompt').strip()}")
        report.mended["neighbouring turns of one role joined"] += is_joined
        prompt = Dialogue(tuple(turns))
        report.num_kept += 1
        yield _verdict(
            f"{subset} {row.line}",
            prompt,
            better=ModelResponse("hhh", row.text("chosen")),
            worse=ModelResponse("hhh", row.text("rejected")),
            judge="authors",
            axis=Axis.SAFETY if subset == _SAFETY_SUBSET else Axis.HELPFULNESS,
        )


def read_llmbar(folder: Path, report: ImportReport) -> Iterator[GradedComparison]:
    """Yield LLMBar: pairs of outputs of which one is objectively better.

    Raises:
        RecordError: A field is missing or out of bounds.
    """
    for name in _LLMBAR_FILES:
        for row in json_rows(folder / f"{name}.jsonl.gz"):
            report.num_read += 1
            outputs = [ModelResponse(f"output_{n}", row.text(f"output_{n}")) for n in (1, 2)]
            label = row.choice("label", (1, 2))
            report.num_kept += 1
            yield _verdict(
                f"{name} {row.line}",
                Dialogue.from_texts(row.text("input").strip()),
                better=outputs[label - 1],
                worse=outputs[2 - label],
                judge="majority" if name == "Processed_MT-Bench" else "authors",
            )


def _verdict(
    comparison_id: str,
    prompt: Dialogue,
    *,
    better: ModelResponse,
    worse: ModelResponse,
    judge: str,
    axis: Axis = Axis.HELPFULNESS,
) -> GradedComparison:
    first, second, grade = aligned((better, worse), 1)
    return GradedComparison(
        comparison_id=comparison_id,
        dialogue_id=digest_bytes(prompt.turns[0].text.encode())[:32],
        prompt=prompt,
        first=first,
        second=second,
        judgements=(GradedJudgement(judge, grade),),
        axis=axis,
    )


def _ranked_siblings(
    message: Row, before: tuple[Row, ...]
) -> Iterator[tuple[tuple[Row, ...], list[Row]]]:
    """Yield the way to each message with two ranked replies or more, and those replies."""
    path = (*before, message)
    replies = message.value("replies")
    if not isinstance(replies, list):
        raise message.error("replies", "is not a list")
    children = [message.part(reply, "replies") for reply in replies]
    ranked = [child for child in children if child.values.get("rank") is not None]
    if len(ranked) >= 2:
        yield path, ranked
    for child in children:
        yield from _ranked_siblings(child, path)


def _sibling_pairs(
    tree_id: str, path: tuple[Row, ...], replies: list[Row]
) -> Iterator[GradedComparison]:
    prompt = Dialogue.from_texts(*(message.text("text").strip() for message in path))
    for one, two in combinations(replies, 2):
        ranks = [reply.value("rank") for reply in (one, two)]
        if not all(isinstance(rank, int) for rank in ranks):
            raise one.error("rank", f"{ranks} are not whole numbers")
        ids = [ModelResponse(r.text("message_id"), r.text("text").strip()) for r in (one, two)]
        sign = (ranks[1] > ranks[0]) - (ranks[1] < ranks[0])
        first, second, grade = aligned((ids[0], ids[1]), sign)
        yield GradedComparison(
            comparison_id=f"{first.model} {second.model}",
            dialogue_id=tree_id,
            prompt=prompt,
            first=first,
            second=second,
            judgements=(GradedJudgement("crowd", grade),),
        )
