"""The plain training loop: shuffle, forward, loss, backward, step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from .. import nn, optim
from ..autograd import no_grad
from ..ops.random import randperm
from ..tensor import Tensor


@dataclass(frozen=True)
class Progress:
    """Where a training run stands after one batch: what a progress bar needs."""

    epoch: int
    epochs: int
    images: int  # seen so far, over all epochs
    total: int  # that will have been seen at the end
    loss: float
    seconds: float

    @property
    def images_per_second(self) -> float:
        """Mean speed since the start."""
        return self.images / self.seconds if self.seconds > 0 else 0.0


def fit(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epochs: int = 3,
    batch_size: int = 64,
    lr: float = 1e-3,
    on_batch: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Trains a classifier with Adam and cross entropy; the learning rate falls to zero along a half cosine.

    Args:
        model: Maps (N, C, H, W) to (N, classes).
        images: (M, C, H, W), the dtype of the model.
        labels: (M,) int64, the class of each image.
        epochs: How often every image is seen.
        batch_size: Images in one step; the last batch of an epoch may be smaller.
        lr: Learning rate at the start.
        on_batch: Called after each step.

    Returns:
        The last progress.

    Example:
        >>> import konv
        >>> from konv.models import SimpleCNN, fit
        >>> images, labels = konv.data.mnist("train")
        >>> last = fit(SimpleCNN(), images[:64], labels[:64], epochs=1, batch_size=32)
        >>> last.images, last.epoch
        (64, 1)
    """
    count = images.shape[0]
    steps = max(1, epochs * -(-count // batch_size))
    optimizer = optim.Adam(model.parameters(), lr=lr)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    loss_of = nn.CrossEntropyLoss()
    model.train()
    start = time.perf_counter()
    progress = Progress(0, epochs, 0, epochs * count, float("nan"), 0.0)
    for epoch in range(1, epochs + 1):
        order = randperm(count)
        for first in range(0, count, batch_size):
            chosen = order[first : first + batch_size]
            optimizer.zero_grad()
            loss = loss_of(model(images[chosen]), labels[chosen])
            loss.backward()
            optimizer.step()
            schedule.step()
            seen = progress.images + chosen.shape[0]
            progress = Progress(epoch, epochs, seen, epochs * count, loss.item(), time.perf_counter() - start)
            on_batch(progress)
    return progress


def accuracy(model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = 250) -> float:
    """The share of images whose highest score is their label; the model is left in evaluation mode.

    Args:
        model: Maps (N, C, H, W) to (N, classes).
        images: (M, C, H, W), the dtype of the model.
        labels: (M,) int64.
        batch_size: Images at a time.

    Returns:
        Between 0 and 1.
    """
    model.eval()
    right = 0
    with no_grad():
        for first in range(0, images.shape[0], batch_size):
            scores = model(images[first : first + batch_size])
            right += int((scores.argmax(1) == labels[first : first + batch_size]).sum().item())
    return right / images.shape[0]
