"""Where a job runs, as options say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, model_validator

from noisydask.lazily import Lazy
from noisydask.options import CLUSTER, Options, Whole, option

if TYPE_CHECKING:
    from dask import utils
    from distributed import comm
else:
    comm = Lazy("distributed.comm")
    utils = Lazy("dask.utils")

#: A worker of less dies of its own packages, again and again.
LEAST_MEMORY = 250_000_000


def _address(text: str) -> str:
    """Return an address, checked as far as can be told without asking there."""
    try:
        comm.get_address_host(text)
    except (ValueError, KeyError):
        raise ValueError("is not the address of a scheduler, such as tcp://10.0.0.1:8786") from None
    return text


def _memory(value: Any) -> Any:
    """Return a size as Dask's workers take it: bytes, with a unit or without, a share of the
    machine's, auto, or 0 for no limit.
    """
    text = str(value)
    if text in ("auto", "0"):
        return text
    try:
        if 0 < float(text) <= 1:
            return text
    except ValueError:
        pass
    try:
        size = utils.parse_bytes(text)
    except (ValueError, OverflowError):
        raise ValueError("is not a size, such as 4GiB, nor auto, nor 0 for no limit") from None
    if size < LEAST_MEMORY:
        raise ValueError(
            f"a worker needs at least {LEAST_MEMORY // 10**6} MB; give a size such as 4GiB"
        )
    return text


class ClusterConfig(Options):
    """Where to run: a scheduler that is there, by address or file, or workers of our own on this
    machine.
    """

    scheduler: Annotated[str, AfterValidator(_address)] | None = option(
        None, help="Address of a running Dask scheduler.", panel=CLUSTER
    )
    scheduler_file: str | None = option(
        None, help="File that names a running Dask scheduler.", panel=CLUSTER
    )
    workers: Whole | None = option(
        None, help="Worker processes to start here [one a core].", panel=CLUSTER, ge=1
    )
    threads_per_worker: Whole = option(1, help="Threads of each of them.", panel=CLUSTER, ge=1)
    memory_limit: Annotated[str, BeforeValidator(_memory)] = option(
        "auto", help="Memory of each of them, such as 4GiB.", panel=CLUSTER
    )
    tls_ca_file: str | None = option(
        None, help="Certificate authority of a scheduler that speaks TLS.", panel=CLUSTER
    )
    tls_client_cert: str | None = option(None, help="Our certificate for it.", panel=CLUSTER)
    tls_client_key: str | None = option(None, help="Our key for it.", panel=CLUSTER)

    @model_validator(mode="after")
    def _one_way(self) -> ClusterConfig:
        ways = [self.scheduler, self.scheduler_file, self.workers]
        if sum(way is not None for way in ways) > 1:
            raise ValueError("give one of scheduler, scheduler_file and workers")
        tls = [self.tls_ca_file, self.tls_client_cert, self.tls_client_key]
        if any(tls) and not (all(tls) and (self.scheduler or self.scheduler_file)):
            raise ValueError(
                "tls_ca_file, tls_client_cert and tls_client_key go together, with a scheduler"
            )
        return self
