"""Works out `reference.json` with irrCAC, krippendorff and crowd-kit.

They would pull other versions of numpy and pandas into the environment, so this runs in its own:

    python -m venv oracle && oracle/bin/pip install irrCAC==0.4.4 krippendorff==0.9.0 scikit-learn
    oracle/bin/pip install --no-deps crowd-kit==1.4.2 && oracle/bin/pip install attrs tqdm nltk
    CONCORD_DATA=... PYTHONPATH=. oracle/bin/python tests/annotation/quality/oracle.py
"""

import importlib.util
import json
from pathlib import Path
from typing import Any

import krippendorff
import numpy as np
import pandas as pd
from crowdkit.aggregation import OneCoinDawidSkene
from irrCAC.raw import CAC

HERE = Path(__file__).parent
WEIGHTINGS = (
    "identity", "linear", "quadratic", "ordinal", "radical", "ratio", "circular", "bipolar",
)  # fmt: skip
METRICS = ("nominal", "ordinal", "interval")


def load(name: str) -> Any:
    """Return a module beside this file; `tests` itself would load Django."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def figures(case: Any) -> dict[str, Any]:
    triples = case.first_of_each_person()
    frame = pd.DataFrame(triples, columns=["task", "worker", "label"])
    table = frame.pivot_table(index="task", columns="worker", values="label", aggfunc="first")
    categories = list(range(1, case.num_categories + 1))
    gwet = {}
    for name in WEIGHTINGS:
        cac = CAC(table + 1.0, weights=name, categories=categories, digits=15)
        est = cac.gwet()["est"]
        gwet[name] = [est["coefficient_value"], *est["confidence_interval"], est["pa"], est["pe"]]
    counts = np.zeros((len(table), case.num_categories), dtype=int)
    places = {task: row for row, task in enumerate(table.index)}
    for task, _, label in triples:
        counts[places[task], label] += 1
    alphas = {
        name: krippendorff.alpha(
            value_counts=counts, value_domain=categories, level_of_measurement=name
        )
        for name in METRICS
    }
    shared = frame.groupby("task")["worker"].transform("count") >= 2
    model = OneCoinDawidSkene(n_iter=load("oracle_steps").STEPS, tol=-np.inf).fit(frame[shared])
    competence = {str(name): float(skill) for name, skill in model.skills_.items()}
    return {
        "num_judgements": len(triples),
        "gwet": {name: [float(value) for value in row] for name, row in gwet.items()},
        "krippendorff": {name: float(value) for name, value in alphas.items()},
        "competence": competence,
    }


if __name__ == "__main__":
    module = load("cases")
    every = {**module.cases(), **{name: module.set_case(name) for name in module.SET_NAMES}}
    reference = {name: figures(case) for name, case in every.items()}
    (HERE / "reference.json").write_text(json.dumps(reference, indent=1, sort_keys=True) + "\n")
