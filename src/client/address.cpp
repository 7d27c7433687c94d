// SPDX-License-Identifier: Apache-2.0
#include "vgpu/client/address.h"

#include <fmt/format.h>
#include <sys/un.h>

#include <algorithm>
#include <cstdlib>

#include "vgpu/survey/problem.h"
#include "vgpu/survey/tenants.h"

namespace vgpu::client {
namespace {

constexpr std::string_view kMachinesSocket = "/run/vgpu/hypervisor.sock";
constexpr std::string_view kPort = "8001";

[[noreturn]] void refuse(std::string_view typed, std::string_view why, std::string_view next) {
  throw survey::Problem(survey::kExitUsage, "VG1070",
                        fmt::format("\"{}\" is no address of a daemon: {}", typed, why),
                        std::string(next));
}

Address unix_address(std::string_view typed, std::string_view path) {
  if (path.empty() || path.front() != '/')
    refuse(typed, "a Unix socket needs an absolute path", "unix:/run/vgpu/hypervisor.sock");
  if (path.size() >= sizeof(sockaddr_un::sun_path))
    refuse(typed,
           fmt::format("a Unix socket's path has at most {} characters",
                       sizeof(sockaddr_un::sun_path) - 1),
           "a shorter one");
  Address address;
  address.path = path;
  return address;
}

bool is_port(std::string_view text) {
  const bool digits =
      std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  return digits && !text.empty() && text.size() <= 5 && std::stoul(std::string(text)) <= 65'535;
}

}  // namespace

std::string Address::text() const {
  if (is_unix()) return "unix:" + path;
  return host.find(':') == std::string::npos ? fmt::format("http://{}:{}", host, port)
                                             : fmt::format("http://[{}]:{}", host, port);
}

Address parse_address(std::string_view typed) {
  if (typed.starts_with("/")) return unix_address(typed, typed);
  if (typed.starts_with("unix:")) return unix_address(typed, typed.substr(5));
  if (typed.starts_with("https:")) {
    refuse(typed, "TLS isn't spoken here",
           "ssh -L 8001:127.0.0.1:8001 HOST, then http://127.0.0.1:8001");
  }
  if (const auto scheme = typed.find("://");
      scheme != std::string_view::npos && !typed.starts_with("http://"))
    refuse(typed, fmt::format("{} isn't spoken here", typed.substr(0, scheme)),
           "http://127.0.0.1:8001, or unix:/PATH");
  std::string_view rest = typed;
  if (rest.starts_with("http://")) rest.remove_prefix(7);
  if (rest.ends_with('/')) rest.remove_suffix(1);
  Address address;
  std::string_view port;
  if (rest.starts_with('[')) {
    const auto end = rest.find(']');
    if (end == std::string_view::npos) refuse(typed, "a ] is missing", "http://[::1]:8001");
    address.host = rest.substr(1, end - 1);
    port = rest.substr(end + 1);
  } else {
    const auto colon = std::min(rest.find(':'), rest.size());
    address.host = rest.substr(0, colon);
    port = rest.substr(colon);
  }
  if (address.host.empty() || address.host.find_first_of("/ @?#") != std::string::npos)
    refuse(typed, "there is no host in it", "http://127.0.0.1:8001, or unix:/PATH");
  if (!port.empty() && (port.front() != ':' || !is_port(port.substr(1))))
    refuse(typed, "what follows the host is no port", "http://127.0.0.1:8001");
  address.port = port.empty() ? kPort : port.substr(1);
  return address;
}

std::vector<Address> usual_addresses() {
  const char* set = std::getenv("VGPU_SOCKET");
  if (set != nullptr && *set != '\0') {
    if (std::string_view(set) == "none") return {};
    return {parse_address(set)};
  }
  std::vector<Address> addresses;
  const shm::StateDir dir = survey::state_directory(false);
  const std::string own = fmt::format("{}/hypervisor.sock", dir.path.view());
  for (const std::string_view path : {std::string_view(own), kMachinesSocket}) {
    if (path.size() >= sizeof(sockaddr_un::sun_path)) continue;
    if (addresses.empty() || addresses.front().path != path)
      addresses.push_back(unix_address(path, path));
  }
  return addresses;
}

}  // namespace vgpu::client
