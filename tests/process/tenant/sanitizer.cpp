// SPDX-License-Identifier: Apache-2.0
// What the thread sanitizer can't know of the dynamic loader.
#if defined(__SANITIZE_THREAD__)

// The loader writes the names of its objects under a lock of its own, which the sanitizer doesn't
// see, and shows them to dl_iterate_phdr's callback under the same lock.
extern "C" const char* __tsan_default_suppressions() { return "race:dl_iterate_phdr_cb\n"; }

#endif
