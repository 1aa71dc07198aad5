"""What Python's loaders do with the pictures and crops of bench/cases/loading.mjs: for each line on the input one round, answered with its times.

python3 bench/peers/loading.py WAY FOLDER crops|simclr
WAY: pillow (a PyTorch DataLoader whose data set opens JPEG files with Pillow and resizes there), tensor (the same with torchvision's resize on byte
tensors), webdataset (a tar with the two files of each pair, read from front to back, resized by Pillow). One process, one thread.
crops: resized crops, flips and normalization, those of FOLDER/crops.json; simclr: also ColorJitter and RandomGrayscale, with torchvision's own draws.
"""
import json
import os
import sys
import time
import types

import torch
from PIL import Image

# torchvision registers operators of its compiled part when it is imported; a build for CUDA beside a PyTorch without lacks them, and no transform
# needs them.
try:
    from torchvision.transforms import v2
except RuntimeError:
    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        del sys.modules[name]
    sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
    from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
PAIRS, SHOWN = 32, 4  # of a batch; of which views.bin has the views
COLOR = v2.Compose([v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8), v2.RandomGrayscale(0.2)])


def finished(image):
    if not isinstance(image, torch.Tensor):
        image = F.pil_to_tensor(image)
    return F.normalize(F.to_dtype(image, torch.float32, scale=True), MEAN, DEVIATION, inplace=True)


class Views:
    """The three views of a pair: x is decoded once."""

    def __init__(self, way, edge, with_color):
        self.way, self.edge, self.with_color = way, edge, with_color

    def __call__(self, x, y, crops):
        if self.way == "tensor":
            x, y = F.pil_to_tensor(x), F.pil_to_tensor(y)
        return torch.stack([self.view(picture, crop) for picture, crop in zip((x, x, y), crops)])

    def view(self, picture, crop):
        left, top, width, height, flipped = crop
        view = F.resized_crop(picture, top, left, height, width, [self.edge, self.edge], antialias=True)
        if flipped:
            view = F.horizontal_flip(view)
        return finished(COLOR(view) if self.with_color else view)


def decoded(file):
    return Image.open(file).convert("RGB")


class Pairs(torch.utils.data.Dataset):
    def __init__(self, folder, pairs, views):
        self.folder, self.pairs, self.views = folder, pairs, views

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, i):
        x, y, *crops = self.pairs[i]
        return self.views(decoded(f"{self.folder}/{x}.jpg"), decoded(f"{self.folder}/{y}.jpg"), crops)


def batches_of(way, folder, pairs, views):
    """A loader that gives every pair once each time that it is gone through."""
    if way != "webdataset":
        return torch.utils.data.DataLoader(Pairs(folder, pairs, views), batch_size=PAIRS, num_workers=0)
    import webdataset

    def pair(sample):
        return views(sample["x.jpg"], sample["y.jpg"], json.loads(sample["crops"]))

    return (
        webdataset.WebDataset(f"{folder}/pairs.tar", shardshuffle=False, empty_check=False)
        .decode("pilrgb")
        .map(pair)
        .batched(PAIRS, collation_fn=torch.stack)
    )


def main():
    way, folder, color = sys.argv[1:]
    torch.set_num_threads(1)
    with open(f"{folder}/crops.json") as file:
        pairs = json.load(file)
    shown = f"{folder}/views.bin"
    expected = torch.from_file(shown, size=os.path.getsize(shown) // 4).reshape(SHOWN, 3, 3, -1)
    edge = round(expected.shape[-1] ** 0.5)
    first = next(iter(batches_of(way, folder, pairs, Views(way, edge, False))))[:SHOWN]
    difference = (first.flatten(3) - expected).abs().mean().item()
    loader = batches_of(way, folder, pairs, Views(way, edge, color == "simclr"))
    print(json.dumps({"items": 3 * len(pairs), "difference": difference}), flush=True)
    for _ in sys.stdin:
        start, before, count = time.perf_counter(), time.process_time(), 0
        for batch in loader:
            count += batch.shape[0] * batch.shape[1]
        if count != 3 * len(pairs):
            raise RuntimeError(f"expected {3 * len(pairs)} views but there were {count}")
        print(json.dumps({"cpuMs": 1e3 * (time.process_time() - before), "wallMs": 1e3 * (time.perf_counter() - start)}), flush=True)


main()
