"""Matrix factorisation whose rows are divided among processes, by TorchRec's row-wise sharding."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from importlib import import_module
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ssmrec.data import Interactions
from ssmrec.distributed.fit import lacking
from ssmrec.distributed.place import Place
from ssmrec.distributed.rows import bounds
from ssmrec.errors import ConfigError
from ssmrec.models import Backbone, Vectors
from ssmrec.models.mf import MFConfig
from ssmrec.storage.tensors import Rows, Slices, Stored


class ShardedMF(Backbone):
    """As `MF`, but each process holds 1 / size of the rows, their gradient and their moments.

    Node k lies in process k mod size, so that users and items are spread evenly. Each process looks up
    its part of a batch's distinct rows, from whoever holds them, and gets the parts of the others
    with gradients. Adam moves all rows where they lie: the numbers are those of replicated tables.

    Args:
        place: of this process. device: where its rows are held.
    """

    Config = MFConfig
    table: nn.Parameter
    """(held * d,): the name is that of MF, whose table lies in files."""
    block: ClassVar[int] = 1 << 16
    """Rows at once where all rows are gone through: to begin, to rank, to write and read a file."""

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
        lookup, self.table = _row_wise(self.held * place.size, config.dim, place, device)
        self.lookup = (lookup,)  # hidden from torch: its parameter is `table`
        with torch.no_grad():
            self._begin((train.n_users, train.n_items), generator)

    def vectors(self, users: Tensor | None = None, items: Tensor | None = None) -> Vectors:
        nodes, cut = self._nodes(users, items)
        mine = self.looked_up(nodes[bounds(len(nodes), self.place.rank, self.place.size)])
        rows = Gathered.apply(mine, len(nodes), self.place)
        user_rows, item_rows = rows[:cut], rows[cut:]  # type: ignore[index]
        return Vectors(user_rows, item_rows, user_rows, item_rows)

    def looked_up(self, nodes: Tensor) -> Tensor:
        """Rows of nodes (m,) of this process's choice, (m, d); all must call it."""
        asked = nodes if len(nodes) else nodes.new_zeros(1)  # TorchRec cannot be asked for nothing
        at = asked % self.place.size * self.held + asked // self.place.size
        ones = torch.ones(len(at), dtype=torch.int32, device=at.device)
        found = self.lookup[0](_part("torchrec").KeyedJaggedTensor(["node"], at, lengths=ones))
        return found["node"].values()[: len(nodes)]

    def rows(self, table: Tensor, start: int, stop: int, to: int | None = None) -> Tensor:
        """Nodes `start` to `stop` of a table that lies as this one does, (stop - start, d).

        All must call it. Process `to` gets the rows, the others none of them; None: all do.
        """
        size = self.place.size
        first, last = start // size, -(-stop // size)
        mine = table.view(self.held, self.dim)[first:last]
        parts = mine.new_empty(size, *mine.shape)
        if to is None:
            dist.all_gather(list(parts), mine)
        elif to == self.place.rank:
            dist.gather(mine, list(parts), to)
        else:
            dist.gather(mine, None, to)
            return mine[:0]
        return parts.transpose(0, 1).reshape(-1, self.dim)[
            start - first * size : stop - first * size
        ]

    def stored(self, tensor: Tensor) -> Stored:
        """A tensor of the model or its optimiser, as a file of one process holds it."""
        if tensor.shape != self.table.shape:
            return tensor
        shape = (self.n_users + self.n_items, self.dim)
        return Rows(shape, tensor.dtype, self._blocks(tensor))

    def _blocks(self, table: Tensor) -> Iterator[Tensor]:
        nodes = self.n_users + self.n_items
        for start in range(0, nodes, self.block):
            yield self.rows(table, start, min(start + self.block, nodes), to=0)

    def taken(self, table: Slices) -> Tensor | None:
        """The rows held here of such a table in a file; None for a tensor of another shape."""
        nodes, rank, size = self.n_users + self.n_items, self.place.rank, self.place.size
        if list(table.get_shape()) != [nodes, self.dim]:
            return None
        held = self.table.new_zeros(self.held, self.dim, device="cpu")
        for start in range(0, nodes, self.block):
            own = table[start : min(start + self.block, nodes)][(rank - start) % size :: size]
            at = -(-(start - rank) // size)
            held[at : at + len(own)] = own
        return held.view(-1)

    def _begin(self, sides: tuple[int, int], generator: torch.Generator) -> None:
        """Xavier's start of `initial_table`, of the rows held here."""
        held, first = self.table.view(self.held, self.dim).zero_(), 0
        for size in sides:
            bound = (6 / (size + self.dim)) ** 0.5
            for start in range(0, size, self.block):
                count = min(self.block, size - start)
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
        raise ConfigError(lacking(str(error))) from None


def _one_id_a_row(_: nn.Module, args: tuple[Any, ...], words: dict[str, Any]):  # type: ignore[no-untyped-def]
    """fbgemm's dense kernel for the CPU gives a row to empty places as well: leave them out."""
    ids = words["indices"]
    return args, {**words, "offsets": torch.arange(len(ids) + 1, device=ids.device)}
