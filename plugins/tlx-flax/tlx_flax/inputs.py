"""How published networks want their pictures."""

from __future__ import annotations

from tlx_image import ImageInput

IMAGENET = ImageInput(
    size=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), crop=0.875
)
"""Mean and standard deviation of ImageNet; resized to 256, the middle 224 kept."""
CIFAR10 = ImageInput(size=(32, 32), mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
"""Mean and standard deviation of CIFAR-10's training pictures."""
