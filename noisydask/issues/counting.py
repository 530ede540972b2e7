"""The count of the main job, run by its client: issues and joint from the evidence, and from blocks
that are read again where it leaves rows open.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from noisydask.engine.tasks import run_over_all
from noisydask.issues import passes
from noisydask.issues.evidence import StoredBlock
from noisydask.issues.models import ModelsScan
from noisydask.issues.passes import CountState, Scoring
from noisydask.issues.scan import Scan, Scanned
from noisydask.text import counted


@dataclass(frozen=True)
class Counted:
    """What was counted: of all examples; all blocks as they are stored; how many were read again.

    Attributes
    ----------
    state : CountState
        The counts.
    stored : list of StoredBlock
        All blocks, by number.
    blocks_again : int
        Blocks that were read again.
    """

    state: CountState
    stored: list[StoredBlock]
    blocks_again: int


def count(scan: Scan | ModelsScan, scoring: Scoring, scanned: Scanned) -> Counted:
    """Count all blocks; read again those with rows that neither the evidence nor what was kept of
    them decides.
    """
    scan.reporter.phase("counting from the evidence")
    data = scan.data
    blocks = {stored.number: stored for stored in scanned.stored}
    task = partial(passes.count, data=data, scoring=scoring)
    state: CountState = run_over_all("count", task, [blocks[number] for number in sorted(blocks)])
    if damaged := sorted(state.damaged):
        # Their receipts vouch for their class totals, not for what has become of their evidence
        # since.
        anew = scan.again(damaged).stored
        more = run_over_all("count", task, anew)
        if more.damaged:
            raise passes.evidence_changed(more.damaged[0], data)
        blocks |= {stored.number: stored for stored in anew}
        state += more
    again = tuple(sorted(state.unresolved))
    if again:
        scan.reporter.phase(f"reading {counted(len(again), 'block')} again to resolve rows")
        resolve = partial(passes.resolve, data=data, scoring=scoring)
        state += scan.rereading.run("resolve", resolve, [blocks[number] for number in again])
    return Counted(state, [blocks[number] for number in sorted(blocks)], len(again))
