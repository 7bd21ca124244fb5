"""Artifacts: files named by their content; snapshots: the artifacts that hold preferences."""

from pathlib import Path

from django.db import models
from django.db.models import Q

from registry.paths import data_dir


class Artifact(models.Model):
    """A file or folder that never changes, named by the digest of what is in it."""

    class Kind(models.TextChoices):
        """What an artifact holds."""

        POLICY = "policy"
        REWARD_MODEL = "reward_model"
        VALUE = "value"
        POOL = "pool"
        SNAPSHOT = "snapshot"
        DEMONSTRATIONS = "demonstrations"
        PROMPTS = "prompts"
        CONSTRAINTS = "constraints"
        PREPROMPTS = "preprompts"
        REPORT = "report"

    digest = models.CharField(max_length=64)
    kind = models.CharField(max_length=20, choices=Kind)
    path = models.CharField(max_length=200, help_text="Relative to the data directory.")
    num_bytes = models.BigIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["digest"], name="registry_artifact_digest_unique"),
            models.CheckConstraint(
                condition=Q(digest__regex=r"^[0-9a-f]{64}$"), name="registry_artifact_digest_is_hex"
            ),
            models.CheckConstraint(
                condition=Q(num_bytes__gte=0), name="registry_artifact_num_bytes_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.digest[:12]}"

    @property
    def location(self) -> Path:
        """Where it lies on this machine."""
        return data_dir() / self.path


class Snapshot(models.Model):
    """A frozen set of preferences."""

    name = models.CharField(max_length=80)
    artifact = models.ForeignKey(Artifact, on_delete=models.PROTECT, related_name="snapshots")
    manifest = models.JSONField(help_text="As written beside the Parquet file.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["name"], name="registry_snapshot_name_unique"),
            models.CheckConstraint(condition=~Q(name=""), name="registry_snapshot_has_name"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def round_names(self) -> list[str]:
        """Names of the rounds it was frozen from; empty for an imported set."""
        return [str(item["name"]) for item in self.manifest["selection"].get("rounds", [])]
