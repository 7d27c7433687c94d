// SPDX-License-Identifier: Apache-2.0
// What the compiler may refer to and libstdc++ would define; this library doesn't have libstdc++.

// A class with pure virtual functions names it in its table. No object of ours is called while it is built.
extern "C" [[noreturn]] __attribute__((visibility("hidden"))) void __cxa_pure_virtual() { __builtin_trap(); }
