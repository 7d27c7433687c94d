// SPDX-License-Identifier: Apache-2.0
#include "service.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <system_error>

#include "api.h"
#include "metrics.h"
#include "pages.h"
#include "predecessor.h"
#include "server.h"
#include "vgpu/survey/problem.h"

namespace vgpu::hypervisor {
namespace http {
namespace {

void say(const std::string& line) { fmt::print(stderr, "hypervisor: http: {}\n", line); }

[[noreturn]] void refuse(const std::string& what) {
  throw survey::Problem(survey::kExitFailed, "VG2101", "http: " + what);
}

// The socket for whoever may change things, for those who may connect to it.
ListenAddress accessible(ListenAddress address, const HttpOptions& options) {
  if (options.socket_access == SocketAccess::all) address.mode = 0666;
  if (options.socket_access == SocketAccess::group) {
    address.mode = 0660;
    address.group = options.socket_group;
  }
  return address;
}

std::vector<ListenAddress> addresses_of(const HttpOptions& options, const std::string& state_dir) {
  std::vector<ListenAddress> addresses;
  for (const auto& text : options.listen) {
    if (text == "none" && options.listen.size() == 1) break;
    addresses.push_back(parse_listen_address(text));
  }
  for (const auto& text : options.listen_for_pods) {
    addresses.push_back(parse_listen_address(text));
    addresses.back().for_pods = true;
  }
  if (options.socket == "none") return addresses;
  if (!options.socket.empty()) {
    addresses.push_back(accessible(parse_listen_address(options.socket), options));
    return addresses;
  }
  const std::string path =
      options.default_socket.empty() ? state_dir + "/hypervisor.sock" : options.default_socket;
  std::error_code ignored;  // listening says what is wrong
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  try {
    addresses.push_back(accessible(parse_listen_address("unix:" + path), options));
  } catch (const std::invalid_argument& too_long) {
    say(fmt::format("{}; not served there", too_long.what()));
  }
  return addresses;
}

// Defaults that another daemon has already are left out; what was asked for is needed.
bool is_taken(const ListenAddress& address) {
  try {
    listen_on(address);
    return false;
  } catch (const std::runtime_error& taken) {
    say(fmt::format("{}; not served there", taken.what()));
    return true;
  }
}

ServerSettings settings_of(const HttpOptions& options, const std::string& state_dir) {
  ServerSettings settings;
  settings.addresses = addresses_of(options, state_dir);
  settings.sockets = options.sockets;
  // Systemd's socket is bound where the daemon would listen itself.
  for (const int given : settings.sockets) {
    std::erase_if(settings.addresses, [there = address_of(given).text()](const auto& address) {
      return address.text() == there;
    });
  }
  if (options.listen_is_default) {
    std::erase_if(settings.addresses, [](const ListenAddress& address) {
      return !address.host.empty() && !address.for_pods && is_taken(address);
    });
  }
  settings.tls_certificate_file = options.tls_certificate_file;
  settings.tls_key_file = options.tls_key_file;
  settings.limits.requests_per_second = options.requests_per_second;
  settings.limits.burst = options.requests_per_second * 4;
  settings.limits.connections = options.connections;
  settings.limits.connections_of_peer = std::max<std::size_t>(1, options.connections / 4);
  settings.log = say;
  return settings;
}

TokenSettings tokens_of(const HttpOptions& options) {
  TokenSettings tokens;
  tokens.key_file = options.token_key_file;
  tokens.jwks_file = options.token_jwks_file;
  tokens.audience = options.token_audience;
  tokens.issuer = options.token_issuer;
  return tokens;
}

std::shared_ptr<const TokenVerifier> verifier_of(const HttpOptions& options) {
  const TokenSettings tokens = tokens_of(options);
  return tokens.has_key() ? std::make_shared<const TokenVerifier>(tokens) : nullptr;
}

class HttpService final : public Service {
 public:
  HttpService(Control& control, const HttpOptions& options) : verifier_(verifier_of(options)) {
    Router router;
    add_all_routes(router, control, options, [this] { return server_.get(); });
    const AccessSettings access{geteuid(), options.open_reads, options.containers_are_users};
    server_ = std::make_unique<Server>(
        settings_of(options, control.state()->state_directory), std::move(router),
        [this, access](const Peer& peer, const Credentials& credentials) {
          const auto verifier = current_verifier();
          return identify(peer, credentials, access, verifier.get(), std::time(nullptr));
        });
    server_->start();
    for (const auto& address : server_->addresses())
      say(fmt::format("listening on {}{}", address.text(), address.for_pods ? ", for pods" : ""));
  }

  void stop() override { server_->stop(); }

  // Keys and certificates, whose files change while the daemon runs; the old ones stay where the
  // new ones are no good. Addresses stay until the next start.
  void reload(const DaemonOptions& options) override {
    try {
      auto fresh = verifier_of(options.http);
      server_->reload_tls();
      const std::lock_guard lock(mutex_);
      verifier_ = std::move(fresh);
    } catch (const std::exception& reason) {
      say(fmt::format("{}; the keys read before stay", reason.what()));
    }
  }

 private:
  std::shared_ptr<const TokenVerifier> current_verifier() {
    const std::lock_guard lock(mutex_);
    return verifier_;
  }

  std::mutex mutex_;
  std::shared_ptr<const TokenVerifier> verifier_;  // guarded by mutex_
  std::unique_ptr<Server> server_;
};

}  // namespace

void add_all_routes(Router& router, Control& control, const HttpOptions& options,
                    std::function<const Server*()> server) {
  add_page_routes(router);
  add_predecessor_routes(router, control, options.pods);
  add_api_routes(router, control, geteuid(), options.pods);
  router.add({"GET", "/metrics", Access::read, [&control, server = std::move(server)](const Ask&) {
                const Server* serving = server();
                Answer answer;
                answer.type = "text/plain; version=0.0.4; charset=utf-8";
                answer.body = metrics_text(metrics_of(
                    *control.state(), serving == nullptr ? ServerFigures{} : serving->figures(),
                    read_own_figures()));
                return answer;
              }});
}

}  // namespace http

std::unique_ptr<Service> start_http(Control& control, const DaemonOptions& options) {
  try {
    return std::make_unique<http::HttpService>(control, options.http);
  } catch (const std::exception& reason) {
    http::refuse(reason.what());
  }
}

}  // namespace vgpu::hypervisor
