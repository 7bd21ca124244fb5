"""Everything that writes to annotation."""

from annotation.services.attempts import (
    grade_sitting,
    save_answers,
    start_attempt,
    start_sitting,
    submit_sitting,
)
from annotation.services.consents import (
    give_consent,
    publish_consent_document,
    withdraw_consent,
)
from annotation.services.drafts import save_draft
from annotation.services.gold import declare_gold, retire_gold
from annotation.services.guidelines import confirm_guidelines
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
from annotation.services.presets import make_presets
from annotation.services.prompts import start_dialogue, write_prompt
from annotation.services.qualifications import (
    PartFields,
    QualificationFields,
    QuestionFields,
    change_qualification,
    copy_qualification,
    create_qualification,
    delete_part,
    delete_question,
    publish_qualification,
    require_qualifications,
    retire_qualification,
    save_part,
    save_question,
)
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
from annotation.services.wellbeing import (
    save_wellbeing_choices,
    set_content_warnings,
    set_daily_minutes,
    set_wellbeing_policy,
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
    "PartFields",
    "QualificationFields",
    "QuestionFields",
    "SampleRequest",
    "SamplingJob",
    "ask_second_reading",
    "beat_comparison",
    "beat_sampling",
    "beat_slot",
    "change_qualification",
    "claim_comparisons_for_sampling",
    "claim_slot",
    "close_round",
    "confirm_guidelines",
    "copy_qualification",
    "create_qualification",
    "create_user",
    "create_users",
    "declare_gold",
    "delete_part",
    "delete_question",
    "exclude_judgement",
    "fail_sampling",
    "finish_dialogue",
    "flag_comparison",
    "flag_slot",
    "give_consent",
    "grade_sitting",
    "import_graded_set",
    "make_presets",
    "measure_quality",
    "measure_round",
    "open_round",
    "publish_consent_document",
    "publish_guidelines",
    "publish_qualification",
    "release_expired_leases",
    "require_qualifications",
    "retire_gold",
    "retire_qualification",
    "save_account",
    "save_answers",
    "save_draft",
    "save_part",
    "save_question",
    "save_wellbeing_choices",
    "set_content_warnings",
    "set_daily_minutes",
    "set_wellbeing_policy",
    "skip_comparison",
    "skip_slot",
    "start_attempt",
    "start_dialogue",
    "start_sitting",
    "store_samples",
    "submit_comparison",
    "submit_sitting",
    "submit_slot",
    "take_work",
    "withdraw_consent",
    "write_prompt",
]
