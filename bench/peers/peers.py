"""What PyTorch does on the same device: the rivals of bench/gpu.mjs, each at its best of eager, torch.compile and CUDA graphs.

python3 bench/peers/peers.py CASE [--batch N] [--chunks K] [--ways eager,compile,graph,compile+graph] [--precision bf16|fp16|fp32] [--seconds S]
    [--device cuda|cpu]
CASE: resnet (a training step), comface (the whole step), infonce, augment. Prints one JSON line for each way, with its error if it has one.
--chunks: the comface step over K equal parts of the batch with gradients of the whole, as GradCache has it (Gao et al., 2021, arXiv 2101.06983).
"""
import argparse
import gc
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F

from networks import ComFace, ResNet, info_nce


def augment(pictures):
    """SimCLR's views by torchvision v2, one set of draws for each picture as it has to be."""
    from torchvision.transforms import v2

    one = v2.Compose(
        [
            v2.RandomResizedCrop(224, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
            v2.RandomGrayscale(0.2),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    return torch.stack([one(p) for p in pictures for _ in range(3)])


class Timer:
    def __init__(self, device, seconds):
        self.device, self.seconds = device, seconds

    def wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()

    def sample(self, run, runs):
        """Seconds of one of so many runs that follow each other: a GPU's by its own clock."""
        if self.device != "cuda":
            begin = time.perf_counter()
            for _ in range(runs):
                run()
            return (time.perf_counter() - begin) / runs
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(runs):
            run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1000 / runs

    def median(self, run):
        """Seconds of one run: the median of samples of at least 5 ms that fill the time."""
        for _ in range(3):
            run()
        self.wait()
        runs = max(1, min(1000, round(0.005 / self.sample(run, 1))))
        samples, start = [], time.perf_counter()
        while time.perf_counter() - start < self.seconds or len(samples) < 5:
            samples.append(self.sample(run, runs))
        return statistics.median(samples)


def chunked(model, backbone, images, target, chunks, autocast, backward):
    """Gradients of the loss of the whole batch with the activations of one chunk: embeddings first, then each chunk again."""
    parts = images.chunk(chunks)
    with torch.no_grad(), autocast():
        h = torch.cat([backbone(part) for part in parts])
    h.requires_grad_()
    with autocast():
        loss = model.loss(h, target)
    backward(loss)
    for part, gradient in zip(parts, h.grad.chunk(chunks)):
        with autocast():
            again = backbone(part)
        again.backward(gradient)


def training_step(model, loss_of, precision, device, in_chunks=None):
    """One step with Adam; autocast and, in fp16, a GradScaler as PyTorch's documentation has them."""
    optimizer = torch.optim.Adam(model.parameters(), 4e-4, fused=device == "cuda", capturable=device == "cuda")
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    scaler = torch.amp.GradScaler(device, enabled=precision == "fp16")

    def autocast():
        return torch.autocast(device, dtype=dtype, enabled=dtype is not None)

    def step():
        optimizer.zero_grad(set_to_none=True)
        if in_chunks:
            in_chunks(autocast, lambda loss: scaler.scale(loss).backward())
        else:
            with autocast():
                loss = loss_of(model)
            scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def captured(step):
    """The step as a CUDA graph; a GradScaler looks at the host and cannot be captured."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def ways(make, precision, device, wanted):
    has_graphs = device == "cuda" and precision != "fp16"  # a GradScaler looks at the host
    if "eager" in wanted:
        yield "eager", lambda: make(False)
    if "graph" in wanted and has_graphs:
        yield "graph", lambda: captured(make(False))
    if "compile" in wanted:
        yield "compile", lambda: make(True)
    if "compile+graph" in wanted and has_graphs:
        yield "compile+graph", lambda: captured(make(True))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("case", choices=["resnet", "comface", "infonce", "augment"])
    parser.add_argument("--batch", type=int, default=256, help="images, pairs, rows or pictures")
    parser.add_argument("--chunks", type=int, default=1)
    parser.add_argument("--precision", default="bf16", choices=["bf16", "fp16", "fp32"])
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--ways", type=lambda text: text.split(","), default="eager,compile,graph,compile+graph".split(","))
    args = parser.parse_args()
    device, n, size = args.device, args.batch, args.size
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(1)
    timer = Timer(device, args.seconds)

    def images(count):
        return torch.randn(count, 3, size, size, device=device).to(memory_format=torch.channels_last)

    def make(compiled):
        if args.case == "resnet":
            model, x = ResNet().to(device, memory_format=torch.channels_last), images(n)
            forward = torch.compile(model) if compiled else model
            return training_step(model, lambda _: forward(x).float().square().mean(), args.precision, device)
        if args.case == "comface":
            model, x = ComFace().to(device, memory_format=torch.channels_last), images(3 * n)
            target = torch.rand(n, device=device)
            if args.chunks > 1:
                backbone = torch.compile(model.backbone) if compiled else model.backbone
                run = lambda autocast, backward: chunked(model, backbone, x, target, args.chunks, autocast, backward)
                return training_step(model, None, args.precision, device, run)
            forward = torch.compile(model) if compiled else model
            return training_step(model, lambda _: forward(x, target), args.precision, device)
        if args.case == "infonce":
            z = F.normalize(torch.randn(n, 128, device=device)).requires_grad_()
            loss = torch.compile(info_nce) if compiled else info_nce

            def step():
                z.grad = None
                with torch.autocast(device, dtype=torch.bfloat16, enabled=args.precision == "bf16"):
                    value = loss(z, 0.1)
                value.backward()

            return step
        pictures = torch.randint(0, 256, (n, 3, 256, 256), dtype=torch.uint8, device=device)
        return lambda: augment(pictures)

    per_run = {"resnet": n, "comface": 3 * n, "infonce": n, "augment": 3 * n}[args.case]
    for way, build in ways(make, args.precision, device, args.ways) if args.case != "augment" else [("eager", lambda: make(False))]:
        line = {"case": args.case, "batch": n, "precision": args.precision, "way": way if args.chunks == 1 else f"{way}, {args.chunks} chunks"}
        try:
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            seconds = timer.median(build())
            line |= {"seconds": seconds, "per_second": per_run / seconds}
            if device == "cuda":
                line["peak_bytes"] = torch.cuda.max_memory_allocated()
        except Exception as error:  # a way that a version of PyTorch does not have is not a rival
            line["error"] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        print(json.dumps(line), flush=True)
        # Nothing of one way for the next: neither compiled code nor memory.
        torch._dynamo.reset()
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    sys.exit(main())
