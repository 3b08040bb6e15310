"""A tutorial's training run, line for line in both libraries: the same numbers come out."""

import numpy as np
import pytest
import torch

import konv

STEPS = 12


def train(library, optimizer: str) -> tuple[list[float], list[float]]:
    """Losses of each step, and the outputs of the trained model in evaluation mode."""
    nn = library.nn

    class SimpleCNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            # Without bias: before a batch norm its gradient is rounding alone, which Adam makes large.
            self.conv1 = nn.Conv2d(1, 8, kernel_size=3, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(8)
            self.conv2 = nn.Conv2d(8, 16, kernel_size=3, padding=1)
            self.pool = nn.MaxPool2d(2, 2)
            self.drop = nn.Dropout(0.25)
            self.fc = nn.Linear(16 * 3 * 3, 10)

        def forward(self, x):
            x = self.pool(nn.functional.relu(self.bn1(self.conv1(x))))
            x = self.pool(nn.functional.relu(self.conv2(x)))
            return self.fc(self.drop(x.flatten(1)))

    library.manual_seed(0)
    model = SimpleCNN()
    if optimizer == "SGD":
        stepper = library.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    else:
        stepper = library.optim.Adam(model.parameters(), lr=0.01)
    schedule = library.optim.lr_scheduler.StepLR(stepper, 4, 0.5)
    criterion = nn.CrossEntropyLoss()
    images, labels = library.randn(64, 1, 12, 12), library.randint(0, 10, (64,))
    losses = []
    for _ in range(STEPS):
        batch = library.randperm(64)[:16]
        stepper.zero_grad()
        loss = criterion(model(images[batch]), labels[batch])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        stepper.step()
        schedule.step()
        losses.append(loss.item())
    model.eval()
    with library.no_grad():
        return losses, model(images[:4]).flatten().tolist()


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_the_same_run(optimizer: str) -> None:
    mine, theirs = train(konv, optimizer), train(torch, optimizer)
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(mine[0][0], theirs[0][0], rtol=1e-5)
