"""Which plots a run's metrics and result give."""

import pytest

from webapp.run_plots import accuracy_bars, plots_of_metrics, plots_of_result


def titles(rows: list[dict[str, object]]) -> tuple[list[str], list[str]]:
    plots = plots_of_metrics(rows)
    return [plot.title for plot in plots.main], [plot.title for plot in plots.others]


def test_metrics_are_grouped_by_their_names_and_the_rest_is_not_lost() -> None:
    row = {
        "step": 1,
        "total_steps": 9,
        "seconds": 3.0,
        "pairs_per_second": 12.0,
        "policy_loss": 0.1,
        "value_loss": 0.2,
        "reward": 0.3,
        "heldout_reward": 0.25,
        "kl": 1.5,
        "heldout_surprise": 0.5,
        "alarm_surprise": 1.0,
        "accuracy": 0.7,
        "accuracy_better": 0.8,
        "learning_rate": 1e-5,
        "grad_norm": 0.5,
        "clip_fraction": 0.1,
        "something_new": 7,
    }
    main, others = titles([row])
    assert main == [
        "Loss",
        "Reward and score",
        "KL to the reference",
        "Surprise to the reference, nats a token",
        "Accuracy",
        "Accuracy by rating",
    ]
    assert others == [
        "Learning rate",
        "Gradient norm",
        "Clipped share and ratio",
        "Something new",
    ]


def test_words_none_and_truth_values_are_no_metrics() -> None:
    rows = [{"step": 1, "phase": "warm-up", "is_best": True, "loss": None}]
    assert titles(rows) == ([], [])


def test_a_metric_that_is_written_seldom_keeps_its_own_steps() -> None:
    rows = [
        {"step": s, "reward": s, **({"heldout_reward": s} if s % 2 == 0 else {})} for s in range(5)
    ]
    (plot,) = plots_of_metrics(rows).main
    assert plot.headers == ("step", "heldout reward", "reward")
    assert [row[1] for row in plot.rows] == ["0", "", "2", "", "4"]


def test_phases_beside_their_floors_are_one_plot_whose_lines_bear_their_names() -> None:
    row = {"step": 1, "floor_share_generate": 0.2, "floor_share_score": 0.5, "seconds_score": 1.0}
    (plot,) = plots_of_metrics([row]).others
    assert plot.title == "Share of the machine's floor by phase"
    assert plot.headers == ("step", "generate", "score")


def test_more_than_five_lines_go_on_in_a_second_plot() -> None:
    row = {"step": 1, **{f"part{n}_loss": n for n in range(7)}}
    main, _ = titles([row])
    assert main == ["Loss", "Loss"]


def test_accuracy_bars_come_in_the_order_of_the_ratings_and_skip_empty_groups() -> None:
    report = {
        "negligibly_better": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 1200},
        "overall": {"value": 0.7, "low": 0.6, "high": 0.8, "n": 2000},
        "better": {"value": None, "low": 0.0, "high": 1.0, "n": 0},
        "unrated": {"value": 0.6, "low": 0.5, "high": 0.7, "n": 3},
    }
    bars = [(bar.label, bar.value, bar.note) for bar in accuracy_bars(report)]
    assert bars == [("overall", 0.7, "2,000"), ("negligibly", 0.5, "1,200"), ("unrated", 0.6, "3")]


@pytest.mark.parametrize("summary", [None, {}, {"loss": 1.0}, {"accuracy": None}])
def test_a_result_without_figures_gives_no_plots(summary: dict[str, object] | None) -> None:
    assert plots_of_result(summary) == []
