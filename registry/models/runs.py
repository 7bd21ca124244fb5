"""Runs: one execution of a trainer or an evaluation, with its inputs, outputs and metrics."""

from django.db import models
from django.db.models import Q

from records.run_configs import RunConfig, RunKind
from records.run_kinds import CONFIGS
from records.rundirs import RunDirectory
from registry.models.artifacts import Artifact
from registry.models.iterations import Iteration
from registry.paths import run_path

_KIND_CHOICES = [(kind.value, kind.value.replace("_", " ")) for kind in RunKind]


class Run(models.Model):
    """One execution. Only the worker that holds the current claim token may write to it."""

    class State(models.TextChoices):
        """Where a run stands; the last three are final."""

        QUEUED = "queued"
        RUNNING = "running"
        FINISHED = "finished"
        FAILED = "failed"
        CANCELLED = "cancelled"

    kind = models.CharField(max_length=20, choices=_KIND_CHOICES)
    name = models.CharField(max_length=80, blank=True)
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    stage = models.CharField(max_length=20, choices=Iteration.Stage, blank=True)
    iteration = models.ForeignKey(
        Iteration, on_delete=models.PROTECT, null=True, blank=True, related_name="runs"
    )
    config = models.JSONField()
    seed = models.BigIntegerField()
    code_commit = models.CharField(max_length=80)
    output_name = models.CharField(
        max_length=80, blank=True, help_text="Name of the version this run makes."
    )
    version_key = models.CharField(
        max_length=120, blank=True, help_text="Reserves the output name among unfailed runs."
    )

    attempts = models.PositiveIntegerField(default=0)
    max_attempts = models.PositiveIntegerField(default=3)
    claim_token = models.UUIDField(null=True, blank=True)
    claimed_by = models.CharField(max_length=200, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    cancel_requested_by = models.CharField(max_length=150, blank=True)

    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    result = models.JSONField(null=True, blank=True)
    error_class = models.CharField(max_length=200, blank=True)
    error_message = models.TextField(blank=True)
    error_traceback = models.TextField(blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=~Q(state="running")
                | Q(claim_token__isnull=False, heartbeat_at__isnull=False),
                name="registry_run_running_is_claimed",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["queued", "running"], finished_at__isnull=True)
                | Q(state__in=["finished", "failed", "cancelled"], finished_at__isnull=False),
                name="registry_run_ended_has_time",
            ),
            models.CheckConstraint(
                condition=Q(attempts__lte=models.F("max_attempts")),
                name="registry_run_attempts_bounded",
            ),
            # Two runs that could both finish must not be about to make the same version.
            models.UniqueConstraint(
                fields=["version_key"],
                condition=~Q(version_key="") & Q(state__in=["queued", "running", "finished"]),
                name="registry_run_version_key_unique",
            ),
        ]
        indexes = [
            # What the supervisor looks through for work and for dead workers.
            models.Index(
                fields=["state", "heartbeat_at"],
                condition=Q(state__in=["queued", "running"]),
                name="registry_run_unfinished",
            ),
            models.Index(fields=["-created_at"], name="registry_run_newest"),
        ]

    def __str__(self) -> str:
        return self.name or f"{self.kind} run {self.pk}"

    @property
    def is_ended(self) -> bool:
        """Whether it has reached a final state."""
        return self.state not in (self.State.QUEUED, self.State.RUNNING)

    @property
    def directory(self) -> RunDirectory:
        """The folder that is the whole interface to the run's process."""
        return RunDirectory(run_path(self.pk))

    @property
    def typed_config(self) -> RunConfig:
        """The config as its dataclass."""
        return CONFIGS[RunKind(self.kind)].from_json(self.config)


class RunInput(models.Model):
    """An artifact that a run reads, in a role that its config class names."""

    run = models.ForeignKey(
        Run, on_delete=models.PROTECT, related_name="run_inputs", db_index=False
    )
    role = models.CharField(max_length=40)
    artifact = models.ForeignKey(Artifact, on_delete=models.PROTECT, related_name="input_of")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "role"], name="registry_run_input_role_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.role} of run {self.run_id}"


class RunOutput(models.Model):
    """An artifact that a run made."""

    run = models.ForeignKey(
        Run, on_delete=models.PROTECT, related_name="run_outputs", db_index=False
    )
    name = models.CharField(max_length=40)
    artifact = models.ForeignKey(Artifact, on_delete=models.PROTECT, related_name="output_of")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "name"], name="registry_run_output_name_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.name} of run {self.run_id}"


class RunMetric(models.Model):
    """The metrics of one step of a run."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="metrics", db_index=False)
    step = models.PositiveIntegerField()
    values = models.JSONField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "step"], name="registry_run_metric_step_unique"),
        ]

    def __str__(self) -> str:
        return f"step {self.step} of run {self.run_id}"
