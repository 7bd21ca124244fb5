"""Slots: further judgements by others, gold comparisons, repeats; guidance of rounds."""

import django.db.models.deletion
import django.db.models.expressions
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("annotation", "0002_chosen_sample_belongs"),
    ]

    operations = [
        migrations.CreateModel(
            name="Edit",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("text", models.TextField()),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name="GoldComparison",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "expected_side",
                    models.CharField(choices=[("left", "left"), ("right", "right")], max_length=5),
                ),
                (
                    "expected_bin",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("chosen_safe", "chosen safe"),
                            ("both_safe", "both safe"),
                            ("both_unsafe", "both unsafe"),
                        ],
                        max_length=12,
                    ),
                ),
                (
                    "note",
                    models.TextField(blank=True, help_text="Why this answer is the right one."),
                ),
                ("declared_at", models.DateTimeField(auto_now_add=True)),
                (
                    "retired_at",
                    models.DateTimeField(blank=True, help_text="No longer served.", null=True),
                ),
            ],
        ),
        migrations.CreateModel(
            name="PromptBand",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("value", models.BigIntegerField()),
            ],
        ),
        migrations.CreateModel(
            name="Slot",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "number",
                    models.PositiveSmallIntegerField(
                        help_text="Counted from 1 within the comparison."
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("overlap", "overlap"),
                            ("gold", "gold"),
                            ("repeat", "repeat"),
                            ("second_reading", "second_reading"),
                        ],
                        max_length=15,
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("free", "Free"),
                            ("leased", "Leased"),
                            ("judged", "Judged"),
                            ("withdrawn", "Withdrawn"),
                        ],
                        default="free",
                        max_length=9,
                    ),
                ),
                ("lease_expires_at", models.DateTimeField(blank=True, null=True)),
                (
                    "offered_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, help_text="Its place in the queue."
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="SlotCursor",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("offered_at", models.DateTimeField()),
                (
                    "slot_id",
                    models.BigIntegerField(help_text="Among slots offered at the same moment."),
                ),
            ],
        ),
        migrations.CreateModel(
            name="SlotSkip",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("overlap", "overlap"),
                            ("gold", "gold"),
                            ("repeat", "repeat"),
                            ("second_reading", "second_reading"),
                        ],
                        max_length=15,
                    ),
                ),
                (
                    "reason",
                    models.CharField(
                        choices=[
                            ("not_my_language", "Not My Language"),
                            ("no_expertise", "No Expertise"),
                            ("too_disturbing", "Too Disturbing"),
                            ("both_failed", "Both Failed"),
                            ("other", "Other"),
                        ],
                        max_length=20,
                    ),
                ),
                ("note", models.TextField(blank=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.RemoveConstraint(
            model_name="judgement",
            name="annotation_judgement_one_slot",
        ),
        migrations.RemoveConstraint(
            model_name="round",
            name="annotation_round_targets_positive",
        ),
        migrations.AddField(
            model_name="comparison",
            name="num_slots",
            field=models.PositiveSmallIntegerField(
                default=1,
                help_text="Judgements wanted so far, the author's included: numbers the next.",
            ),
        ),
        migrations.AddField(
            model_name="judgement",
            name="kind",
            field=models.CharField(
                choices=[
                    ("author", "Author"),
                    ("overlap", "Overlap"),
                    ("gold", "Gold"),
                    ("repeat", "Repeat"),
                    ("second_reading", "Second Reading"),
                ],
                default="author",
                help_text="Why asked.",
                max_length=15,
            ),
        ),
        migrations.AddField(
            model_name="judgement",
            name="neither_note",
            field=models.TextField(blank=True),
        ),
        migrations.AddField(
            model_name="judgement",
            name="neither_reasons",
            field=models.JSONField(
                blank=True,
                default=list,
                help_text="Why neither response is acceptable; empty if one is.",
            ),
        ),
        migrations.AddField(
            model_name="round",
            name="bad_examples",
            field=models.TextField(blank=True, help_text="Bad first prompts, one a line."),
        ),
        migrations.AddField(
            model_name="round",
            name="goal",
            field=models.TextField(blank=True, help_text="What a dialogue should try to achieve."),
        ),
        migrations.AddField(
            model_name="round",
            name="gold_share",
            field=models.FloatField(
                default=0.0, help_text="Share of tasks that are comparisons whose answer is known."
            ),
        ),
        migrations.AddField(
            model_name="round",
            name="good_examples",
            field=models.TextField(blank=True, help_text="Good first prompts, one a line."),
        ),
        migrations.AddField(
            model_name="round",
            name="judgements_per_comparison",
            field=models.PositiveSmallIntegerField(
                default=1,
                help_text="How many people judge such a comparison in all, its author included.",
            ),
        ),
        migrations.AddField(
            model_name="round",
            name="min_turns",
            field=models.PositiveSmallIntegerField(
                default=1, help_text="Before a dialogue may end, unless its pair is passed on."
            ),
        ),
        migrations.AddField(
            model_name="round",
            name="num_further",
            field=models.PositiveIntegerField(
                default=0, help_text="Further judgements wanted: overlap and second readings."
            ),
        ),
        migrations.AddField(
            model_name="round",
            name="num_further_judged",
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AddField(
            model_name="round",
            name="overlap_share",
            field=models.FloatField(
                default=0.0, help_text="Share of comparisons that several people judge."
            ),
        ),
        migrations.AddField(
            model_name="round",
            name="repeat_after",
            field=models.PositiveIntegerField(
                default=50,
                help_text="Judgements that lie between a judgement and its repeat, at least.",
            ),
        ),
        migrations.AddField(
            model_name="round",
            name="repeat_share",
            field=models.FloatField(
                default=0.0,
                help_text="Share of tasks that repeat a judgement of the annotator's own.",
            ),
        ),
        migrations.AddField(
            model_name="round",
            name="system_prompt",
            field=models.TextField(blank=True, help_text="What both policies are told first."),
        ),
        migrations.AddField(
            model_name="round",
            name="topic",
            field=models.CharField(blank=True, help_text="What to write about.", max_length=200),
        ),
        migrations.AlterField(
            model_name="comparison",
            name="ready_at",
            field=models.DateTimeField(
                blank=True,
                help_text="From when its pair is shown: quick pairs wait a little.",
                null=True,
            ),
        ),
        migrations.AlterField(
            model_name="judgement",
            name="slot",
            field=models.PositiveSmallIntegerField(
                default=0,
                help_text="Which of the comparison's judgements this is; 0 is its author's.",
            ),
        ),
        migrations.AlterField(
            model_name="samplingevent",
            name="reason",
            field=models.CharField(
                choices=[
                    ("empty", "Empty"),
                    ("identical", "Identical"),
                    ("near_identical", "Near Identical"),
                    ("truncated", "Truncated"),
                    ("names_itself", "Names Itself"),
                    ("error", "Error"),
                ],
                max_length=14,
            ),
        ),
        migrations.AddConstraint(
            model_name="judgement",
            constraint=models.UniqueConstraint(
                condition=models.Q(("kind", "repeat"), _negated=True),
                fields=("comparison", "annotator"),
                name="annotation_judgement_once_each",
            ),
        ),
        migrations.AddConstraint(
            model_name="judgement",
            constraint=models.UniqueConstraint(
                condition=models.Q(("kind", "repeat")),
                fields=("comparison", "annotator"),
                name="annotation_judgement_repeated_once",
            ),
        ),
        migrations.AddConstraint(
            model_name="judgement",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("kind__in", ["author", "overlap", "gold", "repeat", "second_reading"])
                ),
                name="annotation_judgement_kind_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="judgement",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("slot", 0), models.Q(("kind", "author"), _negated=True), _connector="XOR"
                ),
                name="annotation_judgement_author_is_first",
            ),
        ),
        migrations.AddConstraint(
            model_name="round",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("max_turns__gte", 1),
                    ("target_comparisons__gte", 1),
                    ("min_turns__gte", 1),
                    ("min_turns__lte", models.F("max_turns")),
                ),
                name="annotation_round_targets_positive",
            ),
        ),
        migrations.AddConstraint(
            model_name="round",
            constraint=models.CheckConstraint(
                condition=models.Q(("num_further_judged__lte", models.F("num_further"))),
                name="annotation_round_further_nested",
            ),
        ),
        migrations.AddConstraint(
            model_name="round",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("overlap_share__gte", 0.0),
                    ("overlap_share__lte", 1.0),
                    ("gold_share__gte", 0.0),
                    ("repeat_share__gte", 0.0),
                    (
                        "gold_share__lte",
                        django.db.models.expressions.CombinedExpression(
                            models.Value(1.0), "-", models.F("repeat_share")
                        ),
                    ),
                ),
                name="annotation_round_shares_are_shares",
            ),
        ),
        migrations.AddConstraint(
            model_name="round",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("judgements_per_comparison__gte", 2),
                    models.Q(("judgements_per_comparison", 1), ("overlap_share", 0.0)),
                    _connector="OR",
                ),
                name="annotation_round_overlap_has_people",
            ),
        ),
        migrations.AddField(
            model_name="edit",
            name="judgement",
            field=models.OneToOneField(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="edit",
                to="annotation.judgement",
            ),
        ),
        migrations.AddField(
            model_name="goldcomparison",
            name="comparison",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="golds",
                to="annotation.comparison",
            ),
        ),
        migrations.AddField(
            model_name="goldcomparison",
            name="declared_by",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="golds_declared",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="goldcomparison",
            name="expected_sample",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="expected_in",
                to="annotation.sample",
            ),
        ),
        migrations.AddField(
            model_name="goldcomparison",
            name="round",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="golds",
                to="annotation.round",
            ),
        ),
        migrations.AddField(
            model_name="promptband",
            name="comparison",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="bands",
                to="annotation.comparison",
            ),
        ),
        migrations.AddField(
            model_name="promptband",
            name="round",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="annotation.round",
            ),
        ),
        migrations.AddField(
            model_name="slot",
            name="annotator",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                help_text="Who holds it, or held it last.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="slots",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="slot",
            name="author",
            field=models.ForeignKey(
                db_index=False,
                help_text="Who wrote the prompt; never gets it back except as a repeat.",
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="slot",
            name="comparison",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="slots",
                to="annotation.comparison",
            ),
        ),
        migrations.AddField(
            model_name="slot",
            name="round",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="slots",
                to="annotation.round",
            ),
        ),
        migrations.AddField(
            model_name="slotcursor",
            name="annotator",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="slot_cursors",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="slotcursor",
            name="round",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="annotation.round",
            ),
        ),
        migrations.AddField(
            model_name="slotskip",
            name="annotator",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="slot_skips",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="slotskip",
            name="comparison",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="slot_skips",
                to="annotation.comparison",
            ),
        ),
        migrations.AddConstraint(
            model_name="edit",
            constraint=models.CheckConstraint(
                condition=models.Q(("text", ""), _negated=True), name="annotation_edit_not_empty"
            ),
        ),
        migrations.AddIndex(
            model_name="goldcomparison",
            index=models.Index(
                condition=models.Q(("retired_at__isnull", True)),
                fields=["round"],
                name="annotation_gold_served",
            ),
        ),
        migrations.AddConstraint(
            model_name="goldcomparison",
            constraint=models.UniqueConstraint(
                fields=("comparison",), name="annotation_gold_one_per_comparison"
            ),
        ),
        migrations.AddConstraint(
            model_name="goldcomparison",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("expected_bin__in", ["", "chosen_safe", "both_safe", "both_unsafe"])
                ),
                name="annotation_gold_bin_known",
            ),
        ),
        migrations.AddIndex(
            model_name="promptband",
            index=models.Index(fields=["round", "value"], name="annotation_band_lookup"),
        ),
        migrations.AddIndex(
            model_name="slot",
            index=models.Index(
                condition=models.Q(("state", "free")),
                fields=["round", "offered_at", "id"],
                name="annotation_slot_queue",
            ),
        ),
        migrations.AddIndex(
            model_name="slot",
            index=models.Index(
                condition=models.Q(("state", "leased")),
                fields=["lease_expires_at"],
                name="annotation_slot_leases",
            ),
        ),
        migrations.AddConstraint(
            model_name="slot",
            constraint=models.UniqueConstraint(
                fields=("comparison", "number"), name="annotation_slot_number_unique"
            ),
        ),
        migrations.AddConstraint(
            model_name="slot",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state", "leased")),
                fields=("annotator",),
                name="annotation_slot_one_lease_each",
            ),
        ),
        migrations.AddConstraint(
            model_name="slot",
            constraint=models.CheckConstraint(
                condition=models.Q(("kind__in", ["overlap", "gold", "repeat", "second_reading"])),
                name="annotation_slot_kind_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="slot",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ["free", "leased", "judged", "withdrawn"])),
                name="annotation_slot_state_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="slot",
            constraint=models.CheckConstraint(
                condition=models.Q(("number__gte", 1)), name="annotation_slot_number_bound"
            ),
        ),
        migrations.AddConstraint(
            model_name="slot",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("state", "leased"), ("lease_expires_at__isnull", True), _connector="XOR"
                ),
                name="annotation_slot_lease_has_end",
            ),
        ),
        migrations.AddConstraint(
            model_name="slot",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("state__in", ["free", "withdrawn"]),
                    ("annotator__isnull", False),
                    _connector="OR",
                ),
                name="annotation_slot_taken_by_somebody",
            ),
        ),
        migrations.AddConstraint(
            model_name="slot",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("kind__in", ["gold", "repeat"]), ("state", "free"), _negated=True
                ),
                name="annotation_slot_silent_never_free",
            ),
        ),
        migrations.AddConstraint(
            model_name="slot",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("annotator", models.F("author")),
                        ("state__in", ["leased", "judged"]),
                        _negated=True,
                    ),
                    ("kind", "repeat"),
                    _connector="OR",
                ),
                name="annotation_slot_not_for_author",
            ),
        ),
        migrations.AddConstraint(
            model_name="slotcursor",
            constraint=models.UniqueConstraint(
                fields=("annotator", "round"), name="annotation_cursor_one_per_round"
            ),
        ),
        migrations.AddConstraint(
            model_name="slotskip",
            constraint=models.UniqueConstraint(
                fields=("comparison", "annotator"), name="annotation_skip_once_each"
            ),
        ),
        migrations.AddConstraint(
            model_name="slotskip",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "reason__in",
                        [
                            "not_my_language",
                            "no_expertise",
                            "too_disturbing",
                            "both_failed",
                            "other",
                        ],
                    )
                ),
                name="annotation_skip_reason_known",
            ),
        ),
        migrations.RunSQL(
            sql="""
                ALTER TABLE annotation_goldcomparison
                ADD CONSTRAINT annotation_gold_expected_is_of_comparison
                FOREIGN KEY (expected_sample_id, comparison_id, expected_side)
                REFERENCES annotation_sample (id, comparison_id, side)
                DEFERRABLE INITIALLY IMMEDIATE
            """,
            reverse_sql="""
                ALTER TABLE annotation_goldcomparison
                DROP CONSTRAINT annotation_gold_expected_is_of_comparison
            """,
        ),
    ]
