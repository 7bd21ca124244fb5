"""What the lead's start page shows."""

from collections.abc import Mapping
from dataclasses import dataclass

from annotation.models import CounterCheck, Pause
from annotation.pauses import active_pause
from annotation.selectors import newest_drift, num_waiting
from registry.models import Iteration, Run
from webapp.plots import Plot
from webapp.selectors.iterations import StepView, steps_of
from webapp.selectors.policies import PolicyRow, policy_rows, violation_plot, win_rate_plot
from webapp.selectors.rounds import RoundRow, round_rows
from webapp.selectors.runs import Progress, progress_of, run_list
from workers.alive import workers_alive


@dataclass(frozen=True, kw_only=True)
class DashboardPage:
    """The state of the whole loop."""

    open_rounds: list[RoundRow]
    iteration: Iteration | None
    steps: list[StepView]
    runs: list[Run]
    progress: dict[int, Progress]
    newest: PolicyRow | None
    """The policy promoted last."""
    win_rates: Plot
    violations: Plot
    alive: Mapping[str, bool]
    drift: CounterCheck | None
    """The newest check of all counters, if one differed."""
    pause: Pause | None
    """What holds annotation up now."""
    num_waiting: int
    num_active_runs: int
    num_judged: int
    """Comparisons judged in open rounds."""
    num_asked: int
    """Comparisons asked for in open rounds."""

    @property
    def dead_queues(self) -> list[str]:
        """Queues that no worker serves now."""
        return [queue for queue, is_alive in self.alive.items() if not is_alive]


def dashboard_page() -> DashboardPage:
    """Gather the page."""
    policies = policy_rows()
    promoted = [row for row in policies if row.policy.promoted_at is not None]
    newest = max(promoted, key=lambda row: row.policy.promoted_at, default=None)  # type: ignore[arg-type, return-value] # promoted
    open_rounds = [row for row in round_rows() if row.round.is_open]
    iteration = Iteration.objects.order_by("-number").first()
    iteration_runs = list(Run.objects.filter(iteration=iteration)) if iteration else []
    runs = run_list().runs[:6]
    return DashboardPage(
        open_rounds=open_rounds,
        iteration=iteration,
        steps=steps_of(iteration, iteration_runs) if iteration else [],
        runs=runs,
        progress=progress_of(runs),
        newest=newest,
        win_rates=win_rate_plot(policies),
        violations=violation_plot(policies),
        alive=workers_alive(),
        drift=newest_drift(),
        pause=active_pause(),
        num_waiting=num_waiting(),
        num_active_runs=Run.objects.filter(state__in=["queued", "running"]).count(),
        num_judged=sum(row.progress.num_judged for row in open_rounds),
        num_asked=sum(row.progress.target for row in open_rounds),
    )
