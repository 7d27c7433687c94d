// SPDX-License-Identifier: Apache-2.0
// http_fixture SOCKET KEY_FILE: serves a moment made by hand, on a free port of loopback and on
// SOCKET; prints its port and each route, then waits for the end of its input. For the tests that
// are scripts.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <ctime>

#include "hand_made.h"
#include "http/server.h"
#include "http/service.h"

int main(int argc, char** argv) {
  using namespace vgpu::hypervisor;
  if (argc != 3) return 2;
  http_test::HandMadeControl control;
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
  while (std::getchar() != EOF) {
  }
  server.stop();
  return 0;
}
