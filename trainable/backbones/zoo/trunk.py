"""A small residual convolutional network for images of a few pixels."""

from torch import Tensor, nn


class Trunk(nn.Module):
    """Residual network in the post-activation form of He et al. (arXiv 1512.03385, figure 2).

    Six blocks at full, half and quarter resolution, then global average pooling and `head`.
    Every block ends in one tensor, so a traced graph can be cut after each. Any input size works;
    the design is for 8x8.

    Args:
        num_classes: number of outputs of `head`.
    """

    def __init__(self, *, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
        )
        self.blocks = nn.Sequential(
            _ResidualBlock(32, 32),
            _ResidualBlock(32, 32),
            _ResidualBlock(32, 32),
            _ResidualBlock(32, 64, stride=2),
            _ResidualBlock(64, 64),
            _ResidualBlock(64, 96, stride=2),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(96, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Compute class scores.

        Args:
            images: (N, 3, H, W) float, normalised as in pretraining.

        Returns:
            (N, num_classes) float logits.
        """
        features: Tensor = self.pool(self.blocks(self.stem(images))).flatten(1)
        logits: Tensor = self.head(features)
        return logits


class _ResidualBlock(nn.Module):
    """relu(shortcut(x) + f(x)), where f is two 3x3 convolutions with 32 channels between them."""

    def __init__(self, channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 32, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, inputs: Tensor) -> Tensor:
        residual = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(inputs)))))
        output: Tensor = self.relu(residual + self.shortcut(inputs))
        return output
