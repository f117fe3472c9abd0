"""Segment synthetic cells; large crops, so two of them at a time."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

BATCH = 2


class Cells(Dataset):
    """Crops with bright discs, and the mask of the discs."""

    def __init__(self, count, side=40):
        generator = torch.Generator().manual_seed(11)
        place = torch.rand(count, 2, 1, 1, generator=generator) * side
        axis = torch.arange(side, dtype=torch.float32)
        distance = (axis.view(1, -1, 1) - place[:, 0]) ** 2 + (axis - place[:, 1]) ** 2
        self.masks = (distance < 80).float()[:, None]
        self.crops = self.masks + 0.5 * torch.randn(self.masks.shape, generator=generator)

    def __len__(self):
        return len(self.crops)

    def __getitem__(self, index):
        return self.crops[index], self.masks[index]


class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(4, outputs)

    def forward(self, x):
        return torch.relu(self.norm(self.conv(x)))


class Segmenter(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.down = nn.Sequential(Block(1, width), Block(width, width), nn.MaxPool2d(2))
        self.middle = nn.Sequential(Block(width, 2 * width), Block(2 * width, width))
        self.up = nn.Upsample(scale_factor=2)
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, crops):
        return self.out(self.up(self.middle(self.down(crops))))


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    loader = DataLoader(Cells(400), batch_size=BATCH, shuffle=True)
    model = Segmenter()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    criterion = nn.BCEWithLogitsLoss()
    for epoch in range(2):
        for crops, masks in loader:
            loss = criterion(model(crops), masks)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")


if __name__ == "__main__":
    main()
