// SPDX-License-Identifier: Apache-2.0
#include "pod_rig.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "vgpu/pod/file_layout.h"

namespace vgpu::test {
namespace {

namespace fs = std::filesystem;

std::string text_of(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

template <class Layout>
Layout layout_of(const std::vector<Device>& devices) {
  Layout layout{};
  layout.discriminant = static_cast<std::uint32_t>(Layout::kVersion);
  layout.device_count = static_cast<std::uint32_t>(devices.size());
  layout.last_heartbeat = 1;  // in 1970: nobody cares
  for (std::size_t i = 0; i < devices.size(); ++i) {
    auto& device = layout.devices[i];
    std::strncpy(device.uuid, devices[i].uuid.c_str(), sizeof device.uuid - 1);
    device.up_limit = devices[i].up_limit;
    device.mem_limit = devices[i].mem_limit;
    device.is_active = 1;
  }
  return layout;
}

template <class Layout>
void write_layout(const std::string& path, const Layout& layout) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || ::pwrite(fd, &layout, sizeof layout, 0) != static_cast<ssize_t>(sizeof layout))
    throw std::runtime_error(path);
  ::close(fd);
}

}  // namespace

PodRig::PodRig() {
  std::string name = (fs::temp_directory_path() / "vgpu-pod-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
  folder_ = name;
  ::signal(SIGPIPE, SIG_IGN);
  std::ofstream(token_file()) << "  a-token\n";
  Environment alone = plain();
  alone.erase("LD_PRELOAD");
  std::istringstream list(run(alone, "nvidia-smi -L").out);
  for (std::string line; std::getline(list, line);) {
    const std::size_t at = line.find("GPU-");
    if (at != std::string::npos) uuids_.push_back(line.substr(at, 40));
  }
  if (uuids_.size() != 2) throw std::runtime_error("the simulated machine has two GPUs");
}

PodRig::~PodRig() {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

Environment PodRig::plain() const {
  return {{"PATH", VGPU_SIMULATED_DIR ":/usr/bin:/bin"},
          {"LD_LIBRARY_PATH", VGPU_SIMULATED_DIR},
          {"LD_PRELOAD", VGPU_LIMITER},
          {"TSAN_OPTIONS", "halt_on_error=1"},
          {"VGPU_SIM_STATE", folder_ + "/gpus"},
          {"VGPU_SIM_DEVICES", "h200:2"},
          {"VGPU_STATE_DIR", folder_ + "/tenants"}};
}

Environment PodRig::pod() const {
  Environment environment = plain();
  environment["POD_NAMESPACE"] = "ml";
  environment["POD_NAME"] = "trainer";
  environment["CONTAINER_NAME"] = "main one";
  environment["TF_SHM_PATH"] = file();
  environment["TF_ISOLATION_MODE"] = "soft";
  environment["VGPU_POD_TOKEN"] = token_file();
  return environment;
}

void PodRig::write_file(const std::vector<Device>& devices, bool anew) const {
  if (anew) fs::remove(file());
  write_file_to(file(), devices);
}

void PodRig::write_file_to(const std::string& path, const std::vector<Device>& devices) const {
  write_layout(path, layout_of<pod_file::V2>(devices));
}

void PodRig::write_v1_file(const std::vector<Device>& devices) const {
  fs::remove(file());
  write_layout(file(), layout_of<pod_file::V1>(devices));
}

Outcome PodRig::run(const Environment& environment, const std::string& command) const {
  std::string line = "env -i";
  for (const auto& [name, value] : environment) {
    line.append(" ").append(name).append("='").append(value).append("'");
  }
  line += " sh -c '" + command + "' </dev/null >" + folder_ + "/out 2>" + folder_ + "/err";
  Outcome outcome;
  const int status = std::system(line.c_str());
  outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  outcome.out = text_of(folder_ + "/out");
  outcome.err = text_of(folder_ + "/err");
  return outcome;
}

std::size_t PodRig::tenants() const {
  std::size_t count = 0;
  for (const auto& entry : fs::directory_iterator(folder_ + "/tenants"))
    count += entry.path().extension() == ".tenant" ? 1 : 0;
  return count;
}

Child::~Child() {
  // Nothing below names one process, and -1 names all.
  if (started()) ::kill(static_cast<pid_t>(pid_), SIGKILL);
}

HandMadeDaemon::HandMadeDaemon() {
  socket_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (::bind(socket_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      ::listen(socket_, 64) != 0 ||
      ::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw std::runtime_error("no socket to listen on");
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { serve(); });
}

HandMadeDaemon::~HandMadeDaemon() {
  ends_ = true;
  ::shutdown(socket_, SHUT_RDWR);
  thread_.join();
  for (std::thread& connection : connections_) connection.join();
  ::close(socket_);
}

void HandMadeDaemon::set(const std::string& reply, Way way) {
  const std::lock_guard lock(mutex_);
  reply_ = reply;
  way_ = way;
}

void HandMadeDaemon::when_asked(std::function<void()> asked) {
  const std::lock_guard lock(mutex_);
  asked_ = std::move(asked);
}

std::vector<std::string> HandMadeDaemon::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

long HandMadeDaemon::count(const std::string& beginning) const {
  long found = 0;
  for (const std::string& request : requests()) found += request.starts_with(beginning) ? 1 : 0;
  return found;
}

void HandMadeDaemon::serve() {
  while (!ends_) {
    const int connection = ::accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) continue;
    connections_.emplace_back([this, connection] { serve(connection); });
  }
}

void HandMadeDaemon::serve(int connection) {
  std::string request;
  char byte = 0;
  while (!request.ends_with("\r\n\r\n") && ::recv(connection, &byte, 1, 0) == 1) request += byte;
  std::string reply;
  Way way = Way::whole;
  {
    const std::lock_guard lock(mutex_);
    requests_.push_back(request);
    reply = reply_;
    way = way_;
    if (asked_) asked_();
  }
  const auto send = [&](std::string_view text) {
    return ::send(connection, text.data(), text.size(), MSG_NOSIGNAL) > 0;
  };
  const auto peer_is_there = [&](int wait_ms) {
    pollfd end{connection, POLLRDHUP, 0};
    return !ends_ && ::poll(&end, 1, wait_ms) == 0;
  };
  switch (way) {
    case Way::whole:
      send(reply);
      break;
    case Way::endless:
      send("HTTP/1.1 200 OK\r\n");
      while (!ends_ && send(reply)) {
      }
      break;
    case Way::silent:
      while (peer_is_there(20)) {
      }
      break;
    case Way::drips:
      for (std::size_t at = 0; peer_is_there(20); ++at) send(reply.substr(at % reply.size(), 1));
      break;
  }
  ::close(connection);
}

std::string ok(const std::string& body) {
  return "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body;
}

}  // namespace vgpu::test
