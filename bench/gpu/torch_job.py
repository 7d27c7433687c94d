#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A worker whose work is PyTorch's: counts finished steps per window and writes the same record as `workload`.

  torch_job.py --job train|train-graph|infer|parallel --name N --rendezvous DIR --seconds S ...    driven by bench.py
  torch_job.py --check                                                                             what can run here, as JSON

  train        a small transformer, one step after another, launched ahead: bound by its launches
  train-graph  the same step as a CUDA graph: bound by the GPU
  infer        one request after another: forward, result to the host, next
  parallel     training on all GPUs that are visible, one process each, gradients by NCCL
"""
import argparse
import collections
import json
import os
import socket
import sys
import time

MOST_AHEAD = 4  # steps in flight


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--job", choices=("train", "train-graph", "infer", "parallel"))
    parser.add_argument("--name", default="tenant")
    parser.add_argument("--rendezvous")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--window-ms", type=float, default=50)
    parser.add_argument("--tail", type=float, default=20, help="seconds beyond the end to wait for the last completion")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--probe-mib", type=int, default=0)
    return parser.parse_args()


class Line:
    """Where workers meet: see rendezvous.h."""

    def __init__(self, folder, name, index=0):
        self.folder, self.own = folder, os.path.join(folder, f"{name}.{index}")

    def wait_for_start(self):
        write_whole(self.own + ".ready", "")
        go = os.path.join(self.folder, "go")
        while not os.path.exists(go):
            if self.stopped():
                sys.exit(0)
            time.sleep(0.001)
        with open(go) as file:
            return int(file.read())

    def stopped(self):
        return os.path.exists(os.path.join(self.folder, "stop"))


def write_whole(path, text):
    with open(path + ".tmp", "w") as file:
        file.write(text)
    os.rename(path + ".tmp", path)


def make_step(job, seed, rank, ranks):
    """A function that does one step, and whether it has waited for it."""
    import torch

    torch.manual_seed(seed + rank)
    width, heads, layers, rows, length = (256, 4, 4, 8, 64) if job != "parallel" else (1024, 8, 4, 16, 128)
    layer = torch.nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, batch_first=True)
    net = torch.nn.TransformerEncoder(layer, layers, enable_nested_tensor=False).cuda()
    x = torch.randn(rows, length, width, device="cuda")
    if job == "infer":
        net.eval()

        def infer():
            with torch.inference_mode():
                return float(net(x)[0, 0, 0])
        return infer, True
    if ranks > 1:
        net = torch.nn.parallel.DistributedDataParallel(net, device_ids=[rank])
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4)

    def train():
        optimizer.zero_grad(set_to_none=False)
        net(x).square().mean().backward()
        optimizer.step()
    if job != "train-graph":
        return train, False
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            train()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        train()
    return graph.replay, False


class Steps:
    """Completion times of steps, in order."""

    def __init__(self):
        self.done_ns, self.flying = [], collections.deque()

    def launched(self, event):
        self.flying.append(event)
        if len(self.flying) > MOST_AHEAD:
            self.finish_first()

    def finish_first(self):
        self.flying.popleft().synchronize()
        self.done_ns.append(time.monotonic_ns())

    def windows(self, start_ns, window_ns, count):
        """Each step is credited evenly to the time between the completion before it and its own."""
        work, before = [0.0] * count, start_ns
        for done in self.done_ns:
            at, end = before, max(done, before + 1)
            while at < end:
                window = (at - start_ns) // window_ns
                until = min(end, start_ns + (window + 1) * window_ns)
                if 0 <= window < count:
                    work[window] += (until - at) / (end - before)
                at = until
            before = end
        return work


def preloaded():
    with open("/proc/self/maps") as file:
        maps = file.read()
    return [name for name in os.environ.get("LD_PRELOAD", "").replace(" ", ":").split(":") if name and name in maps]


def probe(mib):
    """As the driver's codes: 0 it was allocated, 2 out of memory, 999 anything else."""
    import torch
    if mib == 0:
        return 0
    try:
        torch.empty(mib << 20, dtype=torch.uint8, device="cuda")
    except torch.cuda.OutOfMemoryError:
        return 2
    except RuntimeError:
        return 999
    finally:
        torch.cuda.empty_cache()
    return 0


def work(arguments, rank=0, ranks=1, port=0):
    import torch
    torch.cuda.set_device(rank)
    if ranks > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        torch.distributed.init_process_group("nccl", rank=rank, world_size=ranks, device_id=torch.device("cuda", rank))
    probe_code = probe(arguments.probe_mib)
    step, waits = make_step(arguments.job, arguments.seed, rank, ranks)
    for _ in range(20):
        step()
    torch.cuda.synchronize()
    if ranks > 1:
        torch.distributed.barrier()
    line = Line(arguments.rendezvous, arguments.name)
    if rank == 0:
        start_ns = line.wait_for_start()
    agree = torch.zeros(1, dtype=torch.int64, device="cuda")
    if ranks > 1:  # all ranks do as many steps as the first
        agree[0] = start_ns if rank == 0 else 0
        torch.distributed.broadcast(agree, 0)
        start_ns = int(agree[0])
    time.sleep(max(0, (start_ns - time.monotonic_ns()) / 1e9))
    cpu, thread_cpu, wall = time.process_time_ns(), time.thread_time_ns(), time.monotonic_ns()
    end_ns, window_ns = start_ns + int(arguments.seconds * 1e9), int(arguments.window_ms * 1e6)
    steps, written, go_on = Steps(), False, True
    while go_on:
        for _ in range(1 if waits else 8):
            step()
            if waits:
                steps.done_ns.append(time.monotonic_ns())
            else:
                event = torch.cuda.Event()
                event.record()
                steps.launched(event)
        last = steps.done_ns[-1] if steps.done_ns else 0
        if rank == 0 and not written and (last > end_ns or time.monotonic_ns() > end_ns + arguments.tail * 1e9):
            written = True
            free, total = torch.cuda.mem_get_info()
            windows = steps.windows(start_ns, window_ns, round(arguments.seconds * 1e9) // window_ns)
            write_whole(line.own + ".json", json.dumps({
                "complete": last > end_ns, "start_ns": start_ns, "window_ns": window_ns, "cpu_ns": time.process_time_ns() - cpu, "thread_cpu_ns": time.thread_time_ns() - thread_cpu,
                "wall_ns": time.monotonic_ns() - wall, "gpu": torch.cuda.get_device_name(), "total_bytes": total, "free_bytes": free, "probe_code": probe_code, "back_to_back_ns": 0,
                "preloaded": preloaded(), "launch_ns": {"p50": 0}, "work": [round(value, 4) for value in windows], "kernels": [round(value) for value in windows], "latency_us": []}))
        go_on = not (written and line.stopped())
        if ranks > 1:
            agree[0] = int(go_on) if rank == 0 else 0
            torch.distributed.broadcast(agree, 0)
            go_on = bool(agree[0])
    torch.cuda.synchronize()
    if ranks > 1:
        torch.distributed.destroy_process_group()


def parallel(arguments):
    import torch
    with socket.socket() as probing:
        probing.bind(("127.0.0.1", 0))
        port = probing.getsockname()[1]
    ranks = torch.cuda.device_count()
    context = torch.multiprocessing.get_context("spawn")
    others = [context.Process(target=work, args=(arguments, rank, ranks, port), daemon=True) for rank in range(1, ranks)]
    for other in others:
        other.start()
    work(arguments, 0, ranks, port)
    for other in others:
        other.join(30)


def main():
    arguments = parse()
    try:
        import torch
    except ImportError:
        print(json.dumps({"torch": None, "gpus": 0}))
        return 0 if arguments.check else 77
    if arguments.check:
        print(json.dumps({"torch": torch.__version__, "gpus": torch.cuda.device_count()}))
        return 0
    (parallel if arguments.job == "parallel" else work)(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
