"""noisydask: find mislabeled examples in classification data of any size, on Dask.

The program reads predicted probabilities once, keeps a few numbers of each row as evidence, and
answers everything that confident learning asks from them, exactly.
"""

from importlib.metadata import version

from noisydask.combined.combine import combine
from noisydask.combined.consensus import Consensus
from noisydask.compat.cleanlab import LabelInspector, find_label_issues_batched
from noisydask.compat.datumaro import LossDynamicsAnalyzer, NoisyLabelCandidate
from noisydask.errors import (
    DatasetError,
    GateError,
    InputError,
    JobError,
    LockedError,
    NoisydaskError,
)
from noisydask.issues.find import find_label_issues
from noisydask.issues.results import LabelIssues
from noisydask.losses.analyze import analyze_loss_dynamics
from noisydask.losses.recorder import LossRecorder
from noisydask.losses.results import LossDynamics
from noisydask.running.progress import ProgressBar, ProgressLog
from noisydask.runs import list_runs, open_run

__version__ = version("noisydask")

__all__ = [
    "Consensus",
    "DatasetError",
    "GateError",
    "InputError",
    "JobError",
    "LabelInspector",
    "LabelIssues",
    "LockedError",
    "LossDynamics",
    "LossDynamicsAnalyzer",
    "LossRecorder",
    "NoisyLabelCandidate",
    "NoisydaskError",
    "ProgressBar",
    "ProgressLog",
    "analyze_loss_dynamics",
    "combine",
    "find_label_issues",
    "find_label_issues_batched",
    "list_runs",
    "open_run",
]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
