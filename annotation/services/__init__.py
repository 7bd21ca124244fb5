"""Everything that writes to annotation."""

from annotation.services.drafts import save_draft
from annotation.services.gold import declare_gold, retire_gold
from annotation.services.importing import ImportedRound, import_graded_set
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
from annotation.services.quality import measure_quality, measure_round
from annotation.services.reviewing import exclude_judgement
from annotation.services.rounds import (
    NO_GUIDANCE,
    NO_OVERLAP,
    Guidance,
    NewVariant,
    Overlap,
    close_round,
    open_round,
    publish_guidelines,
)
from annotation.services.sampling import (
    NewSample,
    SampleRequest,
    SamplingJob,
    beat_sampling,
    claim_comparisons_for_sampling,
    fail_sampling,
    store_samples,
)
from annotation.services.slots import (
    ask_second_reading,
    beat_slot,
    claim_slot,
    flag_slot,
    skip_slot,
    submit_slot,
    take_work,
)

__all__ = [
    "NO_GUIDANCE",
    "NO_OVERLAP",
    "Guidance",
    "ImportedRound",
    "NewSample",
    "NewUser",
    "NewVariant",
    "Overlap",
    "SampleRequest",
    "SamplingJob",
    "ask_second_reading",
    "beat_comparison",
    "beat_sampling",
    "beat_slot",
    "claim_comparisons_for_sampling",
    "claim_slot",
    "close_round",
    "create_user",
    "create_users",
    "declare_gold",
    "exclude_judgement",
    "fail_sampling",
    "finish_dialogue",
    "flag_comparison",
    "flag_slot",
    "import_graded_set",
    "measure_quality",
    "measure_round",
    "open_round",
    "publish_guidelines",
    "release_expired_leases",
    "retire_gold",
    "save_account",
    "save_draft",
    "skip_comparison",
    "skip_slot",
    "start_dialogue",
    "store_samples",
    "submit_comparison",
    "submit_slot",
    "take_work",
    "write_prompt",
]
