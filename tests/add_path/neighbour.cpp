// SPDX-License-Identifier: Apache-2.0
// Another preloaded library that changes the environment in its constructor, as a limiter does.
#include <cstdlib>

[[gnu::constructor]] static void join() { setenv("NEIGHBOUR", "here", 1); }
