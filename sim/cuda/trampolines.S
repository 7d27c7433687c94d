// SPDX-License-Identifier: Apache-2.0
// One exported entry for every name of the driver: a byte says whether the call goes straight to its implementation or
// through vgpu_sim_enter, which arms faults and, once, fills in what isn't simulated. One row of vgpu_sim_table each:
// name, entry, implementation, byte. Stack arguments stay where they are, so signatures don't matter here.

#define VGPU_HOOK(symbol, family, since, params, args) entry symbol
#define VGPU_CALL(symbol, reason, since, params, args) entry symbol
#define VGPU_UNTYPED(symbol, kind, reason) kind##_symbol symbol

#if defined(__x86_64__)

.macro entry name
    .text
    .globl \name
    .type \name, @function
    .p2align 4
\name:
.Lentry_\name:
    endbr64
    cmpb $0, .Lrow_\name+24(%rip)
    jne 1f
    jmp *.Lrow_\name+16(%rip)
1:  leaq .Lrow_\name(%rip), %rax
    jmp vgpu_sim_slow
    .size \name, .-\name
    row \name
.endm

    .text
    .p2align 4
vgpu_sim_slow:
    .cfi_startproc
    pushq %rbp
    .cfi_def_cfa_offset 16
    .cfi_offset %rbp, -16
    movq %rsp, %rbp
    .cfi_def_cfa_register %rbp
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq %rcx
    pushq %r8
    pushq %r9
    subq $32, %rsp
    movq %rax, (%rsp)
    movsd %xmm0, 8(%rsp)
    movq %rax, %rdi
    call vgpu_sim_enter
    movl %eax, %r11d
    movq (%rsp), %rax
    movsd 8(%rsp), %xmm0
    addq $32, %rsp
    popq %r9
    popq %r8
    popq %rcx
    popq %rdx
    popq %rsi
    popq %rdi
    popq %rbp
    .cfi_def_cfa %rsp, 8
    cmpl $-1, %r11d
    jne 1f
    jmp *16(%rax)
1:  movl %r11d, %eax
    ret
    .cfi_endproc

#elif defined(__aarch64__)

.macro entry name
    .text
    .globl \name
    .type \name, %function
    .p2align 4
\name:
.Lentry_\name:
    adrp x16, .Lrow_\name
    add x16, x16, :lo12:.Lrow_\name
    add x17, x16, #24
    ldarb w17, [x17]
    cbnz w17, vgpu_sim_slow
    ldr x16, [x16, #16]
    br x16
    .size \name, .-\name
    row \name
.endm

    .text
    .p2align 4
vgpu_sim_slow:
    .cfi_startproc
    stp x29, x30, [sp, #-112]!
    .cfi_def_cfa_offset 112
    .cfi_offset 29, -112
    .cfi_offset 30, -104
    stp x0, x1, [sp, #16]
    stp x2, x3, [sp, #32]
    stp x4, x5, [sp, #48]
    stp x6, x7, [sp, #64]
    stp x8, x16, [sp, #80]
    str d0, [sp, #96]
    mov x0, x16
    bl vgpu_sim_enter
    mov w17, w0
    ldp x0, x1, [sp, #16]
    ldp x2, x3, [sp, #32]
    ldp x4, x5, [sp, #48]
    ldp x6, x7, [sp, #64]
    ldp x8, x16, [sp, #80]
    ldr d0, [sp, #96]
    ldp x29, x30, [sp], #112
    .cfi_def_cfa_offset 0
    cmn w17, #1
    b.ne 1f
    ldr x16, [x16, #16]
    br x16
1:  mov w0, w17
    ret
    .cfi_endproc

#else
#error "the simulated driver has no entries for this processor"
#endif

.macro row name
    .weak sim_\name
    .hidden sim_\name
    .section .rodata.vgpu_names, "a", %progbits
.Lname_\name:
    .asciz "\name"
    .section vgpu_sim_table, "aw", %progbits
    .p2align 3
.Lrow_\name:
    .quad .Lname_\name
    .quad .Lentry_\name
    .quad sim_\name
    .quad 1
.endm

.macro function_symbol name
    entry \name
.endm

.macro data_symbol name
    .bss
    .globl \name
    .type \name, %object
    .size \name, 64
    .p2align 4
\name:
    .zero 64
.endm

#include "vgpu/api/driver_hooks.def"
#include "vgpu/api/driver_calls.def"
#include "vgpu/api/driver_untyped.def"

    .section .note.GNU-stack, "", %progbits
