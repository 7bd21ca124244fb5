"""What the page of rejection sampling draws: temperatures, differences, best against median."""

import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from policies.temperature_sweep import choose_temperature
from records.run_configs import RunKind
from registry import services
from tests.policies.test_temperature_sweep import tried
from tests.webapp.runs import finished_run, running_run
from webapp.drawing import LEFT, RIGHT, WIDTH
from webapp.plots import Plot
from webapp.sampling_plots import plots_of_sampling, plots_of_sweep_so_far

CURVE = [{"n": 1, "max": 0.5, "median": 0.5}, {"n": 2, "max": 0.8, "median": 0.5}]


def summary(*scores: tuple[float, list[list[float]]]) -> dict[str, Any]:
    """Return the result of a run whose temperatures had these scores, by prompt and response."""
    return {**choose_temperature([tried(t, *rows) for t, rows in scores]), "curve": CURVE}


SWEPT = summary(
    (0.6, [[1, 1, 2, 2, 2], [1, 1, 1, 2, 2]]),
    (1.0, [[0, 1, 2, 3, 4], [0, 1, 2, 3, 6]]),
    (1.4, [[0, 0, 0, 0, 3], [0, 0, 0, 0, 3]]),
)


def by_id(result: dict[str, Any]) -> dict[str, Plot]:
    return {plot.plot_id: plot for plot in plots_of_sampling(result)}


def test_a_line_for_each_of_some_n_over_the_temperatures_the_largest_first() -> None:
    plot = by_id(SWEPT)["plot-sweep"]
    assert plot.headers == ("temperature", "best of 5", "best of 4", "single response")
    assert [row[0] for row in plot.rows] == ["0.6", "1", "1.4"]
    # Best of all five: 2 and 2; 4 and 6; 3 and 3.
    assert [row[1] for row in plot.rows] == ["2", "5", "3"]
    assert [row[3] for row in plot.rows] == ["1.5", "2.2", "0.6"]


def test_the_chosen_temperature_is_marked_where_it_stands() -> None:
    svg = by_id(SWEPT)["plot-sweep"].svg
    (x,) = re.findall(r'class="plot-reference" x1="([\d.]+)"', svg)
    assert float(x) == pytest.approx((LEFT + WIDTH - RIGHT) / 2, abs=0.1)  # 1.0 of 0.6 to 1.4
    assert "chosen: 1</text>" in svg
    assert "plot-mark-middle" in svg


@pytest.mark.parametrize(("best", "side"), [(0.6, "start"), (1.4, "end")])
def test_at_an_end_of_the_axis_the_words_stay_inside(best: float, side: str) -> None:
    scores = [(t, [[0.0, 9.0 if t == best else 1.0]]) for t in (0.6, 1.0, 1.4)]
    assert f"plot-mark-{side}" in by_id(summary(*scores))["plot-sweep"].svg


def test_the_others_stand_by_how_far_they_are_below_with_their_paired_interval() -> None:
    plot = by_id(SWEPT)["plot-below-chosen"]
    # 4 - 2 and 6 - 2: 3, standard error sqrt(2) / sqrt(2) = 1, so 3 - 1.96 to 3 + 1.96.
    assert [row[:3] for row in plot.rows] == [
        ("0.6", "3.00", "1.04 to 4.96"),
        ("1.4", "2.00", "0.04 to 3.96"),
    ]
    assert plot.title == "Best of 5: how far below the chosen temperature"


def test_of_many_temperatures_the_ten_nearest_have_bars() -> None:
    many = summary(*((0.1 * i, [[0.0, float(i)], [0.0, float(i)]]) for i in range(1, 16)))
    plot = by_id(many)["plot-below-chosen"]
    assert [row[0] for row in plot.rows] == [f"{0.1 * i:g}" for i in range(5, 15)]


def test_best_and_median_are_drawn_over_n() -> None:
    plot = by_id(SWEPT)["plot-max-median"]
    assert plot.headers == ("responses per prompt, N", "best", "median")
    assert plot.rows == (("1", "0.5", "0.5"), ("2", "0.8", "0.5"))


def test_without_a_sweep_the_plot_says_so_and_where_to_ask_for_one() -> None:
    plots = by_id({"temperature": 1.2, "curve": CURVE})
    assert list(plots) == ["plot-sweep", "plot-max-median"]
    assert plots["plot-sweep"].rows == ()
    assert plots["plot-sweep"].empty_text == (
        "No temperatures were tried. The responses were drawn at 1.2. "
        "The setting “Sweep temperatures” tries several."
    )
    assert plots_of_sampling({}) == []


def test_while_it_runs_the_temperatures_so_far_are_means_over_their_responses() -> None:
    def row(temperature: float, best: float, count: int) -> dict[str, float]:
        return {
            "sweep_temperature": temperature,
            "sweep_score": best - 1,
            "sweep_best_score": best,
            "sweep_num_responses": count,
        }

    rows = [row(0.8, 1.0, 30), row(0.8, 2.0, 10), row(1.2, 3.0, 30), {"step": 9, "score": 7.0}]
    (plot,) = plots_of_sweep_so_far(rows)
    assert plot.headers == ("temperature", "best of K", "mean")
    assert plot.rows == (("0.8", "1.25", "0.25"), ("1.2", "3", "2"))
    assert plots_of_sweep_so_far(rows[3:]) == []


@pytest.mark.django_db
def test_the_page_of_a_run_shows_the_sweep_the_choice_and_how_sure_it_is(
    lead_client: Client,
) -> None:
    run = finished_run(RunKind.REJECTION_SAMPLING, SWEPT, outputs={"policy": "weights"})
    page = lead_client.get(reverse("run", args=[run.pk])).content.decode()
    for title in ("Best of N by temperature", "Best and median of N responses"):
        assert f"<h3>{title}</h3>" in page
    assert "<dt>Temperature</dt><dd>1</dd>" in page.replace("temperature</dt>", "Temperature</dt>")
    assert "The best of 5 at 1 is 2 above that at 1.4, the second best, on 2 prompts" in page


@pytest.mark.django_db
def test_the_page_of_a_run_without_a_sweep_says_that_none_was_tried(lead_client: Client) -> None:
    run = finished_run(
        RunKind.REJECTION_SAMPLING,
        {"temperature": 1.2, "curve": CURVE},
        outputs={"policy": "weights"},
    )
    page = lead_client.get(reverse("run", args=[run.pk])).content.decode()
    assert "No temperatures were tried. The responses were drawn at 1.2." in page


@pytest.mark.django_db
def test_a_running_sweep_is_drawn_over_temperatures_and_not_over_steps(
    lead_client: Client,
) -> None:
    run, token = running_run(RunKind.REJECTION_SAMPLING)
    rows = [
        {
            "step": step,
            "total_steps": 40,
            "sweep_temperature": temperature,
            "sweep_score": 0.1,
            "sweep_best_score": temperature,
            "sweep_finished_share": 1.0,
            "sweep_num_responses": 64,
        }
        for step, temperature in enumerate((0.8, 1.2), start=1)
    ]
    services.record_metrics(run=run, token=token, rows=rows)
    page = lead_client.get(reverse("run", args=[run.pk])).content.decode()
    assert "<h3>Score by temperature so far</h3>" in page
    assert page.count("<svg class=") == 1
    assert "step 2 of 40" in page
