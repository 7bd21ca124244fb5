"""The tasks, each one line: they take ids, may come twice, and find nothing to do the second time.

| queue | tasks | workers |
| --- | --- | --- |
| gpu | `execute_run` | as many processes as runs may work at the same time |
| sampling | `sample_waiting_comparisons` | one process per device; loads the policies |
| cpu | all others | two processes or more: a simulated crowd takes minutes |
"""

from annotation import services
from workers import (
    blind_sampling,
    dispatch,
    iterations,
    launcher,
    sampling,
    schedule,
    simulated,
    uploads,
)
from workers.celery import app


@app.task(name=dispatch.EXECUTE_RUN)
def execute_run(run_id: int) -> None:
    """See a run through."""
    launcher.execute_run(run_id)


@app.task(name=dispatch.SAMPLE_WAITING)
def sample_waiting_comparisons() -> None:
    """Draw the responses of all comparisons that wait, then those of blind checks."""
    sampling.sample_waiting_comparisons()
    blind_sampling.sample_waiting_pairs()


@app.task(name=dispatch.ADVANCE_ITERATION)
def advance_iteration(iteration_id: int) -> None:
    """Move an iteration on as far as it can go."""
    iterations.advance_iteration(iteration_id)


@app.task(name=dispatch.SIMULATE_CROWD)
def run_simulated_crowd(round_id: int, num_annotators: int, seed: int) -> None:
    """Fill a round with the judgements of simulated annotators."""
    simulated.fill_round(round_id, num_annotators=num_annotators, seed=seed)


@app.task(name=dispatch.MEASURE_QUALITY)
def measure_quality() -> None:
    """Work out the numbers on quality that are out of date."""
    services.measure_quality()


@app.task(name="workers.check_counters")
def check_counters() -> None:
    """Count anew what rounds and assignments count as they go."""
    services.check_counters()


@app.task(name=dispatch.WORK_ON_UPLOAD)
def work_on_upload(upload_id: int) -> None:
    """Check an upload of items, or add them."""
    uploads.work_on_upload(upload_id)


@app.task(name="workers.wake_uploads")
def wake_uploads() -> None:
    """Nudge uploads without a worker."""
    schedule.wake_uploads()


@app.task(name="workers.recover_lost_runs")
def recover_lost_runs() -> None:
    """Nudge runs without a worker."""
    schedule.recover_lost_runs()


@app.task(name="workers.advance_iterations")
def advance_iterations() -> None:
    """Look at running iterations."""
    schedule.advance_iterations()


@app.task(name="workers.wake_sampler")
def wake_sampler() -> None:
    """Nudge the sampler if prompts wait."""
    schedule.wake_sampler()


@app.task(name="workers.release_leases")
def release_leases() -> None:
    """Give back lapsed slots."""
    schedule.release_leases()


@app.task(name="workers.start_scheduled_iterations")
def start_scheduled_iterations() -> None:
    """Start iterations that are due."""
    schedule.start_scheduled_iterations()
