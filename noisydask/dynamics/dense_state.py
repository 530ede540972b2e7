"""What a run on dense losses leaves of each block for the next: states and sums after its
iterations, and a receipt.

``OUT/evidence-dynamics`` is the checkpoint: a job that was killed goes on from the blocks that have
a receipt, and appended iterations cost their columns only. Where the last chunk of the iterations
is not full, states are kept twice: after all iterations, and (``kept_...``) after those that end a
chunk, since that chunk is written again when iterations are added.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.checkpoint.block_store import (
    CROSSINGS,
    RECEIPTS,
    ROWS,
    SUMS,
    BlockStore,
    crossings_name,
    kind_of,
    open_arrays,
    receipt_name,
    sums_name,
)
from noisydask.core.blocks import BlockGrid
from noisydask.core.curve_sums import CurveSums
from noisydask.core.dynamics import ExampleStates
from noisydask.core.loss_receipts import (
    DIGEST_BYTES,
    STATE_VERSION,
    BlockSums,
    LossReceipt,
    LossSource,
)
from noisydask.core.receipts import Why
from noisydask.stores.chunks import ChunkedArray, checksum
from noisydask.stores.fingerprints import Snapshot, digest
from noisydask.stores.locations import Location

Ints = npt.NDArray[np.int64]

_KEPT = "kept_"


@dataclass(frozen=True)
class Known:
    """What stands of a block: states and sums after its first iterations, losses of candidates by
    position, and how many losses were left out as invalid.
    """

    iterations: int
    states: ExampleStates
    sums: CurveSums
    rows: Mapping[int, npt.NDArray[Any]]
    invalid: int


@dataclass(frozen=True)
class StateStore(BlockStore):
    """States of all examples, and what goes with them, by blocks.

    Attributes
    ----------
    width : int
        Iterations of a chunk of the losses.
    """

    width: int

    def write_states(self, block: int, states: ExampleStates, kept: bool = False) -> dict[str, str]:
        """Store a block's states, after all iterations or those that end a chunk; the checksums of
        their columns.
        """
        return self.write(
            block, {_name(name, kept): column for name, column in states.columns().items()}
        )

    def read_states(self, block: int) -> ExampleStates:
        """Fetch a block's states after all iterations."""
        columns: dict[str, Any] = self.read(block, ExampleStates.dtypes(np.float32))
        return ExampleStates(**columns)

    def write_receipt(self, block: int, receipt: LossReceipt, sums: BlockSums) -> None:
        """Vouch for a block whose states are stored."""
        content = sums.to_bytes()
        self.put(sums_name(block), content)
        self.put(
            receipt_name(block),
            replace(receipt, checksums={**receipt.checksums, SUMS: checksum(content)}).to_bytes(),
        )

    def write_crossings(self, block: int, key: str, rows: Ints, found: Ints) -> None:
        """Keep where rows of a block cross a curve; ``key`` is the digest of the losses and the
        curve.
        """
        content = key.encode() + np.stack([rows, found]).astype("<i4").tobytes()
        self.put(crossings_name(block), checksum(content).encode() + content)

    def read_crossings(self, block: int, key: str, rows: Ints) -> Ints | None:
        """Where rows of a block, ascending, cross a curve, if that was kept of all of them."""
        content = self.get(crossings_name(block)) or b""
        if (
            content[:8] != checksum(content[8:]).encode()
            or content[8 : 8 + len(key)] != key.encode()
        ):
            return None
        known, found = np.frombuffer(content[8 + len(key) :], "<i4").reshape(2, -1)
        if not len(known):
            return None
        where = np.minimum(np.searchsorted(known, rows), len(known) - 1)
        return found[where].astype(np.int64) if (known[where] == rows).all() else None

    def write_rows(self, names: Sequence[tuple[int, str]], losses: npt.NDArray[Any]) -> None:
        """Keep all losses of candidates, by their indices and the digests of what their blocks lie
        in.
        """
        buffer, (index, sources) = io.BytesIO(), zip(*names, strict=True)
        np.savez(buffer, index=np.array(index), sources=np.array(sources), losses=losses)
        self.put(ROWS, checksum(buffer.getvalue()).encode() + buffer.getvalue())

    def read_rows(self) -> dict[tuple[int, str], npt.NDArray[Any]]:
        """What :meth:`write_rows` kept, by index and digest."""
        content = self.get(ROWS) or b""
        if not content or content[:8] != checksum(content[8:]).encode():
            return {}
        with np.load(io.BytesIO(content[8:]), allow_pickle=False) as found:
            return dict(
                zip(
                    zip(found["index"].tolist(), found["sources"].tolist(), strict=True),
                    found["losses"],
                    strict=True,
                )
            )

    def recall(
        self, source: LossSource, labels: str, rows: int, iterations: int
    ) -> tuple[Known | None, Why]:
        """What still stands of a block, if anything, and why the rest is to be read."""
        content = self.get(receipt_name(source.number)) if source.receipt else None
        receipt = LossReceipt.from_bytes(content) if content is not None else None
        if receipt is None:
            return None, source.why
        stages, why = receipt.stands(source, labels, rows, iterations, self.width)
        sums = self._sums(source.number, receipt) if stages else None
        for stage in stages if sums is not None else ():
            states = self._states(source.number, receipt, stage)
            if states is not None and sums is not None:
                known = dict(zip(sums.index.tolist(), sums.losses[:, :stage], strict=True))
                whole = stage == receipt.iterations
                invalid = receipt.invalid if whole else receipt.kept_invalid
                return Known(stage, states, sums.sums.columns(0, stage), known, invalid), why
        return None, Why.DAMAGED if stages else why

    def complete(self, source: LossSource) -> bool:
        """Whether the receipt of a block is of what there is to be read."""
        content = self.get(receipt_name(source.number))
        receipt = (
            LossReceipt.from_bytes(content) if content is not None and source.prefixes else None
        )
        return receipt is not None and receipt.source == source.whole

    def _sums(self, block: int, receipt: LossReceipt) -> BlockSums | None:
        content = self.get(sums_name(block))
        return (
            BlockSums.from_bytes(content)
            if content is not None and checksum(content) == receipt.checksums[SUMS]
            else None
        )

    def _states(self, block: int, receipt: LossReceipt, iterations: int) -> ExampleStates | None:
        names = {
            name: _name(name, iterations != receipt.iterations)
            for name in ExampleStates.dtypes(np.float32)
        }
        found = self.read_checked(block, names.values(), receipt.checksums)
        if found is None:
            return None
        columns: dict[str, Any] = {name: np.array(found[stored]) for name, stored in names.items()}
        return ExampleStates(**columns)


def _name(column: str, kept: bool) -> str:
    return f"{_KEPT}{column}" if kept else column


def open_states(
    root: Location,
    grid: BlockGrid,
    dtype: np.dtype[Any],
    kind: Mapping[str, Any],
    width: int,
    twice: bool,
    fresh: bool,
) -> tuple[StateStore, BlockGrid, str | None]:
    """Make room for the states of all rows, and keep what is there if it is of this kind.

    Parameters
    ----------
    root : Location
        Their folder.
    grid : BlockGrid
        The blocks. Their rows depend on the number of iterations; those of what is there are taken
        over, so that appended iterations find their states.
    dtype : dtype
        Type of the losses.
    kind : mapping
        What else all blocks depend on.
    width : int
        Iterations of a chunk of the losses.
    twice : bool
        Whether states after those iterations are wanted that end a chunk.
    fresh : bool
        Keep nothing.

    Returns
    -------
    StateStore, BlockGrid, str or None
        The store, the blocks, and why what was there was not kept, if anything was.
    """
    kind = {"dynamics_version": STATE_VERSION, "dtype": str(dtype), **kind}
    found = kind_of(root) or {}
    block_rows = found.get("block_rows")
    if (
        isinstance(block_rows, int)
        and block_rows > 0
        and all(found.get(name) == kind[name] for name in kind)
        and not fresh
    ):
        grid = replace(grid, block_rows=block_rows)
    chunk_rows = min(grid.block_rows, grid.rows)
    whole = {**kind, "block_rows": grid.block_rows, "chunk_rows": chunk_rows}
    arrays = {
        _name(name, kept): ChunkedArray(root, _name(name, kept), (grid.rows,), chunk_rows, kinds)
        for name, kinds in ExampleStates.dtypes(dtype).items()
        for kept in (False, True)
    }
    wanted = {name: array for name, array in arrays.items() if twice or not name.startswith(_KEPT)}
    why = open_arrays(root, wanted, whole, fresh, [RECEIPTS, SUMS, CROSSINGS])
    return StateStore(root, arrays, width), grid, why


def loss_sources(
    snapshot: Snapshot | None,
    grid: BlockGrid,
    iterations: Ints,
    alpha: float,
    receipts: set[int],
    why: Why,
) -> Iterator[LossSource]:
    """Describe all blocks; without a snapshot by their numbers only."""
    if snapshot is None:
        yield from (LossSource(block, why=why) for block in range(grid.num_blocks))
        return
    rows, objects = snapshot.rows, snapshot.objects or {}
    width = chunk_width(rows)
    here = [iterations[low : low + width].tolist() for low in range(0, len(iterations), width)]
    common = digest(STATE_VERSION, rows.layout, str(rows.dtype), alpha)
    for block in range(grid.num_blocks):
        start, stop = grid.bounds(block)
        lies_in: list[list[Any]] = [[] for _ in here]
        for chunk in rows.chunks(start, stop):
            lies_in[chunk.rest[0].start // width if chunk.rest else 0].append(
                (chunk.key, objects.get(chunk.key))
            )
        state, prefixes = (
            blake2b(repr((common, start, stop)).encode(), digest_size=DIGEST_BYTES),
            [],
        )
        for column in zip(here, lies_in, strict=True):
            state.update(repr(column).encode())
            prefixes.append(state.digest())
        yield LossSource(block, b"".join(prefixes), block in receipts, why)


def chunk_width(rows: Any) -> int:
    """Iterations that the store keeps together."""
    return int(getattr(rows, "chunk_columns", 0) or rows.shape[1])
