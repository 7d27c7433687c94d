#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One job of one framework, as a user would write it: full size first; when the framework itself reports that the GPU is
out of memory, it lets go and does the job again at a quarter of the size. Prints one line of JSON.

  frameworks.py {torch,torch-expandable,torch-async,torch-graphs,jax,cupy,cupy-async,numba}

exit 0: finished (maybe smaller); 77: the framework isn't installed; anything else: it broke.
"""
import gc
import json
import os
import sys

FULL_MIB = 3072  # what the job's data take at full size


def torch_job(kind):
    if kind == "torch-expandable":
        os.environ["PYTORCH_CUDA_ALLOC_CONF"] = os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"
    if kind == "torch-async":
        os.environ["PYTORCH_CUDA_ALLOC_CONF"] = os.environ["PYTORCH_ALLOC_CONF"] = "backend:cudaMallocAsync"
    import torch

    def run(mib):
        torch.manual_seed(1)
        width = 2048
        net = torch.nn.Sequential(*[torch.nn.Sequential(torch.nn.Linear(width, width), torch.nn.GELU()) for _ in range(6)]).cuda()
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
        # Activations are most of it: two tensors a layer of rows x width floats, kept for the backward pass.
        rows = mib * 1024 * 1024 // (width * 4 * 16)
        x = torch.randn(rows, width, device="cuda")

        def step():
            optimizer.zero_grad(set_to_none=False)
            loss = net(x).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        if kind == "torch-graphs":
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    step()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                loss = step()
            for _ in range(5):
                graph.replay()
        else:
            for _ in range(5):
                loss = step()
        return float(loss)

    def free():
        gc.collect()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()

    seen = {}
    torch.cuda.init()
    # cuBLAS takes a handle and a workspace for each thread at its first product (the backward pass has a thread of its own),
    # outside of PyTorch's allocator and without its retry: before the GPU is full, as any job does that has made a step by then.
    torch.nn.Linear(8, 8).cuda()(torch.ones(8, 8, device="cuda", requires_grad=True)).sum().backward()
    torch.cuda.synchronize()
    free_bytes, total_bytes = torch.cuda.mem_get_info()
    seen.update(device_count=torch.cuda.device_count(), total_mib=total_bytes >> 20, free_mib=free_bytes >> 20)
    return run, torch.OutOfMemoryError, free, seen


def jax_job(kind):
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    os.environ["XLA_PYTHON_CLIENT_ALLOCATOR"] = "platform"
    import jax
    import jax.numpy as jnp

    def run(mib):
        n = mib * 1024 * 1024 // 4 // 4 // 4096
        a = jnp.ones((n, 4096), jnp.float32)
        b = (a * 2.0).block_until_ready()
        c = (a + b).block_until_ready()
        d = (c * b).block_until_ready()
        return float(d[-1, -1])

    return run, jax.errors.JaxRuntimeError, gc.collect, {"device_count": jax.device_count()}


def cupy_job(kind):
    import cupy

    if kind == "cupy-async":
        cupy.cuda.set_allocator(cupy.cuda.MemoryAsyncPool().malloc)

    def run(mib):
        n = mib * 1024 * 1024 // 4 // 4
        a = cupy.ones(n, cupy.float32)
        b = a * 2
        c = a + b
        d = c * b
        return float(d[-1])

    def free():
        gc.collect()
        cupy.cuda.Device().synchronize()
        cupy.get_default_memory_pool().free_all_blocks()

    return run, cupy.cuda.memory.OutOfMemoryError, free, {"device_count": cupy.cuda.runtime.getDeviceCount()}


def numba_job(kind):
    import numpy

    if not hasattr(numpy, "row_stack"):
        numpy.row_stack = numpy.vstack  # numba builds that still ask numpy 2 for it
    from numba import cuda

    try:
        from numba.cuda.cudadrv.driver import CudaAPIError
    except ImportError:
        from numba.cuda.core.errors import CudaAPIError  # newer layouts
    @cuda.jit
    def scale(x, y):
        i = cuda.grid(1)
        if i < x.size:
            y[i] = 2 * x[i]

    def run(mib):
        n = mib * 1024 * 1024 // 4 // 4
        arrays = [cuda.device_array(n, numpy.float32) for _ in range(4)]
        for x, y in zip(arrays, arrays[1:]):
            scale[(n + 255) // 256, 256](x, y)
        cuda.synchronize()
        return float(arrays[-1][0:1].copy_to_host()[0])

    def free():
        gc.collect()
        cuda.current_context().deallocations.clear()

    return run, CudaAPIError, free, {"device_count": len(cuda.gpus)}


def main():
    kind = sys.argv[1]
    jobs = {"torch": torch_job, "jax": jax_job, "cupy": cupy_job, "numba": numba_job}
    result = {"framework": kind, "out_of_memory": None}
    try:
        run, out_of_memory, free, seen = jobs[kind.split("-")[0]](kind)
    except ImportError as missing:
        print(json.dumps({"framework": kind, "skipped": str(missing)}))
        return 77
    result.update(seen)
    mib = FULL_MIB
    try:
        result["value"] = run(mib)
    except out_of_memory as error:
        text = str(error)
        if kind in ("jax", "numba") and not any(word in text for word in ("RESOURCE_EXHAUSTED", "OUT_OF_MEMORY", "out of memory", "Out of memory")):
            raise
        result["out_of_memory"] = type(error).__name__ + ": " + text.splitlines()[0][:160]
    if result["out_of_memory"]:
        free()
        mib //= 4
        result["value"] = run(mib)
    free()
    result["finished_mib"] = mib
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
