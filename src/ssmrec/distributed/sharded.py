"""Matrix factorisation whose rows are divided among processes, by TorchRec's row-wise sharding."""

from __future__ import annotations

import logging
import warnings
from importlib import import_module
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ssmrec.data import Interactions
from ssmrec.distributed.place import Place
from ssmrec.distributed.rows import bounds
from ssmrec.errors import ConfigError
from ssmrec.models import MF, Backbone, Vectors
from ssmrec.models.mf import MFConfig

_CHUNK = 1 << 16
"""Rows drawn at once, of which a process keeps its own: the start is that of one process."""


class ShardedMF(Backbone):
    """As `MF`, but each process holds 1 / size of the rows, their gradient and their moments.

    Node k lies in process k mod size, so that users and items are spread evenly. Each process looks up
    its part of a batch's distinct rows, from whoever holds them, and gets the parts of the others
    with gradients. Adam moves all rows where they lie: the numbers are those of replicated tables.

    Args:
        place: of this process. device: where its rows are held.
    """

    Config = MFConfig

    def __init__(
        self,
        config: Any,
        train: Interactions,
        generator: torch.Generator,
        place: Place,
        device: torch.device,
    ) -> None:
        super().__init__(config, train, generator)
        self.place, self.dim = place, config.dim
        self.held = -(-(train.n_users + train.n_items) // place.size)
        lookup, self.shard = _row_wise(self.held * place.size, config.dim, place, device)
        self.lookup = (lookup,)  # hidden from torch: its parameter is `shard`
        with torch.no_grad():
            self._begin((train.n_users, train.n_items), generator)

    def vectors(self, users: Tensor | None = None, items: Tensor | None = None) -> Vectors:
        nodes, cut = self._nodes(users, items)
        part = bounds(len(nodes), self.place.rank, self.place.size)
        count = part.stop - part.start  # TorchRec cannot be asked for nothing
        mine = self._asked(nodes[part] if count else nodes[:1])[:count]
        rows = Gathered.apply(mine, len(nodes), self.place)
        user_rows, item_rows = rows[:cut], rows[cut:]  # type: ignore[index]
        return Vectors(user_rows, item_rows, user_rows, item_rows)

    def whole(self, train: Interactions) -> MF:
        """The same model with its whole table, in this process; all must call it."""
        with torch.no_grad():
            vectors = self.vectors()
        model = MF(self.config, train, torch.Generator())
        model.load_state_dict({"table": torch.cat([vectors.users, vectors.items]).cpu()})
        return model

    def _asked(self, nodes: Tensor) -> Tensor:
        at = nodes % self.place.size * self.held + nodes // self.place.size
        ones = torch.ones(len(at), dtype=torch.int32, device=at.device)
        return self.lookup[0](_part("torchrec").KeyedJaggedTensor(["node"], at, lengths=ones))[
            "node"
        ].values()

    def _begin(self, sides: tuple[int, int], generator: torch.Generator) -> None:
        """Xavier's start of `initial_table`, of the rows held here."""
        held, first = self.shard.view(self.held, self.dim), 0
        for size in sides:
            bound = (6 / (size + self.dim)) ** 0.5
            for start in range(0, size, _CHUNK):
                count = min(_CHUNK, size - start)
                drawn = torch.empty(count, self.dim).uniform_(-bound, bound, generator=generator)
                nodes = torch.arange(first + start, first + start + count)
                mine = nodes % self.place.size == self.place.rank
                held[nodes[mine] // self.place.size] = drawn[mine].to(held.device)
            first += size


class Gathered(torch.autograd.Function):
    """`apply(rows, count, place)` -> (count, d): the parts of all processes, in their order.

    The gradient of the whole must be the same in every process (`Summing` sees to that); each takes
    its part of it.
    """

    @staticmethod
    def forward(ctx, rows: Tensor, count: int, place: Place):  # type: ignore[override]
        ctx.part = bounds(count, place.rank, place.size)
        out = rows.new_empty(count, rows.shape[1])
        out[ctx.part] = rows
        for rank in range(place.size):
            part = out[bounds(count, rank, place.size)]
            if len(part):
                dist.broadcast(part, rank)
        return out

    @staticmethod
    def backward(ctx, *grads: Tensor):  # type: ignore[override]
        return grads[0][ctx.part].contiguous(), None, None


def _row_wise(
    rows: int, dim: int, place: Place, device: torch.device
) -> tuple[nn.Module, nn.Parameter]:
    """TorchRec's collection of one table of `rows`, and the part of it that is held here, (held * dim,)."""
    kernels = _part("fbgemm_gpu.split_table_batched_embeddings_ops_training")
    rec, plans = _part("torchrec"), _part("torchrec.distributed.sharding_plan")
    sharder = _part("torchrec.distributed.embedding").EmbeddingCollectionSharder()
    env = _part("torchrec.distributed.types").ShardingEnv.from_process_group(dist.group.WORLD)
    # Gradients are sums here, not means over processes.
    _part("torchrec.distributed.comm_ops").set_gradient_division(False)
    logging.getLogger("torchrec").setLevel(logging.ERROR)  # nothing a user could act on
    logging.getLogger("torch.fx").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="fbgemm::dense_embedding_codegen_lookup_function")
    table = rec.EmbeddingConfig(
        name="node", embedding_dim=dim, num_embeddings=rows, feature_names=["node"]
    )
    plain = rec.EmbeddingCollection(tables=[table], device=torch.device("meta"))
    plan = plans.construct_module_sharding_plan(
        plain, {"node": plans.row_wise(compute_kernel="dense")}, sharder=sharder,
        local_size=place.local_size, world_size=place.size, device_type=device.type,
    )  # fmt: skip
    lookup = sharder.shard(plain, plan, env, device)
    (kernel,) = (
        module
        for member in lookup._lookups  # a plain list, which torch does not look into
        for module in member.modules()
        if isinstance(module, kernels.DenseTableBatchedEmbeddingBagsCodegen)
    )
    kernel.register_forward_pre_hook(_one_id_a_row, with_kwargs=True)
    return lookup, kernel.weights


def _part(name: str) -> Any:
    """A module of TorchRec or of its kernels.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"distributed.tables=sharded needs TorchRec ({error}): `make distributed-cpu`, or "
            "`pip install 'ssmrec[distributed]'` on a GPU"
        ) from None


def _one_id_a_row(_: nn.Module, args: tuple[Any, ...], words: dict[str, Any]):  # type: ignore[no-untyped-def]
    """fbgemm's dense kernel for the CPU gives a row to empty places as well: leave them out."""
    ids = words["indices"]
    return args, {**words, "offsets": torch.arange(len(ids) + 1, device=ids.device)}
