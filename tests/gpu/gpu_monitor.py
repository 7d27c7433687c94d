# SPDX-License-Identifier: Apache-2.0
"""What the driver itself says of a GPU, read by NVML from a process without the limiter."""
import ctypes
import sys
import threading
import time


class _Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


class _Process(ctypes.Structure):
    _fields_ = [("pid", ctypes.c_uint), ("used", ctypes.c_ulonglong), ("gpu_instance", ctypes.c_uint), ("compute_instance", ctypes.c_uint)]


class Gpu:
    def __init__(self, index=0):
        self._nvml = ctypes.CDLL("libnvidia-ml.so.1")
        if self._nvml.nvmlInit_v2() != 0:
            raise OSError("NVML does not start")
        self._handle = ctypes.c_void_p()
        if self._nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(self._handle)) != 0:
            raise OSError(f"there is no GPU {index}")

    def _text(self, call, *arguments):
        buffer = ctypes.create_string_buffer(96)
        getattr(self._nvml, call)(*arguments, buffer, 96)
        return buffer.value.decode()

    def name(self):
        return self._text("nvmlDeviceGetName", self._handle)

    def uuid(self):
        return self._text("nvmlDeviceGetUUID", self._handle)

    def driver(self):
        return self._text("nvmlSystemGetDriverVersion")

    def used(self):
        memory = _Memory()
        self._nvml.nvmlDeviceGetMemoryInfo(self._handle, ctypes.byref(memory))
        return memory.used

    def processes(self):
        count = ctypes.c_uint(1024)
        processes = (_Process * 1024)()
        if self._nvml.nvmlDeviceGetComputeRunningProcesses_v3(self._handle, ctypes.byref(count), processes) != 0:
            return {}
        return {p.pid: p.used for p in processes[: count.value] if p.used < 1 << 60}


class Watch:
    """Peaks between start and stop, sampled about every 0.3 ms: growth of the whole GPU, and the sum over processes."""

    def __init__(self, gpu):
        self._gpu = gpu
        self.base = gpu.used()
        self.peak_growth = 0
        self.peak_processes = 0
        self.samples = 0
        self._stop = False
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop = True
        self._thread.join()

    def _run(self):
        while not self._stop:
            self.peak_growth = max(self.peak_growth, self._gpu.used() - self.base)
            if self.samples % 8 == 0:
                self.peak_processes = max(self.peak_processes, sum(self._gpu.processes().values()))
            self.samples += 1
            time.sleep(0.0003)

    def growth(self):
        return self._gpu.used() - self.base

    def wait_until_idle(self, seconds=10):
        deadline = time.monotonic() + seconds
        while self._gpu.processes() and time.monotonic() < deadline:
            time.sleep(0.01)
        if self._gpu.processes():
            print(f"a process is still on the GPU after {seconds} s: its memory is in what is measured next", file=sys.stderr)
