"""Rounds and guidelines: opened, followed and closed by a lead."""

import pytest
from django.test import Client
from django.urls import reverse

from annotation.errors import QualificationError
from annotation.models import ContentWarning, Guidelines, Round, User
from annotation.scale import Side
from annotation.services import (
    Access,
    NewVariant,
    QualificationFields,
    create_qualification,
    open_round,
    retire_qualification,
)
from records.preferences import Axis, Rating
from registry.models import PolicyVersion
from tests.factories import (
    judge,
    make_guidelines,
    make_lead,
    make_policy_version,
    make_qualification,
    make_ready_comparison,
    open_test_round,
)

pytestmark = pytest.mark.django_db


def round_fields(guidelines: Guidelines, *policies: object, **fields: str) -> dict[str, str]:
    """Return what the form sends, for up to four policies."""
    values = {
        "name": "Week 14",
        "axis": "helpfulness",
        "guidelines": str(guidelines.pk),
        "target_comparisons": "200",
        "max_turns": "4",
        "min_turns": "1",
        "overlap_share": "0.2",
        "judgements_per_comparison": "3",
        "gold_share": "0",
        "repeat_share": "0",
        "repeat_after": "50",
        "variant-TOTAL_FORMS": "4",
        "variant-INITIAL_FORMS": "4",
        "variant-MIN_NUM_FORMS": "0",
        "variant-MAX_NUM_FORMS": "1000",
    }
    for row in range(4):
        values |= {
            f"variant-{row}-policy": str(policies[row]) if row < len(policies) else "",
            f"variant-{row}-temperature_low": "0.7",
            f"variant-{row}-temperature_high": "1.2",
            f"variant-{row}-top_p": "0.9",
            f"variant-{row}-max_new_tokens": "96",
        }
    return values | fields


def test_a_round_is_opened_with_its_variants(lead_client: Client, lead: User) -> None:
    old, new = make_policy_version("V1"), make_policy_version("V2")
    fields = round_fields(make_guidelines(), new.pk, old.pk)
    response = lead_client.post(reverse("new-round"), fields)
    round_ = Round.objects.get()
    assert response.headers["Location"] == reverse("round", args=[round_.pk])
    assert (round_.name, round_.target_comparisons, round_.opened_by) == ("Week 14", 200, lead)
    assert [
        (v.policy.name, v.temperature_low, v.temperature_high, v.top_p, v.max_new_tokens)
        for v in round_.variants.order_by("pk")
    ] == [("V2", 0.7, 1.2, 0.9, 96), ("V1", 0.7, 1.2, 0.9, 96)]


def test_the_form_begins_with_the_two_newest_promoted_policies(lead_client: Client) -> None:
    for name in ("V1", "V2", "V3"):
        make_policy_version(name)
    variants = lead_client.get(reverse("new-round")).context["variants"]
    chosen = [row["policy"].value() for row in variants]
    assert chosen[:2] == list(
        PolicyVersion.objects.filter(name__in=["V3", "V2"])
        .order_by("-pk")
        .values_list("pk", flat=True)
    )
    assert chosen[2:] == [None, None]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "This field is required."),
        ({"target_comparisons": "0"}, "greater than or equal to 1"),
        ({"variant-0-temperature_low": "1.5"}, "1.2 is below 1.5, where the range begins."),
        ({"variant-0-top_p": "0"}, "greater than or equal to 0.01"),
        ({"variant-0-policy": "", "variant-1-policy": ""}, "Choose at least one policy version"),
        ({"axis": "safety"}, "was written for helpfulness, the round is about safety"),
    ],
)
def test_a_mistake_is_named_beside_its_field_and_nothing_is_opened(
    lead_client: Client, changes: dict[str, str], message: str
) -> None:
    fields = round_fields(make_guidelines(), make_policy_version().pk, make_policy_version().pk)
    response = lead_client.post(reverse("new-round"), fields | changes)
    assert response.status_code == 422
    assert message in response.content.decode()
    assert not Round.objects.exists()


def test_required_tests_and_content_warnings_are_set_when_the_round_opens(
    lead_client: Client,
) -> None:
    test = make_qualification(name="Language")
    draft = create_qualification(lead=make_lead(), fields=QualificationFields("Draft"))
    fields = round_fields(make_guidelines(), make_policy_version().pk, make_policy_version().pk)
    page = lead_client.get(reverse("new-round")).content.decode()
    assert "Language" in page
    assert "Draft" not in page
    chosen = {"qualifications": [test.pk], "categories": ["hateful_and_harmful"]}
    lead_client.post(reverse("new-round"), fields | chosen)
    round_ = Round.objects.get()
    assert [item.qualification for item in round_.requirements.all()] == [test]
    warnings = ContentWarning.objects.filter(round=round_)
    assert [warning.category for warning in warnings] == ["hateful_and_harmful"]
    access = lead_client.get(reverse("round-access", args=[round_.pk])).context["access"]
    assert access["qualifications"].value() == [test.pk]
    assert access["categories"].value() == ["hateful_and_harmful"]

    for wrong, message in (
        ({"qualifications": [draft.pk]}, f"{draft.pk} is not one of the available choices"),
        ({"categories": ["boredom"]}, "boredom is not one of the available choices"),
    ):
        response = lead_client.post(reverse("new-round"), fields | wrong | {"name": "Week 15"})
        assert response.status_code == 422
        assert message in response.content.decode()
    assert Round.objects.count() == 1


def test_a_test_that_is_retired_meanwhile_stops_the_opening() -> None:
    lead, test = make_lead(), make_qualification()
    retire_qualification(lead=lead, qualification=test)
    with pytest.raises(QualificationError, match="is retired"):
        open_round(
            name="Week 14",
            axis=Axis.HELPFULNESS,
            guidelines=make_guidelines(),
            variants=[NewVariant(make_policy_version())],
            target_comparisons=5,
            opened_by=lead,
            access=Access(qualifications=[test]),
        )
    assert not Round.objects.exists()


def test_one_policy_twice_is_refused(lead_client: Client) -> None:
    policy = make_policy_version()
    fields = round_fields(make_guidelines(), policy.pk, policy.pk)
    response = lead_client.post(reverse("new-round"), fields)
    assert "A policy version is chosen twice." in response.content.decode()


def test_what_only_the_service_knows_is_named_too(lead_client: Client) -> None:
    open_test_round("Week 14")
    fields = round_fields(make_guidelines(), make_policy_version().pk, make_policy_version().pk)
    response = lead_client.post(reverse("new-round"), fields)
    assert response.status_code == 422
    assert "there is already a round" in response.content.decode()


def test_without_guidelines_the_form_says_to_write_them_first(lead_client: Client) -> None:
    page = lead_client.get(reverse("new-round")).content.decode()
    assert "There are no guidelines yet" in page


def test_the_page_of_a_round_counts_what_was_judged_in_it(lead_client: Client) -> None:
    round_ = open_test_round(target_comparisons=4, max_turns=1)
    for side, rating in (
        (Side.LEFT, Rating.BETTER),
        (Side.LEFT, Rating.SIGNIFICANTLY_BETTER),
        (Side.RIGHT, Rating.BETTER),
    ):
        judge(make_ready_comparison(round_=round_), side=side, rating=rating)
    make_ready_comparison(round_=round_)
    response = lead_client.get(reverse("round", args=[round_.pk]))
    page = response.context["page"]
    assert (page.progress.num_judged, page.progress.num_in_progress) == (3, 1)
    assert page.left_share == pytest.approx(2 / 3)
    assert page.num_annotators == 3
    assert page.seconds == 12.5
    assert [row[:2] for row in page.ratings.rows] == [
        ("significantly", "33.3%"),
        ("better", "66.7%"),
        ("slightly", "0%"),
        ("negligibly", "0%"),
    ]
    assert sum(row.num_shown for row in page.variants) == 6
    assert sum(row.num_chosen for row in page.variants) == 3
    assert "66.7%" in response.content.decode()


def test_a_poll_of_an_open_round_brings_its_progress_alone(lead_client: Client) -> None:
    address = reverse("round", args=[open_test_round().pk])
    part = lead_client.get(address, headers={"hx-request": "true"}).content.decode()
    assert part.lstrip().startswith('<div class="stack" id="round-progress"')
    assert "every 5s" in part


def test_a_round_is_closed_by_a_post(lead_client: Client) -> None:
    round_ = open_test_round("Week 14")
    address = reverse("close-round", args=[round_.pk])
    assert lead_client.get(address).status_code == 405
    page = lead_client.post(address, follow=True).content.decode()
    round_.refresh_from_db()
    assert round_.state == "closed"
    assert "takes no further prompts" in page
    assert "every 5s" not in page


def test_the_list_holds_rounds_and_guidelines(lead_client: Client) -> None:
    assert "No rounds yet" in lead_client.get(reverse("rounds")).content.decode()
    open_test_round("Week 14", axis=Axis.SAFETY)
    page = lead_client.get(reverse("rounds")).content.decode()
    assert "Week 14" in page
    assert reverse("guidelines", args=[Guidelines.objects.get().pk]) in page


def test_guidelines_are_published_and_shown_as_markdown(lead_client: Client, lead: User) -> None:
    fields = {"axis": "safety", "version": "3", "text": "Be **kind**. <script>x</script>"}
    page = lead_client.post(reverse("new-guidelines"), fields, follow=True).content.decode()
    assert "<strong>kind</strong>" in page
    assert "<script>x" not in page
    assert Guidelines.objects.get().created_by == lead


def test_a_published_version_is_never_written_over(lead_client: Client) -> None:
    first = make_guidelines()
    fields = {"axis": first.axis, "version": first.version, "text": "Something else"}
    response = lead_client.post(reverse("new-guidelines"), fields)
    assert response.status_code == 422
    assert "use a new version" in response.content.decode()
    assert Guidelines.objects.get().text == first.text


def test_a_new_version_may_begin_from_an_earlier_one(lead_client: Client) -> None:
    first = make_guidelines(Axis.SAFETY)
    page = lead_client.get(reverse("new-guidelines") + f"?from={first.pk}").content.decode()
    assert first.text in page
    assert lead_client.get(reverse("new-guidelines") + "?from=x").status_code == 200


def test_overlap_and_guidance_are_opened_with_the_round_and_shown(lead_client: Client) -> None:
    fields = round_fields(
        make_guidelines(),
        make_policy_version().pk,
        gold_share="0.1",
        repeat_share="0.05",
        min_turns="2",
        topic="Cooking",
        system_prompt="Answer in verse.",
        good_examples="Why does bread rise?",
    )
    lead_client.post(reverse("new-round"), fields)
    round_ = Round.objects.get()
    assert (round_.overlap_share, round_.judgements_per_comparison) == (0.2, 3)
    assert (round_.gold_share, round_.repeat_share, round_.repeat_after) == (0.1, 0.05, 50)
    assert (round_.min_turns, round_.topic) == (2, "Cooking")
    page = lead_client.get(reverse("round", args=[round_.pk])).content.decode()
    for words in ("0.2 of comparisons, 3 people each", "Answer in verse.", "Why does bread rise?"):
        assert words in page


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"overlap_share": "1.5"}, "less than or equal to 1"),
        ({"judgements_per_comparison": "1"}, "need at least 2"),
        ({"gold_share": "0.6", "repeat_share": "0.6"}, "more than all tasks"),
        ({"min_turns": "9"}, "9 is not between 1 and 4"),
        ({"system_prompt": "a [INST] b"}, "this text may not hold [INST]"),
    ],
)
def test_settings_that_do_not_fit_are_named(
    lead_client: Client, changes: dict[str, str], message: str
) -> None:
    fields = round_fields(make_guidelines(), make_policy_version().pk, **changes)
    response = lead_client.post(reverse("new-round"), fields)
    assert response.status_code == 422
    assert message in response.content.decode()
    assert not Round.objects.exists()
