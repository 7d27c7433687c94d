#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What PyTorch says of the GPUs, as one line of JSON: device_count, is_available, memory and utilisation of the first.

  visible_gpus.py [--set VALUE]     VALUE: put into CUDA_VISIBLE_DEVICES inside Python, before the import
exit 0: said; 77: PyTorch isn't installed.
"""
import json
import os
import sys

if sys.argv[1:2] == ["--set"]:
    os.environ["CUDA_VISIBLE_DEVICES"] = sys.argv[2]
try:
    import torch
except ImportError:
    sys.exit(77)

said = {"device_count": torch.cuda.device_count(), "is_available": torch.cuda.is_available()}
if said["is_available"]:
    free, total = torch.cuda.mem_get_info()
    said.update(name=torch.cuda.get_device_name(0), free_mib=free >> 20, total_mib=total >> 20,
                property_mib=torch.cuda.get_device_properties(0).total_memory >> 20)
    try:
        said["utilization"] = torch.cuda.utilization()
    except Exception as error:  # without NVML's Python package, or where NVML has no figure
        said["utilization"] = f"{type(error).__name__}: {error}"[:80]
print(json.dumps(said))
