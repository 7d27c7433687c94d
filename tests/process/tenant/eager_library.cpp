// SPDX-License-Identifier: Apache-2.0
// A library that uses the GPU as soon as it is opened, by a function of the program that opens it.
extern "C" void vgpu_in_constructor();

namespace {

__attribute__((constructor)) void at_load() { vgpu_in_constructor(); }

}  // namespace
