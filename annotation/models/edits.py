"""Edits: a response that an annotator made better than both that were shown."""

from django.db import models
from django.db.models import Q

from annotation.models.judgements import Judgement


class Edit(models.Model):
    """The chosen response as its annotator rewrote it: ranked above both; never changed.

    The edit of an author's judgement, not the response as it was drawn, continues the dialogue.
    """

    judgement = models.OneToOneField(Judgement, on_delete=models.PROTECT, related_name="edit")
    text = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(text=""), name="annotation_edit_not_empty"),
        ]

    def __str__(self) -> str:
        return f"edit of judgement {self.judgement_id}"
