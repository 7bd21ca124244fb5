"""Everything that writes to annotation."""

from annotation.services.assignments import close_assignment, open_assignment
from annotation.services.blind_checks import (
    BlindJob,
    beat_blind_pairs,
    claim_blind_pairs,
    fail_blind_pair,
    open_blind_check,
    store_blind_response,
    submit_blind_verdict,
)
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
from annotation.services.review_queue import (
    Contradiction,
    queue_contradictions,
    queue_disagreement,
    queue_disagreements,
    queue_flag,
    queue_for_review,
    queue_gold_miss,
)
from annotation.services.reviewing import (
    accept_comparison,
    correct_judgement,
    exclude_judgement,
    report_unclear,
    undo_decision,
)
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
    "BlindJob",
    "Contradiction",
    "NewRevision",
    "NewSample",
    "NewTurn",
    "NewUser",
    "NewVariant",
    "SampleRequest",
    "SamplingJob",
    "accept_comparison",
    "beat_blind_pairs",
    "beat_comparison",
    "beat_sampling",
    "claim_blind_pairs",
    "claim_comparisons_for_sampling",
    "close_assignment",
    "close_round",
    "correct_judgement",
    "create_user",
    "create_users",
    "exclude_judgement",
    "fail_blind_pair",
    "fail_sampling",
    "finish_dialogue",
    "flag_comparison",
    "keep_demonstration_draft",
    "open_assignment",
    "open_blind_check",
    "open_round",
    "publish_guidelines",
    "queue_contradictions",
    "queue_disagreement",
    "queue_disagreements",
    "queue_flag",
    "queue_for_review",
    "queue_gold_miss",
    "release_expired_leases",
    "reopen_demonstration",
    "report_unclear",
    "review_demonstration",
    "save_account",
    "save_draft",
    "skip_comparison",
    "start_demonstration",
    "start_dialogue",
    "store_blind_response",
    "store_samples",
    "submit_blind_verdict",
    "submit_comparison",
    "submit_demonstration",
    "undo_decision",
    "withdraw_demonstration",
    "write_prompt",
]
