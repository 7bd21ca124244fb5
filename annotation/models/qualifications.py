"""Qualifications: tests and tutorials, what people answered, and where they are required."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from annotation.models.checks import AXIS_CHOICES, one_of
from annotation.models.rounds import Round

LIVE_ATTEMPT_STATES = ("in_progress", "grading")


class Qualification(models.Model):
    """A test or a tutorial in parts; a draft may be edited, a published one never changes."""

    class Kind(models.TextChoices):
        """Whether it is passed or only gone through."""

        TEST = "test"
        TUTORIAL = "tutorial"

    class State(models.TextChoices):
        """Whether people may take it."""

        DRAFT = "draft"
        PUBLISHED = "published"
        RETIRED = "retired"

    name = models.CharField(max_length=80)
    kind = models.CharField(max_length=8, choices=Kind, default=Kind.TEST)
    introduction = models.TextField(blank=True, help_text="Markdown.")
    max_attempts = models.PositiveSmallIntegerField(default=2)
    valid_days = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Days until a pass expires; empty means never."
    )
    state = models.CharField(max_length=9, choices=State, default=State.DRAFT)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="qualifications_written"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    published_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["name"], name="annotation_qualification_name_unique"),
            models.CheckConstraint(condition=~Q(name=""), name="annotation_qualification_has_name"),
            one_of("kind", ("test", "tutorial"), name="annotation_qualification_kind_known"),
            models.CheckConstraint(
                condition=Q(state="draft", published_at__isnull=True)
                | Q(state__in=["published", "retired"], published_at__isnull=False),
                name="annotation_qualification_published_has_time",
            ),
            models.CheckConstraint(
                condition=Q(max_attempts__gte=1)
                & (Q(valid_days__isnull=True) | Q(valid_days__gte=1)),
                name="annotation_qualification_bounds_positive",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_draft(self) -> bool:
        """Whether it may still be edited."""
        return self.state == self.State.DRAFT

    @property
    def is_tutorial(self) -> bool:
        """Whether it teaches instead of testing."""
        return self.kind == self.Kind.TUTORIAL


class QualificationPart(models.Model):
    """One sitting of a qualification: its questions, its time and its pass mark."""

    class Rule(models.TextChoices):
        """What the pass mark is about."""

        SHARE = "share"
        COUNT = "count"
        MEAN_GRADE = "mean_grade"

    qualification = models.ForeignKey(
        Qualification, on_delete=models.CASCADE, related_name="parts", db_index=False
    )
    position = models.PositiveSmallIntegerField()
    title = models.CharField(max_length=120)
    instructions = models.TextField(blank=True, help_text="Markdown.")
    minutes = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Time limit; empty means none."
    )
    rule = models.CharField(max_length=10, choices=Rule, default=Rule.SHARE)
    mark = models.FloatField(default=0.8, help_text="What has to be reached.")
    is_strict = models.BooleanField(default=False, help_text="More than the mark is needed.")
    min_answers = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Answers asked for; empty means all."
    )
    joins_previous = models.BooleanField(
        default=False, help_text="Judged in one with the part before, by that part's mark."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["qualification", "position"], name="annotation_part_position_unique"
            ),
            models.CheckConstraint(condition=~Q(title=""), name="annotation_part_has_title"),
            models.CheckConstraint(
                condition=Q(rule="share", mark__gte=0.0, mark__lte=1.0)
                | Q(rule="count", mark__gte=0.0)
                | Q(rule="mean_grade", mark__gte=1.0, mark__lte=5.0),
                name="annotation_part_mark_fits_rule",
            ),
            models.CheckConstraint(
                condition=(Q(minutes__isnull=True) | Q(minutes__gte=1))
                & (Q(min_answers__isnull=True) | Q(min_answers__gte=1)),
                name="annotation_part_bounds_positive",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.qualification}: {self.title}"

    @property
    def is_graded_by_hand(self) -> bool:
        """Whether a reviewer grades its answers."""
        return self.rule == self.Rule.MEAN_GRADE


class QualificationQuestion(models.Model):
    """One question, with what the team agreed is the right answer."""

    class Kind(models.TextChoices):
        """How it is answered."""

        CHOICE = "choice"
        RANKING = "ranking"
        GRADING = "grading"
        PAIR = "pair"
        WRITTEN = "written"

    part = models.ForeignKey(
        QualificationPart, on_delete=models.CASCADE, related_name="questions", db_index=False
    )
    position = models.PositiveSmallIntegerField()
    kind = models.CharField(max_length=8, choices=Kind)
    prompt = models.TextField(help_text="Markdown.")
    options = models.JSONField(default=list, help_text="The answers that are shown, in order.")
    expected = models.JSONField(
        null=True, blank=True, help_text="Numbers of the team's consensus; empty where written."
    )
    tolerance = models.PositiveSmallIntegerField(
        default=0, help_text="Steps by which a grade may differ from the team's."
    )
    explanation = models.TextField(blank=True, help_text="Markdown; a tutorial shows it.")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["part", "position"], name="annotation_question_position_unique"
            ),
            one_of(
                "kind",
                ("choice", "ranking", "grading", "pair", "written"),
                name="annotation_question_kind_known",
            ),
            models.CheckConstraint(condition=~Q(prompt=""), name="annotation_question_has_prompt"),
            models.CheckConstraint(
                condition=Q(kind="written") ^ Q(expected__isnull=False),
                name="annotation_question_consensus_unless_written",
            ),
        ]

    def __str__(self) -> str:
        return f"question {self.position} of {self.part}"


class Attempt(models.Model):
    """One person's way through a qualification. One at a time, and no more than allowed."""

    class State(models.TextChoices):
        """Where it stands; the last two are final."""

        IN_PROGRESS = "in_progress"
        GRADING = "grading"
        PASSED = "passed"
        FAILED = "failed"

    qualification = models.ForeignKey(
        Qualification, on_delete=models.PROTECT, related_name="attempts", db_index=False
    )
    annotator = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="attempts"
    )
    number = models.PositiveSmallIntegerField()
    max_attempts = models.PositiveSmallIntegerField(help_text="As the qualification allowed.")
    state = models.CharField(max_length=11, choices=State, default=State.IN_PROGRESS)
    started_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Until when a pass counts.")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["qualification", "annotator", "number"],
                name="annotation_attempt_number_unique",
            ),
            models.UniqueConstraint(
                fields=["qualification", "annotator"],
                condition=Q(state__in=LIVE_ATTEMPT_STATES),
                name="annotation_attempt_one_at_a_time",
            ),
            models.CheckConstraint(
                condition=Q(number__gte=1) & Q(number__lte=F("max_attempts")),
                name="annotation_attempt_within_allowed",
            ),
            models.CheckConstraint(
                condition=Q(state__in=LIVE_ATTEMPT_STATES, ended_at__isnull=True)
                | Q(state__in=["passed", "failed"], ended_at__isnull=False),
                name="annotation_attempt_ended_has_time",
            ),
            models.CheckConstraint(
                condition=Q(expires_at__isnull=True) | Q(state="passed"),
                name="annotation_attempt_only_passes_expire",
            ),
        ]
        indexes = [
            # What waits for a reviewer's grades.
            models.Index(
                fields=["id"], condition=Q(state="grading"), name="annotation_attempt_to_grade"
            ),
        ]

    def __str__(self) -> str:
        return f"attempt {self.number} at {self.qualification}"


class Sitting(models.Model):
    """One part of an attempt: begun, due and submitted by the server's clock."""

    attempt = models.ForeignKey(
        Attempt, on_delete=models.PROTECT, related_name="sittings", db_index=False
    )
    part = models.ForeignKey(QualificationPart, on_delete=models.PROTECT, related_name="sittings")
    started_at = models.DateTimeField()
    due_at = models.DateTimeField(null=True, blank=True)
    submitted_at = models.DateTimeField(null=True, blank=True)
    is_passed = models.BooleanField(null=True, blank=True, help_text="Empty until graded.")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["attempt", "part"], name="annotation_sitting_part_unique"
            ),
            models.CheckConstraint(
                condition=Q(due_at__isnull=True) | Q(due_at__gt=F("started_at")),
                name="annotation_sitting_due_after_start",
            ),
            models.CheckConstraint(
                condition=Q(is_passed__isnull=True) | Q(submitted_at__isnull=False),
                name="annotation_sitting_result_after_submission",
            ),
        ]
        indexes = [
            # What was handed in in a span of days.
            models.Index(
                fields=["submitted_at"],
                condition=Q(submitted_at__isnull=False),
                name="annotation_sitting_handed_in",
            ),
        ]

    def __str__(self) -> str:
        return f"sitting of {self.part}"


class Answer(models.Model):
    """What a person answered to one question, and how it was graded."""

    sitting = models.ForeignKey(
        Sitting, on_delete=models.PROTECT, related_name="answers", db_index=False
    )
    question = models.ForeignKey(
        QualificationQuestion, on_delete=models.PROTECT, related_name="answers"
    )
    value = models.JSONField(null=True, blank=True)
    late_value = models.JSONField(
        null=True, blank=True, help_text="What came after the time; kept, not counted."
    )
    agrees = models.BooleanField(null=True, blank=True, help_text="With the team's consensus.")
    grade = models.PositiveSmallIntegerField(null=True, blank=True, help_text="1 to 5, by hand.")
    grader = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="answers_graded",
    )
    note = models.TextField(blank=True, help_text="What the grader tells the person.")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["sitting", "question"], name="annotation_answer_question_unique"
            ),
            models.CheckConstraint(
                condition=Q(grade__isnull=True, grader__isnull=True)
                | Q(grade__gte=1, grade__lte=5, grader__isnull=False),
                name="annotation_answer_grade_is_one_to_five",
            ),
        ]

    def __str__(self) -> str:
        return f"answer to {self.question}"


class Requirement(models.Model):
    """A qualification that work needs: in one round, or in every round of an axis."""

    qualification = models.ForeignKey(
        Qualification, on_delete=models.PROTECT, related_name="requirements", db_index=False
    )
    round = models.ForeignKey(
        Round, on_delete=models.PROTECT, null=True, blank=True, related_name="requirements"
    )
    axis = models.CharField(max_length=12, choices=AXIS_CHOICES, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=(Q(round__isnull=False) & Q(axis=""))
                | (Q(round__isnull=True) & Q(axis__in=[value for value, _ in AXIS_CHOICES])),
                name="annotation_requirement_of_one_thing",
            ),
            models.UniqueConstraint(
                fields=["qualification", "round"],
                condition=Q(round__isnull=False),
                name="annotation_requirement_round_unique",
            ),
            models.UniqueConstraint(
                fields=["qualification", "axis"],
                condition=Q(round__isnull=True),
                name="annotation_requirement_axis_unique",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.qualification} for {self.round or self.axis}"
