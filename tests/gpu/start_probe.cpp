// SPDX-License-Identifier: Apache-2.0
// start_probe init|context: starts up as far as asked and ends. Prints nothing; exit 0 when it got
// there.
#include <cstring>

#include "gpu_client.h"

using namespace gpu_client;

int main(int argc, char** argv) {
  if (!load_driver()) return no_driver();
  if (argc > 1 && std::strcmp(argv[1], "context") == 0) return use_device(0) ? 0 : 1;
  return cu.cuInit(0) == CUDA_SUCCESS ? 0 : 1;
}
