"""Everything that writes to annotation."""

from annotation.services.assignments import close_assignment, open_assignment
from annotation.services.demonstration_reviews import reopen_demonstration, review_demonstration
from annotation.services.demonstrations import (
    NewRevision,
    NewTurn,
    keep_demonstration_draft,
    start_demonstration,
    submit_demonstration,
    withdraw_demonstration,
)
from annotation.services.drafts import save_draft
from annotation.services.judging import (
    beat_comparison,
    finish_dialogue,
    flag_comparison,
    release_expired_leases,
    skip_comparison,
    submit_comparison,
)
from annotation.services.people import NewUser, create_user, create_users, save_account
from annotation.services.prompts import start_dialogue, write_prompt
from annotation.services.reviewing import exclude_judgement
from annotation.services.rounds import NewVariant, close_round, open_round, publish_guidelines
from annotation.services.sampling import (
    NewSample,
    SampleRequest,
    SamplingJob,
    beat_sampling,
    claim_comparisons_for_sampling,
    fail_sampling,
    store_samples,
)

__all__ = [
    "NewRevision",
    "NewSample",
    "NewTurn",
    "NewUser",
    "NewVariant",
    "SampleRequest",
    "SamplingJob",
    "beat_comparison",
    "beat_sampling",
    "claim_comparisons_for_sampling",
    "close_assignment",
    "close_round",
    "create_user",
    "create_users",
    "exclude_judgement",
    "fail_sampling",
    "finish_dialogue",
    "flag_comparison",
    "keep_demonstration_draft",
    "open_assignment",
    "open_round",
    "publish_guidelines",
    "release_expired_leases",
    "reopen_demonstration",
    "review_demonstration",
    "save_account",
    "save_draft",
    "skip_comparison",
    "start_demonstration",
    "start_dialogue",
    "store_samples",
    "submit_comparison",
    "submit_demonstration",
    "withdraw_demonstration",
    "write_prompt",
]
