"""The plain training loop: shuffle, forward, loss, backward, step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from .. import nn, optim
from ..autograd import no_grad
from ..ops.creation import arange
from ..ops.random import randint, randperm
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
    epochs: int = 8,
    batch_size: int = 50,
    lr: float = 3e-3,
    shift: int = 2,
    on_batch: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Trains a classifier with AdamW and slightly smoothed cross entropy; the learning rate rises, then falls.

    Args:
        model: Maps (N, C, H, W) to (N, classes).
        images: (M, C, H, W), the dtype of the model.
        labels: (M,) int64, the class of each image.
        epochs: How often every image is seen.
        batch_size: Images in one step; the last batch of an epoch may be smaller.
        lr: The highest learning rate.
        shift: Each time an image is seen it is moved by up to so many pixels in each direction, so that the network
            learns shapes and not places; what leaves on one side comes in on the other.
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
    optimizer = optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    model.train()
    start = time.perf_counter()
    progress = Progress(0, epochs, 0, epochs * count, float("nan"), 0.0)
    for epoch in range(1, epochs + 1):
        order = randperm(count)
        for first in range(0, count, batch_size):
            chosen = order[first : first + batch_size]
            optimizer.zero_grad()
            loss = loss_of(model(moved(images[chosen], shift)), labels[chosen])
            loss.backward()
            optimizer.step()
            schedule.step()
            seen = progress.images + chosen.shape[0]
            progress = Progress(epoch, epochs, seen, epochs * count, loss.item(), time.perf_counter() - start)
            on_batch(progress)
    return progress


def moved(images: Tensor, most: int) -> Tensor:
    """Each image rolled by its own random number of rows and columns, up to ``most`` in each direction.

    Args:
        images: (N, C, H, W).
        most: Pixels; 0 leaves the images as they are.

    Returns:
        (N, C, H, W).
    """
    if most == 0:
        return images
    n, _, height, width = images.shape
    rows = (arange(height) + randint(-most, most + 1, (n, 1))) % height
    columns = (arange(width) + randint(-most, most + 1, (n, 1))) % width
    # The indexed axes come first: (N, H, W, C).
    return images[arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


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
