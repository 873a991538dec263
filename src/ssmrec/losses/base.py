"""What every loss offers: one value per row from the logits of its positive and its negatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from ssmrec.config import Config, nearest
from ssmrec.data import Interactions
from ssmrec.errors import ConfigError
from ssmrec.kernels.unit import unit
from ssmrec.models import Vectors
from ssmrec.negatives import Batch

Similarity = Literal["cosine", "dot"]


class SharedConfig(Config):
    """Settings that all losses share.

    Attributes:
        similarity: cosine or dot product of user and item vectors in training.
        prefixes: Matryoshka: average the loss over vectors cut to these lengths, as in 8, 16, 32, 64,
            so that the first numbers of a vector can stand for all; empty for whole vectors alone.
    """

    similarity: Similarity = "cosine"
    prefixes: tuple[int, ...] = ()

    @field_validator("prefixes")
    @classmethod
    def _at_least_one_number(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if min(value, default=1) < 1:
            raise ValueError("a prefix has at least 1 number")
        return value


class PlainLossConfig(SharedConfig):
    """Settings of a loss on similarities themselves: logits are similarities, nothing to divide by."""

    temperature: ClassVar[float] = 1.0


class LossConfig(SharedConfig):
    """Settings of a loss with a temperature.

    Attributes:
        temperature: logits are similarity / temperature; above 0, usually 0.05 to 1.
    """

    temperature: float = Field(default=0.2, gt=0)


class DotLossConfig(LossConfig):
    """The shared settings, with the plain inner product of the classic losses as default."""

    similarity: Similarity = "dot"
    temperature: float = Field(1.0, gt=0)


@dataclass(frozen=True, eq=False)
class Context:
    """What a loss may know of a batch beside its logits.

    Args:
        users: int64 (B,) user of each row; items: int64 (B,) its positive.
        negatives: int64 item of each negative logit, (N,) shared by the rows or (B, N).
        extra: (B, M) logits of the items that the loss's `more_items` named, or None.
    """

    users: Tensor
    items: Tensor
    negatives: Tensor
    extra: Tensor | None = None


class UnattachedError(ConfigError, AttributeError):
    """A loss lacks what `attach` makes; an `AttributeError` too, so that `hasattr` stays true to its name."""


class Loss(nn.Module):
    """A loss is built as `Loss(config)` and reads logits, so it works with any backbone and sampler.

    In a training loop of one's own, `attach` comes first, as in the trainer; a loss that then lacks what
    it made, or its context, raises a `ConfigError` that says what to call.

    Most losses define `forward` and nothing else. A loss that needs more says so by the flags below
    and overrides the hooks it needs, which all do nothing here. State that lasts beyond a step
    belongs into parameters and buffers: a checkpoint keeps them and nothing else.
    """

    Config: ClassVar[type[Config]] = LossConfig
    default_negatives: ClassVar[dict[str, Any] | None] = None
    """Sampler settings used when none are asked for; None takes the general default."""
    needs_context: ClassVar[bool] = False
    """Whether the loss is also called with `context=Context(...)`."""
    on_vectors: ClassVar[bool] = False
    """Whether `from_vectors` is called in place of `forward`; negatives then play no part."""
    holds_factors: ClassVar[bool] = False
    """Whether a factor that depends on the logits counts as a constant in the gradient, which then is not
    that of the value."""

    row_by_row: ClassVar[bool] = False
    """Whether the value of a row depends on that row alone, and nothing of the loss's own learns: then several
    processes may share out the rows of a batch."""

    recordable: bool = False
    """Whether the loss does the same work at every step, so that a GPU may record it and replay it: nothing
    that is read back, no sizes that depend on values, no numbers drawn; what changes lies in tensors and
    changes in place, since a number of Python's stays as it was recorded. A class that overrides
    `forward`, `fused`, `from_vectors`, `before_epoch` or `after_step` must say it again."""

    trains_model: bool = True
    """False while only the loss's own parameters learn, so that L2 leaves the model alone as well."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def __getattr__(self, name: str) -> Any:
        """Parameters and buffers, by torch; a miss says that `attach` makes them, where it makes any."""
        try:
            return nn.Module.__getattr__(self, name)
        except AttributeError:
            if type(self).attach is Loss.attach:
                raise
            raise UnattachedError(
                f"{type(self).__name__} has no {name!r}; what it takes from the training pairs is there after "
                "loss.attach(train, generator)"
            ) from None

    def attach(self, train: Interactions, generator: torch.Generator) -> None:
        """Called once before training, to make tables of users, items or popularity.

        Args:
            train: the pairs to learn from, the only data a loss may see.
            generator: for initial values.
        """

    def before_epoch(self, epoch: int, vectors: Callable[[], Vectors]) -> None:
        """Called before each epoch (1, 2, ...), without gradient; `vectors()` gives all vectors."""

    def more_items(self, batch: Batch, generator: np.random.Generator) -> Tensor | None:
        """int64 (B, M) items whose logits the loss wants in `context.extra`, or None."""

    def after_step(self) -> None:
        """Called after each step of the optimiser, without gradient; to keep parameters in a range."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Own parameters as groups of a torch optimiser; a group may set its own `lr`."""
        own = list(self.parameters())
        return [{"params": own}] if own else []

    def forward(
        self,
        pos_logits: Tensor,
        neg_logits: Tensor,
        log_q: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Loss of each row, (B,). With `needs_context` there is a fifth argument `context`.

        Args:
            pos_logits: (B,) similarity / temperature of the positives.
            neg_logits: (B, N) the same of the negatives.
            log_q: (N,) or (B, N) log expected counts to subtract, or None.
            mask: (B, N) True where a candidate does not count, or None.
        """
        if self.on_vectors:
            raise ConfigError(
                f"{type(self).__name__} reads vectors, not logits: call loss.attach(train, generator) once, "
                "then loss.from_vectors(users, items, Context(users, items, negatives))"
            )
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    def told(self, context: Context | None) -> Context:
        """The context, for a loss that cannot do without.

        Raises:
            ConfigError: it is None.
        """
        if context is None:
            raise ConfigError(
                f"{type(self).__name__} reads who and what is in the batch: call loss.attach(train, generator) "
                "once, then loss(pos, neg, context=Context(users, items, negatives))"
            )
        return context

    def from_vectors(self, users: Tensor, items: Tensor, context: Context) -> Tensor:
        """Loss of each row, (B,), of a loss with `on_vectors`.

        Args:
            users, items: (B, d) prepared vectors (unit length for cosine) of each row's pair.
        """
        raise NotImplementedError(f"{type(self).__name__} sets on_vectors: define from_vectors")


def widened(logits: Tensor) -> Tensor:
    """Logits in float32 if they came in half precision, else as they are."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def corrected(logits: Tensor, log_q: Tensor | None, mask: Tensor | None) -> Tensor:
    """Negative logits in float32, minus log expected count, minus infinity where masked."""
    logits = widened(logits)
    if log_q is not None:
        logits = logits - log_q
    return logits if mask is None else logits.masked_fill(mask, -torch.inf)


def log_sum(logits: Tensor) -> Tensor:
    """log sum_j e^{l_j} of each row, (B,); the lowest finite number for a row without any term.

    Unlike `torch.logsumexp`, its gradient is zero, not NaN, in a row that is empty or all masked.
    """
    lowest = torch.finfo(logits.dtype).min
    if not logits.shape[1]:
        return logits.sum(1) + lowest
    return torch.logsumexp(logits.clamp_min(lowest), dim=1)


def shares(logits: Tensor, log_q: Tensor | None, mask: Tensor | None) -> Tensor:
    """Weight of each negative in a mean over its row, (B, N); they add up to 1, or 0 if none counts.

    Equal weights, or, with log expected counts, in proportion to 1 / count: the mean over the
    negatives then estimates the mean over the catalogue (self-normalised importance weights).
    """
    like = widened(logits)
    if log_q is None:
        equal = torch.ones_like(like[:1]) if mask is None else (~mask).to(like.dtype)
        return (equal / equal.sum(1, keepdim=True).clamp_min(1)).expand_as(like)
    weights = corrected(torch.zeros_like(like), log_q, mask)
    return torch.softmax(weights, dim=1).nan_to_num(0.0) if weights.shape[1] else weights


def live(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Number of negatives of each row that count, (B,)."""
    if mask is None:
        return logits.new_full((len(logits),), logits.shape[1])
    return (~mask).sum(1).to(logits.dtype)


def log_mass(logits: Tensor, log_q: Tensor | None, mask: Tensor | None) -> Tensor:
    """log of how many items each row's negatives stand for, (B,): sum of 1 / count, or their number.

    The lowest finite number for a row without any.
    """
    if log_q is None:
        number = live(widened(logits), mask)
        return number.clamp_min(1).log().masked_fill(number == 0, torch.finfo(number.dtype).min)
    return log_sum(corrected(torch.zeros_like(widened(logits)), log_q, mask))


def or_zero(value: Tensor, logits: Tensor, mask: Tensor | None) -> Tensor:
    """`value` (B,), but 0 in rows where no negative counts: they have nothing to be contrasted with."""
    return torch.where(live(logits, mask) > 0, value, torch.zeros_like(value))


def picked(values: Tensor, at: Tensor) -> Tensor:
    """values[at], (B,), of values (n,) and places (B,).

    The gradient of indexing itself is added up in the order in which threads come to it.
    """
    return F.embedding(at, values[:, None])[:, 0]


def products(users: Tensor, items: Tensor) -> Tensor:
    """Inner products (B, N) of users (B, d) with shared items (N, d), or own ones (B, N, d)."""
    return users @ items.T if items.dim() == 2 else torch.einsum("bd,bnd->bn", users, items)


def prepare(vectors: Tensor, similarity: Similarity) -> Tensor:
    """Vectors whose dot product is the similarity: unit length for cosine (zero stays zero).

    Raises:
        ConfigError: no such similarity.
    """
    if similarity == "cosine":
        return unit(vectors)
    if similarity != "dot":
        hint = nearest(str(similarity), get_args(Similarity))
        raise ConfigError(f"unknown similarity {similarity!r}{hint}")
    return vectors
