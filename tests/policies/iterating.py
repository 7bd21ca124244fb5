"""One iteration of PPO with all that it computes, and what `test_ppo_by_two.py` starts by torchrun.

Under torchrun each process writes its tensors of that iteration; then they work off runs. Or one of
them dies in the middle of an iteration.
"""

import os
import signal
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor

from language.distributed import world
from language.runs import RunContext, run_main, seed_everything
from language.sharding import gathered
from language.tokenizers import eos_id_of
from policies.footprint import footprint_of
from policies.heldout import look_at
from policies.iterations import Stopwatch, iterate_
from policies.ppo import ppo
from policies.ppo_models import create_learners, load_models
from policies.ppo_progress import Progress
from records.policy_configs import PPOConfig
from records.rundirs import RunDirectory, RunSpec
from tests.language.several import work_off
from tests.policies.toys import encoded, prompts

NUM_ROWS = 7
"""Odd, so that one of two processes has a row less."""


def iteration_of(directory: RunDirectory) -> dict[str, Tensor]:
    """Return what the first iteration of a run computes, and the weights that it leaves."""
    spec = directory.read_spec()
    config = spec.config
    assert isinstance(config, PPOConfig)
    seed_everything(config.seed)
    rank, world_size = world()
    context = RunContext(directory, config, rank=rank, world_size=world_size)
    models = load_models(spec, config, context, name="one")
    learners = create_learners(models.networks, config)
    look = look_at(models, encoded(*prompts(5, first=20)), config, 0)
    done = iterate_(
        models.engine_after(0),
        models.networks,
        learners,
        models.score_fn,
        encoded(*prompts(NUM_ROWS)),
        list(range(NUM_ROWS)),
        Progress.begin(look, 0.0, 0.1),
        config=config,
        eos_id=eos_id_of(models.tokenizer),
        generator=context.generator,
        watch=Stopwatch(),
    )
    experience = done.experience
    found = {
        "ids_M": torch.tensor([i for row in done.rollout.rows for i in row.response_ids]),
        "scores_B": done.scores.gated_B,
        "rewards_BR": done.rewards.rewards_BR,
        "logprobs_M": experience.logprobs_M,
        "values_M": experience.values_M,
        "advantages_M": experience.advantages_M,
        "returns_M": experience.returns_M,
        "entropies_M": done.view.entropies_M,
        "last_values_B": done.view.last_values_B,
        "update": torch.tensor(done.update),
        "held": torch.tensor(footprint_of(models.networks)),
        "look": torch.tensor([*look.scores, look.kl, look.finished_share, look.helpfulness]),
    }
    for name in ("policy", "value_model"):
        with gathered(getattr(models.networks, name)) as model:
            weights = model.state_dict()
            found |= {f"{name}.{key}": tensor.clone() for key, tensor in weights.items()}
    return found


class Dying(RunContext):
    """The context of processes the last of which dies in an iteration, by kill -9.

    By then it has sampled and scored, and seen what the reference says, but learned nothing.
    """

    last_step = 6
    """Iterations done."""

    def log(self, step: int, **metrics: float | str | None) -> None:
        """Write the row; then hand out a clock that kills whoever looks too often."""
        super().log(step, **metrics)
        if step == self.last_step and self.rank == self.world_size - 1:
            # It is looked at as an iteration begins and after each of its phases.
            looks = iter(("begin", "generate", "score"))
            Stopwatch.clock = staticmethod(
                lambda: time.perf_counter() if next(looks, "") else die()
            )


def die() -> float:
    """Kill this process."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("it lives")


def killed(directory: RunDirectory, spec: RunSpec, context: RunContext) -> None:
    """Run PPO until one of its processes dies."""
    dying = Dying(directory, spec.config, rank=context.rank, world_size=context.world_size)
    ppo(directory, spec, dying)


def main(folder: Path, runs: list[str]) -> None:
    """Write what each process computes in the first iteration of the run `folder`; do `runs`."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    found = iteration_of(RunDirectory(folder))
    save_file(found, folder / f"iteration-{world()[0]}.safetensors")
    work_off(runs)
    dist.destroy_process_group()


if __name__ == "__main__":
    if sys.argv[1] == "killed":
        sys.exit(run_main("tests.policies.iterating", {"killed": killed}))
    main(Path(sys.argv[1]), sys.argv[2:])
