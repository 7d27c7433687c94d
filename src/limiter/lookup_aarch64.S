// SPDX-License-Identifier: Apache-2.0
// dlsym, dlvsym, dlopen for arm64: ask vgpu_before_*; with an answer return it, else branch to libc's own with the
// arguments and the caller's return address as they came. A program that contains the limiter keeps libc's names for libc.

#ifdef VGPU_PLAIN_EXPORTS
#define EXPORT(name)
#else
#define EXPORT(name)                 \
  .globl name;                       \
  .type name, %function;             \
  name:
#endif
#define ENTRY(name)                  \
  .hidden vgpu_##name;               \
  .globl vgpu_##name;                \
  .type vgpu_##name, %function;      \
  .p2align 4;                        \
  EXPORT(name)                       \
  vgpu_##name:

#define ASK(function, caller)                     \
  .cfi_startproc;                                 \
  hint 34 /* bti c */;                            \
  stp x29, x30, [sp, -48]!;                       \
  .cfi_def_cfa_offset 48;                         \
  .cfi_offset 29, -48;                            \
  .cfi_offset 30, -40;                            \
  mov x29, sp;                                    \
  stp x0, x1, [sp, 16];                           \
  str x2, [sp, 32];                               \
  mov caller, x30;                                \
  bl function;                                    \
  mov x16, x0;                                    \
  mov x17, x1;                                    \
  ldp x0, x1, [sp, 16];                           \
  ldr x2, [sp, 32];                               \
  ldp x29, x30, [sp], 48;                         \
  .cfi_restore 30;                                \
  .cfi_restore 29;                                \
  .cfi_def_cfa_offset 0

#define GO_ON(real)                               \
  cbnz x17, 1f;                                   \
  adrp x16, real;                                 \
  ldr x16, [x16, :lo12:real];                     \
  cbz x16, 1f;                                    \
  br x16;                                         \
1:                                                \
  mov x0, x16;                                    \
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
  ASK(vgpu_before_dlsym, x2)
  GO_ON(vgpu_real_dlsym)
  .size vgpu_dlsym, .-vgpu_dlsym

ENTRY(dlvsym)
  ASK(vgpu_before_dlvsym, x3)
  GO_ON(vgpu_real_dlvsym)
  .size vgpu_dlvsym, .-vgpu_dlvsym

ENTRY(dlopen)
  ASK(vgpu_before_dlopen, x2)
  GO_ON(vgpu_real_dlopen)
  .size vgpu_dlopen, .-vgpu_dlopen

  .section .note.GNU-stack, "", %progbits
