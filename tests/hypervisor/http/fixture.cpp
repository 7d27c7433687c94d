// SPDX-License-Identifier: Apache-2.0
// http_fixture SOCKET KEY_FILE TENANTS: serves a moment made by hand with at least two tenants, on
// a free port of loopback and on SOCKET; prints its port and each route, then waits for the end of
// its input, each line of which is the kind of an event that happens then. For the tests that are
// scripts.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <string>

#include "hand_made.h"
#include "http/server.h"
#include "http/service.h"

int main(int argc, char** argv) {
  using namespace vgpu::hypervisor;
  if (argc != 4) return 2;
  NodeState moment = http_test::full_state();
  for (int i = static_cast<int>(moment.tenants.size()); i < std::atoi(argv[3]); ++i) {
    const std::string name = fmt::format("tenant-{}", i);
    moment.tenants.push_back(http_test::full_tenant(name + "-id", name));
  }
  http_test::HandMadeControl control(moment);
  http::TokenSettings tokens;
  tokens.key_file = argv[2];
  const http::TokenVerifier verifier(tokens);
  const http::Server* serving = nullptr;
  http::Router router;
  HttpOptions options;
  options.pods = {{"default", "notebook", "ml.trainer"}};
  http::add_all_routes(router, control, options, [&] { return serving; });
  http::ServerSettings settings;
  settings.addresses = {http::parse_listen_address("127.0.0.1:0"),
                        http::parse_listen_address(argv[1])};
  http::Server server(
      settings, std::move(router),
      [&](const http::Peer& peer, const http::Credentials& credentials) {
        return http::identify(peer, credentials, {geteuid(), false}, &verifier, std::time(nullptr));
      });
  serving = &server;
  server.start();
  fmt::print("port {}\n", server.addresses()[0].port);
  for (const auto& route : server.router().routes())
    fmt::print("route {} {}\n", route.method, route.path);
  fmt::print("ready\n");
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    for (std::size_t kind = 0; kind < event_names().size(); ++kind) {
      if (event_names()[kind] == line)
        control.say(static_cast<EventKind>(kind), "it happened just now");
    }
  }
  server.stop();
  return 0;
}
