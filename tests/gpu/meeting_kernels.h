// SPDX-License-Identifier: Apache-2.0
// Kernels that meet each other in memory, as those of NCCL do: one text for the simulated GPU,
// which goes by the directives, and for a real one, which runs the code. Words are of 32 bits in
// memory that the GPU can reach, and are compared as cuStreamWaitValue32 compares. A kernel arrives
// once, whatever its grid; all its threads wait.
//
//   spin(ns)                          takes so long
//   arrive(ns, word)                  adds 1 to the word, then takes so long
//   await(ns, word, value)            waits until the word is at least `value`, then takes so long
//   meet(ns, peer, word, value)       adds 1 to the word `peer`, then as await
#pragma once

namespace gpu_client {

inline constexpr char kMeetingKernels[] = R"(.version 7.0
.target sm_70
.address_size 64

// vgpu-sim: spin_ns=param0
.visible .entry spin(.param .u64 ns)
{
  .reg .pred %p<2>;
  .reg .b64 %t<5>;
  ld.param.u64 %t1, [ns];
  mov.u64 %t2, %globaltimer;
SPIN:
  mov.u64 %t3, %globaltimer;
  sub.u64 %t4, %t3, %t2;
  setp.lt.u64 %p1, %t4, %t1;
  @%p1 bra SPIN;
  ret;
}

// vgpu-sim: spin_ns=param0 arrive=param1
.visible .entry arrive(.param .u64 ns, .param .u64 word)
{
  .reg .pred %p<2>;
  .reg .b32 %r<4>;
  .reg .b64 %t<6>;
  ld.param.u64 %t1, [ns];
  ld.param.u64 %t5, [word];
  mov.u32 %r1, %ctaid.x;
  mov.u32 %r2, %tid.x;
  or.b32 %r1, %r1, %r2;
  setp.ne.u32 %p1, %r1, 0;
  @%p1 bra ARRIVED;
  atom.release.sys.global.add.u32 %r3, [%t5], 1;
ARRIVED:
  mov.u64 %t2, %globaltimer;
SPIN:
  mov.u64 %t3, %globaltimer;
  sub.u64 %t4, %t3, %t2;
  setp.lt.u64 %p1, %t4, %t1;
  @%p1 bra SPIN;
  ret;
}

// vgpu-sim: spin_ns=param0 wait=param1>=param2
.visible .entry await(.param .u64 ns, .param .u64 word, .param .u32 value)
{
  .reg .pred %p<2>;
  .reg .b32 %r<4>;
  .reg .b64 %t<6>;
  ld.param.u64 %t1, [ns];
  ld.param.u64 %t5, [word];
  ld.param.u32 %r1, [value];
WAIT:
  ld.volatile.global.u32 %r2, [%t5];
  sub.s32 %r3, %r2, %r1;
  setp.lt.s32 %p1, %r3, 0;
  @%p1 bra WAIT;
  mov.u64 %t2, %globaltimer;
SPIN:
  mov.u64 %t3, %globaltimer;
  sub.u64 %t4, %t3, %t2;
  setp.lt.u64 %p1, %t4, %t1;
  @%p1 bra SPIN;
  ret;
}

// vgpu-sim: spin_ns=param0 arrive=param1 wait=param2>=param3
.visible .entry meet(.param .u64 ns, .param .u64 peer, .param .u64 word, .param .u32 value)
{
  .reg .pred %p<2>;
  .reg .b32 %r<5>;
  .reg .b64 %t<7>;
  ld.param.u64 %t1, [ns];
  ld.param.u64 %t6, [peer];
  ld.param.u64 %t5, [word];
  ld.param.u32 %r1, [value];
  mov.u32 %r2, %ctaid.x;
  mov.u32 %r3, %tid.x;
  or.b32 %r2, %r2, %r3;
  setp.ne.u32 %p1, %r2, 0;
  @%p1 bra WAIT;
  atom.release.sys.global.add.u32 %r4, [%t6], 1;
WAIT:
  ld.volatile.global.u32 %r2, [%t5];
  sub.s32 %r3, %r2, %r1;
  setp.lt.s32 %p1, %r3, 0;
  @%p1 bra WAIT;
  mov.u64 %t2, %globaltimer;
SPIN:
  mov.u64 %t3, %globaltimer;
  sub.u64 %t4, %t3, %t2;
  setp.lt.u64 %p1, %t4, %t1;
  @%p1 bra SPIN;
  ret;
}
)";

}  // namespace gpu_client
