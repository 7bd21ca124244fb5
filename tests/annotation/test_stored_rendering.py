"""Responses are rendered when they are stored; what another renderer made is never shown."""

import pytest
from django.core.management import call_command

from annotation import services
from annotation.models import Comparison, Sample
from annotation.rendering import RENDERER, render_markdown
from annotation.selectors import SampleView, get_slot_for, pair_view, slot_pair_view
from annotation.services import Overlap
from tests.factories import (
    judge,
    make_annotator,
    make_lead,
    make_ready_comparison,
    open_imported_round,
    open_test_round,
    pair_line,
    start_test_dialogue,
)

pytestmark = pytest.mark.django_db

TEXTS = ("**Boil** it.", "<script>alert(1)</script> and [x](javascript:alert(1))")


def make_stale(html: str) -> None:
    """Have all samples rendered by an earlier renderer."""
    Sample.objects.update(html=html, renderer="an earlier one")


def views_of(comparison: Comparison) -> list[SampleView]:
    """Return both responses as an annotator sees them, read anew."""
    pair = pair_view(Comparison.objects.get(pk=comparison.pk))
    return [pair.left, pair.right]


def test_a_drawn_response_is_stored_with_its_sanitised_html() -> None:
    comparison = make_ready_comparison(texts=TEXTS)

    stored = {sample.text: sample for sample in comparison.samples.all()}

    assert stored[TEXTS[0]].html == '<p dir="auto"><strong>Boil</strong> it.</p>\n'
    assert "&lt;script&gt;" in stored[TEXTS[1]].html
    assert "<script" not in stored[TEXTS[1]].html
    assert "href" not in stored[TEXTS[1]].html
    assert {sample.renderer for sample in stored.values()} == {RENDERER}


def test_an_imported_response_is_stored_with_its_html() -> None:
    round_ = open_imported_round(pair_line("one"))
    dialogue = start_test_dialogue(make_annotator(), round_)

    samples = Sample.objects.filter(comparison__dialogue=dialogue)

    assert samples.count() == 2
    for sample in samples:
        assert (sample.html, sample.renderer) == (render_markdown(sample.text), RENDERER)


def test_what_is_stored_is_shown() -> None:
    comparison = make_ready_comparison()
    Sample.objects.filter(comparison=comparison).update(html="<p>kept</p>")

    assert [view.html for view in views_of(comparison)] == ["<p>kept</p>", "<p>kept</p>"]


def test_what_an_earlier_renderer_made_is_not_shown() -> None:
    comparison = make_ready_comparison(texts=TEXTS)
    make_stale("<script>alert(1)</script>")

    views = views_of(comparison)

    assert [view.html for view in views] == [render_markdown(view.text) for view in views]


def test_a_slot_shows_stored_html_of_our_renderer_alone() -> None:
    overlap = Overlap(overlap_share=1.0, judgements_per_comparison=2)
    judge(make_ready_comparison(round_=open_test_round(overlap=overlap)))
    reader = make_annotator()
    slot = services.take_work(annotator=reader).slot
    assert slot is not None
    Sample.objects.filter(side="left").update(html="<p>kept</p>")
    Sample.objects.filter(side="right").update(renderer="an earlier one", html="<p>old</p>")

    pair = slot_pair_view(get_slot_for(reader, slot.pk))

    assert pair.left.html == "<p>kept</p>"
    assert pair.right.html == render_markdown(pair.right.text)


def test_responses_of_open_rounds_are_rendered_anew_once() -> None:
    comparison = make_ready_comparison(texts=TEXTS)
    make_stale("<p>old</p>")

    assert sum(services.render_responses()) == 2
    assert sum(services.render_responses()) == 0

    for sample in Sample.objects.filter(comparison=comparison):
        assert (sample.html, sample.renderer) == (render_markdown(sample.text), RENDERER)


def test_responses_of_closed_rounds_are_left_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    round_ = open_test_round()
    make_ready_comparison(round_=round_)
    make_stale("<p>old</p>")
    services.close_round(round_=round_, closed_by=make_lead())

    call_command("render_responses")

    assert capsys.readouterr().out == "0 responses rendered\n"
    assert set(Sample.objects.values_list("html", flat=True)) == {"<p>old</p>"}
