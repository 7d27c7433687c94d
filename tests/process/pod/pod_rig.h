// SPDX-License-Identifier: Apache-2.0
// A pod on a simulated machine of two H200s: its environment, its shared-memory file, and a daemon
// made by hand that answers as it is told.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "rig.h"

namespace vgpu::test {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

struct Device {
  std::string uuid;
  std::uint32_t up_limit = 100;
  std::uint64_t mem_limit = 0;
};

struct Outcome {
  int status = -1;
  std::string out;
  std::string err;
};

class PodRig {
 public:
  PodRig();
  ~PodRig();
  PodRig(const PodRig&) = delete;
  PodRig& operator=(const PodRig&) = delete;

  // Of a program with the limiter that has no variable of a pod; and of one in the pod ml.trainer.
  Environment plain() const;
  Environment pod() const;
  std::string folder() const { return folder_; }
  std::string file() const { return folder_ + "/shm"; }
  std::string token_file() const { return folder_ + "/token"; }
  const std::string& uuid(std::size_t gpu) const { return uuids_[gpu]; }

  // Into the file that is there, as it lies, or into a new one in its place.
  void write_file(const std::vector<Device>& devices, bool anew = false) const;
  void write_file_to(const std::string& path, const std::vector<Device>& devices) const;
  void write_v1_file(const std::vector<Device>& devices) const;

  // The simulated nvidia-smi, or what else `command` says to sh.
  Outcome run(const Environment& environment, const std::string& command = "nvidia-smi") const;
  std::size_t tenants() const;

 private:
  std::string folder_;
  std::vector<std::string> uuids_;
};

// A child that a worker has left behind, as it answered; ended with this.
class Child {
 public:
  explicit Child(const Answer& answer) : pid_(answer.code == 0 ? answer.number : 0) {}
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  // False: there is none.
  bool started() const { return pid_ > 1; }
  long pid() const { return pid_; }

 private:
  long pid_;
};

// Listens on loopback. Each connection is answered with what `answer` says of its request, and kept
// open or closed as that says.
class HandMadeDaemon {
 public:
  enum class Way {
    whole,
    endless,  // a first line, and then what is said for ever
    silent,
    drips,  // a byte at a time
  };
  HandMadeDaemon();
  ~HandMadeDaemon();
  HandMadeDaemon(const HandMadeDaemon&) = delete;
  HandMadeDaemon& operator=(const HandMadeDaemon&) = delete;

  std::string port() const { return std::to_string(port_); }
  // What follows from now on. `reply`: all of it, its head too.
  void set(const std::string& reply, Way way = Way::whole);
  // Called before a request is answered.
  void when_asked(std::function<void()> asked);
  std::vector<std::string> requests() const;
  // How many began like that.
  long count(const std::string& beginning) const;

 private:
  void serve();
  void serve(int connection);

  int socket_ = -1;
  int port_ = 0;
  std::atomic<bool> ends_{false};
  mutable std::mutex mutex_;
  std::string reply_;
  std::function<void()> asked_;
  Way way_ = Way::whole;
  std::vector<std::string> requests_;
  std::vector<std::thread> connections_;
  std::thread thread_;
};

// 200 with a body of JSON.
std::string ok(const std::string& body);

}  // namespace vgpu::test
