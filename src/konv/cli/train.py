"""``konv train``: the digits in the package, SimpleCNN, a progress bar, the test, the file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .. import data, kernels, models, random
from ..errors import FileError, text


def train(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the weights go.")] = Path(
        "simple_cnn.safetensors"
    ),
    epochs: Annotated[int, typer.Option(min=1, max=1000, help="How often every image is seen.")] = 8,
    batch_size: Annotated[int, typer.Option(min=1, max=4000, help="Images in one step.")] = 50,
    lr: Annotated[float, typer.Option(min=0.0, help="The highest learning rate.")] = 3e-3,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="The same seed gives the same bits.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="All cores when not given.")] = None,
) -> None:
    """Train SimpleCNN on 4,000 handwritten digits and test it on 1,000 others.

    Example: konv train --epochs 5 --output digits.safetensors
    """
    if output.is_dir() or not output.parent.is_dir():
        raise FileError(text("train", f"{str(output)!r} cannot be written", "its directory must exist"))
    if threads is not None:
        kernels.set_num_threads(threads)
    random.manual_seed(seed)
    images, labels = data.mnist("train")
    model = models.SimpleCNN()
    console = Console()
    columns = (
        TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  {task.fields[speed]:,.0f} images/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=epochs * len(images), epoch=1, epochs=epochs, loss=float("nan"), speed=0.0)

        def show(at: models.Progress) -> None:
            bar.update(task, completed=at.images, epoch=at.epoch, loss=at.loss, speed=at.images_per_second)

        last = models.fit(model, images, labels, epochs=epochs, batch_size=batch_size, lr=lr, on_batch=show)
    right = models.accuracy(model, *data.mnist("test"))
    models.save_classifier(model, output, accuracy=right)
    console.print(f"trained on {last.images:,} images in {last.seconds:.1f} s: {last.images_per_second:,.0f} images/s")
    console.print(f"test accuracy on 1,000 other images: {right:.1%}")
    console.print(f"weights saved to {output}; try: konv predict {output} IMAGE...", soft_wrap=True)
