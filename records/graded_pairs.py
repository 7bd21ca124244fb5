"""Readers of sets whose pairs were judged by named people: Tülu, PandaLM, Fine-Grained RLHF."""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from records.dialogues import Dialogue
from records.digests import digest_bytes
from records.graded import GradedComparison, GradedJudgement, ModelResponse, aligned
from records.imports import ImportReport, Row, json_rows

_TULU_GRADES = {
    "a-is-better": 2,
    "a-is-slightly-better": 1,
    "tie": 0,
    "b-is-slightly-better": -1,
    "b-is-better": -2,
}
_FIRST_SECOND_TIE = {1: 1, 2: -1, 0: 0}
_PANDALM_ANNOTATORS = ("annotator1", "annotator2", "annotator3")
_QA_PAIRS = tuple(combinations(range(1, 5), 2))


class _Annotation(NamedTuple):
    """One row of the Tülu set, aligned."""

    row: Row
    first: ModelResponse
    second: ModelResponse
    judgement: GradedJudgement


def read_tulu(folder: Path, report: ImportReport) -> Iterator[GradedComparison]:
    """Yield the Tülu human evaluation: five levels, several annotators, sides shuffled per row.

    Rows of one comparison do not stand together, so the file is read before the first is yielded.
    A comparison is an instance and a pair of models, whichever of them was shown as A.

    Raises:
        RecordError: A field is missing or out of bounds, or rows of one comparison differ in text.
    """
    groups: dict[str, list[_Annotation]] = {}
    for row in json_rows(folder / "annotations.jsonl.gz"):
        report.num_read += 1
        annotation = _tulu_annotation(row)
        models = f"{annotation.first.model} {annotation.second.model}"
        group = groups.setdefault(f"{row.text('instance_id')} {models}", [])
        if group and (annotation.first, annotation.second) != (group[0].first, group[0].second):
            raise row.error("completion_a", f"differs from line {group[0].row.line}")
        group.append(annotation)
    for key, group in groups.items():
        row = group[0].row
        judgements = sorted((item.judgement for item in group), key=lambda item: item.created_at)
        report.num_kept += len(group)
        yield GradedComparison(
            comparison_id=key,
            dialogue_id=row.text("instance_id"),
            prompt=Dialogue.from_texts(row.text("prompt").strip()),
            first=group[0].first,
            second=group[0].second,
            judgements=tuple(judgements),
        )


def read_pandalm(folder: Path, report: ImportReport) -> Iterator[GradedComparison]:
    """Yield PandaLM's test set: three annotators each, first, second or similar.

    A response that its file holds as a truth value is the word that was written, and counted as
    mended.

    Raises:
        RecordError: A field is missing or out of bounds.
    """
    for row in json_rows(folder / "testset-v1.shared.jsonl.gz"):
        report.num_read += 1
        models = row.text("cmp_key").split("_")
        if len(models) != 2:
            raise row.error("cmp_key", f"{row.text('cmp_key')!r} does not name two models")
        texts = [_pandalm_response(row, name, report) for name in ("response1", "response2")]
        one, two = (ModelResponse(*pair) for pair in zip(models, texts, strict=True))
        first, second, sign = aligned((one, two), 1)
        grades = [row.choice(name, _FIRST_SECOND_TIE) for name in _PANDALM_ANNOTATORS]
        prompt = _instruction_with_input(row)
        report.num_kept += 1
        yield GradedComparison(
            comparison_id=str(row.value("idx")),
            dialogue_id=digest_bytes(prompt.encode())[:32],
            prompt=Dialogue.from_texts(prompt),
            first=first,
            second=second,
            judgements=tuple(
                GradedJudgement(name, sign * _FIRST_SECOND_TIE[grade])
                for name, grade in zip(_PANDALM_ANNOTATORS, grades, strict=True)
            ),
        )


def read_fine_grained(folder: Path, report: ImportReport) -> Iterator[GradedComparison]:
    """Yield Fine-Grained RLHF's questions: all six pairs of four answers, by one annotator each.

    Raises:
        RecordError: A field is missing or out of bounds.
    """
    for row in json_rows(folder / "qa_feedback_dev.shared.jsonl.gz"):
        report.num_read += 1
        answers = {number: row.text(f"prediction {number}") for number in range(1, 5)}
        grades = row.value("preference")
        if not isinstance(grades, list) or len(grades) != len(_QA_PAIRS):
            raise row.error("preference", f"{str(grades)[:60]} is not six numbers")
        prompt = _question_with_passages(row)
        question = digest_bytes(prompt.encode())[:32]
        report.num_kept += 1
        for (one, two), grade in zip(_QA_PAIRS, grades, strict=True):
            if grade not in _FIRST_SECOND_TIE:
                raise row.error("preference", f"{grade!r} is not one of 0, 1, 2")
            yield GradedComparison(
                comparison_id=f"{question} {one} {two}",
                dialogue_id=question,
                prompt=Dialogue.from_texts(prompt),
                first=ModelResponse(f"prediction {one}", answers[one]),
                second=ModelResponse(f"prediction {two}", answers[two]),
                judgements=(GradedJudgement("annotator", _FIRST_SECOND_TIE[grade]),),
            )


def _tulu_annotation(row: Row) -> _Annotation:
    one, two = (
        ModelResponse(row.text(f"model_{side}"), row.text(f"completion_{side}", may_be_empty=True))
        for side in "ab"
    )
    if one.model == two.model:
        raise row.error("model_b", f"{two.model!r} is model_a too; sides cannot be told apart")
    first, second, grade = aligned((one, two), _TULU_GRADES[row.choice("preference", _TULU_GRADES)])
    judgement = GradedJudgement(row.text("evaluator"), grade, row.text("timestamp"))
    return _Annotation(row, first, second, judgement)


def _instruction_with_input(row: Row) -> str:
    parts = [row.text(name, may_be_empty=True).strip() for name in ("instruction", "input")]
    if not any(parts):
        raise row.error("instruction", "is empty, and so is input")
    return "\n\n".join(filter(None, parts))


def _pandalm_response(row: Row, name: str, report: ImportReport) -> str:
    value = row.value(name)
    if isinstance(value, bool):
        report.mended["response held as a truth value"] += 1
        return str(value)
    return row.text(name, may_be_empty=True)


def _question_with_passages(row: Row) -> str:
    """Return the passages an answer is to be drawn from, and the question after them."""
    passages = row.value("passages")
    if not isinstance(passages, list) or not all(isinstance(item, list) for item in passages):
        raise row.error("passages", "are not lists of sentences")
    # The first sentence of a passage is the title of its page, and may stand in it again.
    texts = [" ".join(map(str, sentences[1:])).strip() for sentences in passages]
    return "\n\n".join([*filter(None, texts), row.text("question").strip()])
