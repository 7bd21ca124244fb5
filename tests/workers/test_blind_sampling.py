"""The sampler answers blind checks with one response each, after those who annotate."""

from pathlib import Path

import pytest
from pytest_django import Settings

from annotation.models import BlindPair
from registry.services import publish_artifact, register_policy
from tests.annotation.test_blind_checks import approve, open_check
from tests.factories import make_policy_version
from tests.models import write_tiny_policy
from workers.blind_sampling import sample_waiting_pairs
from workers.schedule import wake_sampler

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _small(settings: Settings, tmp_path: Path) -> None:
    settings.SAMPLING_THREADS = 1
    settings.SAMPLING_ROWS = 2


def test_every_pair_gets_one_response_of_the_policy(tmp_path: Path) -> None:
    path = write_tiny_policy(tmp_path / "policy", seed=3)
    policy = register_policy(name="tiny", artifact=publish_artifact(path=path, kind="policy"))
    approve(3)
    check = open_check(3, policy=policy, max_new_tokens=8)
    assert wake_sampler() == 3
    assert sample_waiting_pairs() >= 3
    pairs = list(BlindPair.objects.filter(check_of=check))
    assert [pair.state for pair in pairs] == ["ready"] * 3
    assert all(pair.response_text.strip() for pair in pairs)
    assert all(1 <= pair.num_tokens <= 8 for pair in pairs)
    assert (sample_waiting_pairs(), wake_sampler()) == (0, 0)


def test_a_policy_that_cannot_be_loaded_fails_with_the_reason() -> None:
    approve(1)
    open_check(1, policy=make_policy_version("broken"))
    sample_waiting_pairs()
    pair = BlindPair.objects.get()
    assert (pair.state, pair.sampling_attempts) == ("failed", 3)
    assert "Error" in pair.error
