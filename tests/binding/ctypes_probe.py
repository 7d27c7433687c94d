# SPDX-License-Identifier: Apache-2.0
# The same check as probe.h, through ctypes. Arguments NAME=VALUE are set in os.environ first, as notebooks do.
import ctypes
import os
import sys

for setting in sys.argv[1:]:
    name, value = setting.split("=", 1)
    os.environ[name] = value

cuda = ctypes.CDLL("libcuda.so.1")
device = ctypes.c_int(-1)
context = ctypes.c_void_p()
pointer = ctypes.c_uint64()


def expect(wanted, result, what):
    if result != wanted:
        sys.exit(f"{what}: {result}")


expect(0, cuda.cuInit(0), "cuInit")
expect(0, cuda.cuDeviceGet(ctypes.byref(device), 0), "cuDeviceGet")
expect(0, cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device), "cuDevicePrimaryCtxRetain")
expect(0, cuda.cuCtxSetCurrent(context), "cuCtxSetCurrent")
expect(0, cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(64 << 20)), "within the limit")
expect(2, cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(3 << 30)), "over the limit")
