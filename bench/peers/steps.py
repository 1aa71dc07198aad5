"""PyTorch's training steps on the numbers that bench/step.mjs has left: for each line on the input one round of steps, answered with its times.

python3 bench/peers/steps.py default|tuned|compile DESIGN (JSON, as bench/step.mjs has it)
default: eager, channels_last, torch.optim.Adam as it is. tuned: fused Adam; bench/cases/train.mjs preloads tcmalloc or jemalloc.
compile: tuned, and torch.compile of the whole model.
"""
import json
import re
import sys
import time

import torch

from networks import ComFace, load, read_weights


def peak_bytes():
    with open("/proc/self/status") as file:
        return 1024 * int(re.search(r"VmHWM:\s*(\d+)", file.read())[1])


def forget_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def allocator():
    with open("/proc/self/maps") as file:
        found = re.search(r"lib(tcmalloc|jemalloc)[^/\s]*", file.read())
    return found[0] if found else "malloc of the system"


class Losses(torch.nn.Module):
    """Both losses as the output, so that torch.compile sees the whole."""

    def __init__(self, model, temperature):
        super().__init__()
        self.model, self.temperature = model, temperature

    def forward(self, x, target):
        return self.model.losses(self.model.backbone(x), target, self.temperature)


def main():
    way, design = sys.argv[1], json.loads(sys.argv[2])
    torch.set_num_threads(design["threads"])
    folder, size, pairs = design["folder"], design["size"], design["pairs"]
    model = ComFace(design["backbone"], design["width"], size)
    load(model, read_weights(f"{folder}/weights.safetensors"))
    model = model.to(memory_format=torch.channels_last).train()
    count = 3 * pairs * 3 * size * size
    images = torch.from_file(f"{folder}/input.bin", size=count).reshape(-1, 3, size, size).contiguous(memory_format=torch.channels_last)
    target = torch.from_file(f"{folder}/targets.bin", size=pairs).clone()
    optimizer = torch.optim.Adam(model.parameters(), design["learningRate"], **({} if way == "default" else {"fused": True}))
    losses_of = Losses(model, design["temperature"])
    if way == "compile":
        losses_of = torch.compile(losses_of)
    is_bf16 = design["precision"] == "bf16"

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_bf16):
            inter, intra = losses_of(images, target)
        (design["interPersonal"] * inter + design["intraPersonal"] * intra).backward()
        optimizer.step()
        return [inter.item(), intra.item()]

    how = [f"PyTorch {torch.__version__}", allocator(), "Adam" if way == "default" else "fused Adam"]
    losses = step()
    print(json.dumps({"items": design["steps"] * 3 * pairs, "losses": losses, "how": ", ".join(how)}), flush=True)
    for _ in sys.stdin:
        forget_peak()
        start, before = time.perf_counter(), time.process_time()
        for _ in range(design["steps"]):
            step()
        cpu_ms, wall_ms = 1e3 * (time.process_time() - before), 1e3 * (time.perf_counter() - start)
        print(json.dumps({"cpuMs": cpu_ms, "wallMs": wall_ms, "peakRssBytes": peak_bytes()}), flush=True)


main()
