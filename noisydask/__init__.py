"""noisydask: find mislabeled examples in classification data of any size, on Dask.

The program reads predicted probabilities once, keeps a few numbers of each row as evidence, and
answers everything that confident learning asks from them, exactly. Names are imported when they are
first used: the command is to answer at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from noisydask.errors import (
    DatasetError,
    GateError,
    InputError,
    JobError,
    LabelWarning,
    LockedError,
    NoisydaskError,
)

if TYPE_CHECKING:
    from noisydask.compat.cleanlab import LabelInspector, find_label_issues_batched
    from noisydask.compat.datumaro import LossDynamicsAnalyzer, NoisyLabelCandidate
    from noisydask.consensus.combine import combine
    from noisydask.consensus.results import Consensus
    from noisydask.dynamics.analyze import analyze_loss_dynamics
    from noisydask.dynamics.recorder import LossRecorder
    from noisydask.dynamics.results import LossDynamics
    from noisydask.engine.progress import ProgressBar, ProgressLog
    from noisydask.issues.find import find_label_issues
    from noisydask.issues.results import LabelIssues
    from noisydask.predictions.convert import convert
    from noisydask.predictions.finishing import FinishedPredictions, finish_predictions
    from noisydask.predictions.writer import PredictionWriter
    from noisydask.runs.opening import list_runs, open_run

    __version__: str

#: Other public names, by the module in which they are.
_MODULES = {
    "consensus.combine": ["combine"],
    "consensus.results": ["Consensus"],
    "compat.cleanlab": ["LabelInspector", "find_label_issues_batched"],
    "compat.datumaro": ["LossDynamicsAnalyzer", "NoisyLabelCandidate"],
    "issues.find": ["find_label_issues"],
    "issues.results": ["LabelIssues"],
    "dynamics.analyze": ["analyze_loss_dynamics"],
    "dynamics.recorder": ["LossRecorder"],
    "dynamics.results": ["LossDynamics"],
    "engine.progress": ["ProgressBar", "ProgressLog"],
    "predictions.convert": ["convert"],
    "predictions.finishing": ["FinishedPredictions", "finish_predictions"],
    "predictions.writer": ["PredictionWriter"],
    "runs.opening": ["list_runs", "open_run"],
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Consensus",
    "DatasetError",
    "FinishedPredictions",
    "GateError",
    "InputError",
    "JobError",
    "LabelInspector",
    "LabelIssues",
    "LabelWarning",
    "LockedError",
    "LossDynamics",
    "LossDynamicsAnalyzer",
    "LossRecorder",
    "NoisyLabelCandidate",
    "NoisydaskError",
    "PredictionWriter",
    "ProgressBar",
    "ProgressLog",
    "analyze_loss_dynamics",
    "combine",
    "convert",
    "find_label_issues",
    "find_label_issues_batched",
    "finish_predictions",
    "list_runs",
    "open_run",
]


def __getattr__(name: str) -> Any:
    """Import a public name."""
    if name == "__version__":
        return import_module("importlib.metadata").version("noisydask")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'noisydask' has no attribute {name!r}")
    return getattr(import_module(f"noisydask.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
