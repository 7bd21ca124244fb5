"""Dialogues as records: earlier prompts, the responses chosen for them, and the open prompt."""

from collections.abc import Collection, Sequence

from annotation.models import Comparison, Dialogue, Judgement, Retraction, Sample, Slot, User
from records.dialogues import Dialogue as DialogueRecord


def prompts_of(comparisons: Sequence[Comparison]) -> dict[int, DialogueRecord]:
    """Return the prompt of each comparison, history included, by comparison id; one query.

    A comparison drawn ahead goes on from the response that it takes as chosen; one query more.
    """
    chosen = _exchanges_of({item.dialogue_id for item in comparisons if item.turn > 0})
    assumed = _assumed_of(comparisons)
    prompts: dict[int, DialogueRecord] = {}
    for item in comparisons:
        earlier = list(chosen.get(item.dialogue_id, ())[: item.turn])
        if item.pk in assumed:
            earlier = [*earlier[: item.turn - 1], assumed[item.pk]]
        assert len(earlier) == item.turn, (item.pk, item.turn, len(earlier))
        texts = [text for exchange in earlier for text in exchange]
        dialogue = item.dialogue
        prompts[item.pk] = DialogueRecord.from_texts(
            *dialogue.opening,
            *texts,
            item.prompt_text,
            system=dialogue.system_prompt or item.round.system_prompt,
        )
    return prompts


def prompt_of(comparison: Comparison) -> DialogueRecord:
    """Return what both responses answer: the dialogue so far and the comparison's prompt."""
    return prompts_of([comparison])[comparison.pk]


def history_of(dialogue: Dialogue) -> DialogueRecord | None:
    """Return the judged part of a dialogue after its opening; None where both are empty."""
    texts = [text for pair in _exchanges_of({dialogue.pk}).get(dialogue.pk, ()) for text in pair]
    texts = [*dialogue.opening, *texts]
    system = dialogue.first_system_prompt
    return DialogueRecord.from_texts(*texts, system=system) if texts else None


def may_finish(dialogue: Dialogue) -> bool:
    """Whether a dialogue may end now without a reason: see `services.finish_dialogue`."""
    round_ = dialogue.round
    if round_.min_turns == 1 or dialogue.num_turns >= round_.min_turns or not round_.is_open:
        return True
    if round_.num_reserved >= round_.target_comparisons:
        return True
    last = dialogue.comparisons.filter(turn=dialogue.num_turns).order_by("-pk").first()
    given_up = (Comparison.State.SKIPPED, Comparison.State.FAILED)
    return dialogue.num_turns == 0 if last is None else last.state in given_up


def last_to_take_back(dialogue: Dialogue) -> Comparison | None:
    """Return the pair that its author judged last, if it may be taken back as far as they know.

    Whether others have looked at it since, `services.retract_judgement` finds out.
    """
    if not dialogue.num_turns or not dialogue.round.is_open or dialogue.is_imported:
        return None
    mine = Judgement.objects.filter(annotator=dialogue.annotator_id).select_related("comparison")
    last = mine.order_by("-pk").first()
    if last is None or last.slot or last.comparison.dialogue_id != dialogue.pk:
        return None
    has_gone_on = dialogue.comparisons.filter(turn__gte=dialogue.num_turns).exists()
    return None if has_gone_on else last.comparison


def retraction_of(comparison: Comparison) -> Retraction | None:
    """Return how the judgement of a pair was taken back that is to be judged again; None if not."""
    active = Retraction.objects.filter(judgement__comparison=comparison, is_active=True)
    return active.order_by("-pk").first()


def retraction_of_slot(slot: Slot, annotator: User) -> Retraction | None:
    """Return how an annotator took back what they had said for a slot; None if they did not."""
    active = Retraction.objects.filter(
        judgement__comparison=slot.comparison_id,
        judgement__slot=slot.number,
        judgement__annotator=annotator,
        is_active=True,
    )
    return active.order_by("-pk").first()


def _assumed_of(comparisons: Sequence[Comparison]) -> dict[int, tuple[str, str]]:
    """Return (prompt, response taken as chosen) of the turn before what is drawn ahead."""
    ids = {
        item.pk: item.assumed_sample_id
        for item in comparisons
        if item.is_ahead and item.assumed_sample_id is not None
    }
    if not ids:
        return {}
    samples = Sample.objects.filter(pk__in=set(ids.values()))
    rows = samples.values_list("pk", "comparison__prompt_text", "text")
    found = {pk: (prompt, text) for pk, prompt, text in rows}
    return {pk: found[sample_id] for pk, sample_id in ids.items()}


def _exchanges_of(dialogue_ids: Collection[int]) -> dict[int, list[tuple[str, str]]]:
    """Return (prompt, chosen response) of every judged turn, in order, by dialogue."""
    exchanges: dict[int, list[tuple[str, str]]] = {}
    if not dialogue_ids:
        return exchanges
    # The author's choice continues the dialogue, whatever others say of the pair.
    rows = Judgement.objects.filter(comparison__dialogue__in=dialogue_ids, slot=0).order_by(
        "comparison__dialogue", "comparison__turn"
    )
    fields = (
        "comparison__dialogue",
        "comparison__prompt_text",
        "chosen_sample__text",
        "edit__text",
    )
    for dialogue_id, prompt, chosen, edited in rows.values_list(*fields):
        response = chosen if edited is None else edited
        exchanges.setdefault(dialogue_id, []).append((prompt, response))
    return exchanges
