"""The jobs that there are, by registration: what a run, a command and a night know of them.

A job is one value here. Its parts are named as ``module:name`` and imported when they are first
used: a command that answers at once imports no other job's machinery, and no room below a job
imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class JobKind:
    """A job.

    Attributes
    ----------
    name : str
        Name of the job in manifests, configurations and on the command line.
    function, options, result, view : str
        The function that runs it, the model of its options, the class of its results, and the
        module that shows them.
    ranked : str
        Count of a manifest that says how many rows its ranking has.
    ranks_all : bool
        Whether the ranking is one of all examples, of which the first are compared; else it holds
        what was found.
    compared : tuple of str
        Columns of the ranking by which two runs are compared.
    folders : tuple of str
        Folders of a run in which it writes Parquet parts.
    checkpoint : str, optional
        Folder of the output in which it keeps what it read, for the next run.
    beside : tuple of str
        Other folders of the output in which it does.
    reads : tuple of str
        Jobs whose outputs it reads; its options for them have their names.
    """

    name: str
    function: str
    options: str
    result: str
    view: str
    ranked: str
    ranks_all: bool
    compared: tuple[str, ...]
    folders: tuple[str, ...]
    checkpoint: str | None = None
    beside: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()

    def load(self, part: str) -> Any:
        """Import a part: ``function``, ``options``, ``result`` or ``view``."""
        module, _, name = getattr(self, part).partition(":")
        imported = import_module(module)
        if name:
            return getattr(imported, name)
        return imported

    def call(self, **options: Any) -> Any:
        """Run the job; return its results."""
        function: Callable[..., Any] = self.load("function")
        return function(**options)


_ALL = (
    JobKind(
        "issues",
        function="noisydask.issues.find:find_label_issues",
        options="noisydask.issues.options:IssuesConfig",
        result="noisydask.issues.results:LabelIssues",
        view="noisydask.report.issues",
        ranked="issues",
        ranks_all=False,
        compared=("index", "id", "rank", "given_label", "suggested_label", "label_quality"),
        folders=("issues", "ids", "scratch", "changes"),
        checkpoint="evidence",
        beside=("evidence-models",),
    ),
    JobKind(
        "dynamics",
        function="noisydask.dynamics.analyze:analyze_loss_dynamics",
        options="noisydask.dynamics.options:DynamicsConfig",
        result="noisydask.dynamics.results:LossDynamics",
        view="noisydask.report.dynamics",
        ranked="candidates",
        ranks_all=True,
        compared=("index", "id", "subset", "ann_id", "rank", "metric"),
        folders=("candidates", "losses", "changes"),
        checkpoint="evidence-dynamics",
    ),
    JobKind(
        "combine",
        function="noisydask.consensus.combine:combine",
        options="noisydask.consensus.options:CombineConfig",
        result="noisydask.consensus.results:Consensus",
        view="noisydask.report.consensus",
        ranked="ranked",
        ranks_all=True,
        compared=("index", "id", "rank", "consensus"),
        folders=("candidates", "scratch", "changes"),
        reads=("issues", "dynamics"),
    ),
)
#: All jobs by name, in the order in which a night does them.
JOBS = {kind.name: kind for kind in _ALL}
