// SPDX-License-Identifier: Apache-2.0
// dlsym, dlvsym, dlopen for x86-64: ask vgpu_before_*; with an answer return it, else jump to libc's own with the
// arguments and the caller's return address as they came. A program that contains the limiter keeps libc's names for libc.

#ifdef VGPU_PLAIN_EXPORTS
#define EXPORT(name)
#else
#define EXPORT(name)                 \
  .globl name;                       \
  .type name, @function;             \
  name:
#endif
#define ENTRY(name)                  \
  .hidden vgpu_##name;               \
  .globl vgpu_##name;                \
  .type vgpu_##name, @function;      \
  .p2align 4;                        \
  EXPORT(name)                       \
  vgpu_##name:

// On entry rsp is 8 below a multiple of 16: three pushes make it one.
#define ASK(function, caller)                     \
  .cfi_startproc;                                 \
  endbr64;                                        \
  pushq %rdi;                                     \
  .cfi_adjust_cfa_offset 8;                       \
  pushq %rsi;                                     \
  .cfi_adjust_cfa_offset 8;                       \
  pushq %rdx;                                     \
  .cfi_adjust_cfa_offset 8;                       \
  movq 24(%rsp), caller;                          \
  call function;                                  \
  testq %rdx, %rdx;                               \
  popq %rdx;                                      \
  .cfi_adjust_cfa_offset -8;                      \
  popq %rsi;                                      \
  .cfi_adjust_cfa_offset -8;                      \
  popq %rdi;                                      \
  .cfi_adjust_cfa_offset -8

#define GO_ON(real)                               \
  jne 1f;                                         \
  movq real(%rip), %rax;                          \
  testq %rax, %rax;                               \
  je 1f;                                          \
  jmpq *%rax;                                     \
1:                                                \
  ret;                                            \
  .cfi_endproc

  .hidden vgpu_before_dlsym
  .hidden vgpu_before_dlvsym
  .hidden vgpu_before_dlopen
  .hidden vgpu_real_dlsym
  .hidden vgpu_real_dlvsym
  .hidden vgpu_real_dlopen

  .text
ENTRY(dlsym)
  ASK(vgpu_before_dlsym, %rdx)
  GO_ON(vgpu_real_dlsym)
  .size vgpu_dlsym, .-vgpu_dlsym

ENTRY(dlvsym)
  ASK(vgpu_before_dlvsym, %rcx)
  GO_ON(vgpu_real_dlvsym)
  .size vgpu_dlvsym, .-vgpu_dlvsym

ENTRY(dlopen)
  ASK(vgpu_before_dlopen, %rdx)
  GO_ON(vgpu_real_dlopen)
  .size vgpu_dlopen, .-vgpu_dlopen

  .section .note.GNU-stack, "", @progbits
