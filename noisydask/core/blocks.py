"""Rows become blocks, blocks become tasks: integers only.

A *block* is a run of whole rows, aligned to the chunks of the store, small enough that a worker can
hold a few. The grid of blocks depends on the shape of the data and ``block_bytes`` alone, never on
the number of rows or workers, so that the evidence of a dataset that grows keeps its place. A
*task* takes a range of blocks, so that it is worth seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from noisydask.errors import InputError

#: Rows a single call of the kernel takes at most, so that its fixed-point sums stay inside 63 bits.
MAX_ROWS = 1 << 22
#: Decoded bytes of a block: its rows of ``pred_probs`` with their labels and evidence.
DEFAULT_BLOCK_BYTES = 128 * 1024**2
#: Bytes of labels and evidence that a row needs beside its probabilities.
ROW_OVERHEAD = 40
#: What a worker holds at most of a block while it works on it: decoded, being decoded, evidence.
BLOCKS_IN_MEMORY = 3
#: Blocks of a dataset at most: more than a scheduler can plan, so a sign of a header that lies.
MAX_BLOCKS = 10_000_000
_BLOCKS_PER_TASK = 16


@dataclass(frozen=True)
class BlockGrid:
    """How ``rows`` examples are cut into blocks of ``block_rows`` (the last may be shorter)."""

    rows: int
    block_rows: int
    row_bytes: int

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return -(-self.rows // self.block_rows)

    @property
    def block_bytes(self) -> int:
        """Bytes of a full block, decoded."""
        return self.block_rows * self.row_bytes

    def bounds(self, block: int) -> tuple[int, int]:
        """Return the first row of a block and the row after its last.

        Examples
        --------
        >>> BlockGrid(rows=25, block_rows=10, row_bytes=48).bounds(2)
        (20, 25)
        """
        start = block * self.block_rows
        return start, min(start + self.block_rows, self.rows)


def plan_blocks(
    rows: int, row_bytes: int, chunk_rows: int, block_bytes: int = DEFAULT_BLOCK_BYTES
) -> BlockGrid:
    """Cut rows into blocks of at most ``block_bytes``, but never less than one chunk.

    Parameters
    ----------
    rows : int
        Number of examples.
    row_bytes : int
        Bytes of one row of ``pred_probs``, decoded.
    chunk_rows : int
        Rows of a chunk (or shard) of the store; 1 where there are none.
    block_bytes : int
        Bytes wanted, decoded.

    Raises
    ------
    InputError
        If there would be more than :data:`MAX_BLOCKS`.

    Examples
    --------
    >>> plan_blocks(1_000_000, 4_000, 4_000).block_rows
    32000
    >>> plan_blocks(1_000_000, 4_000, 50_000).block_rows
    50000
    """
    full = row_bytes + ROW_OVERHEAD
    fitting = max(1, block_bytes // full)
    block_rows = max(chunk_rows, fitting // chunk_rows * chunk_rows)
    grid = BlockGrid(rows, block_rows, full)
    if grid.num_blocks > MAX_BLOCKS:
        raise InputError(
            f"{rows:,} rows of {row_bytes:,} bytes are {grid.num_blocks:,} blocks, more than "
            f"{MAX_BLOCKS:,}:"
            " is the array's header right? If it is, raise block_bytes"
        )
    return grid


def plan_tasks(num_blocks: int, slots: int, per_slot: int) -> tuple[int, ...]:
    """Return blocks that each task takes: about ``per_slot`` tasks for each of ``slots`` threads,
    but never more than 16 blocks; two where each thread has two such tasks or more, so that one
    block is read while the other is written. All threads have as many tasks, the larger ones first.

    Examples
    --------
    >>> plan_tasks(13, 2, 2)
    (4, 3, 3, 3)
    >>> plan_tasks(9, 2, 32)
    (2, 2, 2, 1, 1, 1)
    >>> len(plan_tasks(100_000, 8, 2))
    6256
    """
    least = 2 if num_blocks >= 4 * slots else 1
    each = max(least, min(_BLOCKS_PER_TASK, -(-num_blocks // (per_slot * slots))))
    tasks = -(-num_blocks // each)
    tasks = max(1, min(num_blocks, -(-tasks // slots) * slots))
    each, more = divmod(num_blocks, tasks)
    return (each + 1,) * more + (each,) * (tasks - more if each else 0)
