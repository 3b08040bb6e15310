"""The small convolutional network that tutorials train on handwritten digits."""

from __future__ import annotations

from .. import nn
from ..tensor import Tensor


class SimpleCNN(nn.Module):
    """Two blocks of convolution, batch norm, ReLU and pooling, then one linear layer.

    The image shrinks 28 -> 14 -> 7 while its channels grow 1 -> 32 -> 64; 50,378 parameters for ten classes.

    Args:
        num_classes: How many classes the last layer tells apart.

    Example:
        >>> import konv
        >>> from konv.models import SimpleCNN
        >>> model = SimpleCNN(num_classes=10)
        >>> model(konv.zeros(4, 1, 28, 28)).shape
        torch.Size([4, 10])
        >>> sum(p.numel() for p in model.parameters())
        50378
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, kernel_size=3, padding=1)
        self.bn1 = nn.BatchNorm2d(32)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(32, 64, kernel_size=3, padding=1)
        self.bn2 = nn.BatchNorm2d(64)
        self.relu2 = nn.ReLU()
        self.pool = nn.MaxPool2d(2, 2)
        self.fc = nn.Linear(64 * 7 * 7, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of each class, before softmax.

        Args:
            x: (N, 1, 28, 28), any floating dtype that the parameters have.

        Returns:
            (N, num_classes), the dtype of ``x``.
        """
        x = self.pool(self.relu1(self.bn1(self.conv1(x))))
        x = self.pool(self.relu2(self.bn2(self.conv2(x))))
        return self.fc(x.view(x.size(0), -1))
