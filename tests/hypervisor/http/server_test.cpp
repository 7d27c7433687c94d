// SPDX-License-Identifier: Apache-2.0
// The server from outside, by bytes: what it serves, what it refuses, and that one peer's flood,
// sloth or garbage is nobody else's.
#include "http/server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <future>

#include "hand_made.h"
#include "http/service.h"

namespace vgpu::hypervisor::http {
namespace {

using std::chrono::milliseconds;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

constexpr milliseconds kLong{20'000};

int connect_to(const ListenAddress& address) {
  if (address.host.empty()) {
    const int file = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    address.path.copy(to.sun_path, sizeof to.sun_path - 1);
    if (connect(file, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0) return file;
    close(file);
    return -1;
  }
  const int file = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(address.port);
  inet_pton(AF_INET, address.host.c_str(), &to.sin_addr);
  if (connect(file, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0) return file;
  close(file);
  return -1;
}

class Client {
 public:
  explicit Client(const ListenAddress& address) : file_(connect_to(address)) {}
  Client(Client&& other) noexcept : file_(std::exchange(other.file_, -1)) {}
  Client& operator=(Client&&) = delete;
  ~Client() {
    if (file_ >= 0) close(file_);
  }
  bool send(const std::string& text) const {
    return ::send(file_, text.data(), text.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(text.size());
  }
  // Until `end` has come, or the server closes, or a long time is over.
  std::string read_until(const std::string& end) {
    const auto deadline = std::chrono::steady_clock::now() + kLong;
    while (end.empty() || read_.find(end) == std::string::npos) {
      pollfd file{file_, POLLIN, 0};
      if (poll(&file, 1, 200) == 0 && std::chrono::steady_clock::now() < deadline) continue;
      char chunk[4096];
      const ssize_t got = file.revents == 0 ? 0 : recv(file_, chunk, sizeof chunk, 0);
      if (got <= 0) break;
      read_.append(chunk, static_cast<std::size_t>(got));
    }
    return std::exchange(read_, "");
  }
  std::string read_all() { return read_until(""); }

 private:
  int file_;
  std::string read_;
};

class ServerTest : public testing::Test {
 protected:
  ServerTest() {
    std::string pattern = testing::TempDir() + "vgpu-http-XXXXXX";
    folder_ = mkdtemp(pattern.data());
    settings_.addresses = {parse_listen_address("127.0.0.1:0"),
                           parse_listen_address("unix:" + folder_ + "/socket")};
  }
  ~ServerTest() override {
    server_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  void start() {
    Router router;
    add_all_routes(router, control_, {}, [this] { return server_.get(); });
    router.add({"GET", "/throws", Access::open,
                [](const Ask&) -> Answer { throw std::runtime_error("secret detail"); }});
    router.add({"POST", "/echo", Access::open, [](const Ask& ask) {
                  Answer answer;
                  answer.body = ask.body;
                  return answer;
                }});
    server_ = std::make_unique<Server>(
        settings_, std::move(router), [this](const Peer& peer, const Credentials& credentials) {
          return identify(peer, credentials, {geteuid(), open_reads_}, nullptr, 0);
        });
    server_->start();
  }
  const ListenAddress& tcp() const { return server_->addresses()[0]; }
  const ListenAddress& local() const { return server_->addresses()[1]; }
  static std::string request(const std::string& method, const std::string& path,
                             const std::string& body = "", const std::string& headers = "") {
    return method + " " + path + " HTTP/1.1\r\nHost: localhost\r\n" + headers +
           (body.empty() ? "" : "Content-Length: " + std::to_string(body.size()) + "\r\n") +
           "\r\n" + body;
  }
  std::string once(const ListenAddress& address, const std::string& text) {
    Client client(address);
    client.send(text);
    return client.read_all();
  }
  std::string get(const ListenAddress& address, const std::string& path) {
    return once(address, request("GET", path, "", "Connection: close\r\n"));
  }

  http_test::HandMadeControl control_;
  ServerSettings settings_;
  std::string folder_;
  bool open_reads_ = false;
  std::unique_ptr<Server> server_;
};

TEST_F(ServerTest, ServesBothListenersAndKeepsConnections) {
  start();
  EXPECT_THAT(get(tcp(), "/healthz"), AllOf(StartsWith("HTTP/1.1 200"), EndsWith("\r\n\r\nok")));
  EXPECT_THAT(get(local(), "/api/v2/node"), HasSubstr("\"node-1\""));
  Client client(tcp());
  for (int i = 0; i < 3; ++i) {
    client.send(request("GET", "/healthz"));
    EXPECT_THAT(client.read_until("\r\n\r\nok"), StartsWith("HTTP/1.1 200"));
  }
  // Two at once are answered one after the other.
  client.send(request("POST", "/echo", "one!") + request("POST", "/echo", "two!"));
  const std::string both = client.read_until("two!");
  EXPECT_THAT(both, HasSubstr("one!HTTP/1.1 200"));
}

TEST_F(ServerTest, SendsHeadersThatKeepBrowsersFromGuessing) {
  start();
  const std::string page = get(local(), "/");
  EXPECT_THAT(page, HasSubstr("Content-Security-Policy: default-src 'none'"));
  EXPECT_THAT(page, HasSubstr("X-Content-Type-Options: nosniff"));
  EXPECT_THAT(page, HasSubstr("X-Frame-Options: DENY"));
  EXPECT_THAT(page, HasSubstr("Cache-Control: no-store"));
}

TEST_F(ServerTest, ThePageListensToEveryKindOfEvent) {
  start();
  const std::string script = get(local(), "/page.js");
  std::string kinds;
  for (std::size_t i = 0; i < event_names().size(); ++i)
    kinds += std::string(i == 0 ? "" : " ") + std::string(event_name(static_cast<EventKind>(i)));
  EXPECT_THAT(kinds, StartsWith("daemon_started hosting_taken "));
  EXPECT_THAT(kinds, EndsWith(" queued admitted withdrawn"));
  EXPECT_THAT(script, HasSubstr("const kKinds = \"" + kinds + "\".split"));
}

TEST_F(ServerTest, WithoutATokenNothingIsChangedOverTcp) {
  open_reads_ = true;
  start();
  EXPECT_THAT(get(tcp(), "/api/v2/tenants"), StartsWith("HTTP/1.1 200"));
  for (const auto& [method, path] : std::vector<std::pair<std::string, std::string>>{
           {"POST", "/api/v2/tenants"},
           {"PATCH", "/api/v2/tenants/ml.trainer-aaaa"},
           {"DELETE", "/api/v2/tenants/ml.trainer-aaaa"},
           {"PUT", "/api/v2/tenants/ml.trainer-aaaa/name"},
           {"GET", "/api/v1/pod"},
           {"POST", "/api/v1/process"}}) {
    const std::string text = request(method, path, "{}", "Connection: close\r\n");
    const std::string answer = once(tcp(), text);
    EXPECT_TRUE(answer.rfind("HTTP/1.1 401", 0) == 0 || answer.rfind("HTTP/1.1 403", 0) == 0)
        << method << path << answer;
  }
  EXPECT_TRUE(control_.askers().empty());
  once(local(), request("DELETE", "/api/v2/tenants/ml.trainer-aaaa", "", "Connection: close\r\n"));
  ASSERT_EQ(control_.askers().size(), 1U);
  EXPECT_EQ(control_.askers()[0].uid, geteuid());
  EXPECT_EQ(control_.askers()[0].pid, getpid());
}

TEST_F(ServerTest, BeyondLoopbackInTheClearOnlyAPodIsAnsweredAboutItself) {
  settings_.addresses.push_back(parse_listen_address("0.0.0.0:0"));
  EXPECT_THROW(start(), std::runtime_error);
  settings_.addresses.back().for_pods = true;
  open_reads_ = true;
  start();
  const ListenAddress& pods = server_->addresses()[2];
  EXPECT_THAT(get(pods, "/readyz"), StartsWith("HTTP/1.1 "));
  EXPECT_THAT(get(pods, "/healthz"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(get(pods, "/api/v1/pod"), StartsWith("HTTP/1.1 401")) << "it is asked for its token";
  for (const char* path : {"/api/v2/tenants", "/api/v2/node", "/metrics"})
    EXPECT_THAT(get(pods, path), StartsWith("HTTP/1.1 403")) << path;
  EXPECT_THAT(once(pods, request("POST", "/api/v2/tenants", "{}", "Connection: close\r\n")),
              StartsWith("HTTP/1.1 403"));
  EXPECT_THAT(get(tcp(), "/api/v2/tenants"), StartsWith("HTTP/1.1 200"));
}

TEST_F(ServerTest, WhatFailsInsideSaysNothingOfIt) {
  start();
  const std::string answer = get(tcp(), "/throws");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 500"));
  EXPECT_THAT(answer, testing::Not(HasSubstr("secret")));
}

TEST_F(ServerTest, GarbageIsRefusedAndTheNextIsServed) {
  settings_.limits.header_time = milliseconds(300);
  start();
  EXPECT_THAT(once(tcp(), "\x16\x03\x01 nonsense\r\n\r\n"), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(once(tcp(), "GET\r\n\r\n"), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(once(tcp(), "GET /%ff%00 HTTP/1.1\r\nConnection: close\r\n\r\n"),
              StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(once(tcp(), "GET /" + std::string(3000, 'a') + " HTTP/1.1\r\n\r\n"),
              StartsWith("HTTP/1.1 414"));
  EXPECT_THAT(once(tcp(), "GET / HTTP/1.1\r\nA: " + std::string(20'000, 'a')),
              StartsWith("HTTP/1.1 431"));
  EXPECT_THAT(once(tcp(), "POST /echo HTTP/1.1\r\nContent-Length: 100000\r\n\r\n"),
              StartsWith("HTTP/1.1 413"));
  EXPECT_THAT(once(tcp(), "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
              StartsWith("HTTP/1.1 411"));
  EXPECT_THAT(once(tcp(), "GET /healthz HTTP/1.1\r\nHost"), StartsWith("HTTP/1.1 408"));
  EXPECT_THAT(once(tcp(), "BREW /healthz HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(get(tcp(), "/healthz"), StartsWith("HTTP/1.1 200"));
  const ServerFigures figures = server_->figures();
  EXPECT_EQ(figures.refused_size, 3U);
  EXPECT_EQ(figures.timed_out, 1U);
}

TEST_F(ServerTest, WhoSendsAByteNowAndThenIsCutOff) {
  settings_.limits.header_time = milliseconds(500);
  start();
  Client slow(tcp());
  bool open = true;
  const auto deadline = std::chrono::steady_clock::now() + kLong;
  slow.send("GET / HTTP/1.1\r\n");
  for (int i = 0; open && std::chrono::steady_clock::now() < deadline; ++i) {
    open = slow.send("A");
    poll(nullptr, 0, 20);
    if (server_->figures().timed_out > 0) break;
  }
  EXPECT_EQ(server_->figures().timed_out, 1U);
}

TEST_F(ServerTest, AFloodOfConnectionsLeavesTheSocketToOthers) {
  settings_.limits.connections = 8;
  settings_.limits.connections_of_peer = 8;
  start();
  std::vector<Client> flood;
  for (int i = 0; i < 40; ++i) flood.emplace_back(tcp());
  const auto deadline = std::chrono::steady_clock::now() + kLong;
  while (server_->figures().refused_connections < 32 && std::chrono::steady_clock::now() < deadline)
    poll(nullptr, 0, 10);
  EXPECT_EQ(server_->figures().refused_connections, 32U);
  EXPECT_THAT(get(local(), "/healthz"), StartsWith("HTTP/1.1 200"));
  flood.clear();
  std::string answer;
  while (answer.rfind("HTTP/1.1 200", 0) != 0 && std::chrono::steady_clock::now() < deadline)
    answer = get(tcp(), "/healthz");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200")) << "places come back";
}

TEST_F(ServerTest, ThoseWhoWaitForRoomTakeNoPlacesAndGoWithTheirConnections) {
  settings_.limits.connections = 4;
  settings_.limits.connections_of_peer = 2;
  settings_.limits.waits_of_peer = 6;
  start();
  const std::string wish =
      request("POST", "/api/v2/tenants", R"({"memory": "1TiB", "wait": "forever"})");
  const auto deadline = std::chrono::steady_clock::now() + kLong;
  const auto wait_for = [&](std::size_t count) {
    while (control_.waiting() != count && std::chrono::steady_clock::now() < deadline)
      poll(nullptr, 0, 5);
    EXPECT_EQ(control_.waiting(), count);
  };
  std::vector<Client> waiting;
  for (std::size_t i = 0; i < 6; ++i) {
    waiting.emplace_back(local());
    waiting.back().send(wish);
    wait_for(i + 1);
  }
  EXPECT_THAT(get(local(), "/healthz"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(once(local(), request("POST", "/api/v2/tenants", R"({"memory": "1TiB", "wait": 60})",
                                    "Connection: close\r\n")),
              AllOf(StartsWith("HTTP/1.1 429"), HasSubstr("too_many_waiting")));
  waiting.pop_back();
  wait_for(5);
  server_->stop(kLong);
  wait_for(0);
  EXPECT_THAT(waiting.front().read_all(), StartsWith("HTTP/1.1 409")) << "they are answered";
}

TEST_F(ServerTest, AFloodOfRequestsIsSlowedDown) {
  settings_.limits.requests_per_second = 0.001;
  settings_.limits.burst = 5;
  start();
  Client client(tcp());
  for (int i = 0; i < 5; ++i) {
    client.send(request("GET", "/healthz"));
    EXPECT_THAT(client.read_until("\r\n\r\nok"), StartsWith("HTTP/1.1 200"));
  }
  client.send(request("GET", "/healthz"));
  EXPECT_THAT(client.read_all(), AllOf(StartsWith("HTTP/1.1 429"), HasSubstr("Retry-After: 1")));
  EXPECT_THAT(get(local(), "/healthz"), StartsWith("HTTP/1.1 200")) << "another peer";
}

TEST_F(ServerTest, EventsStreamFromWhereAClientStopped) {
  start();
  Client client(local());
  client.send(request("GET", "/api/v2/events/stream", "", "Last-Event-ID: run-1:2\r\n"));
  const std::string first = client.read_until("id: run-1:3");
  EXPECT_THAT(first, HasSubstr("text/event-stream"));
  EXPECT_THAT(first, testing::Not(HasSubstr("id: run-1:2\n")));
  control_.say(EventKind::xid_error, "a line\nwith another");
  const std::string second = client.read_until("id: run-1:4\nevent: xid_error\n");
  EXPECT_THAT(second, HasSubstr("id: run-1:4\nevent: xid_error\n"));
  // An id of another run of the daemon: everything is new.
  Client again(local());
  again.send(request("GET", "/api/v2/events/stream", "", "Last-Event-ID: run-0:4\r\n"));
  EXPECT_THAT(again.read_until("id: run-1:4"), HasSubstr("id: run-1:1\n"));
}

TEST_F(ServerTest, StreamsOfOnePeerAreLimited) {
  settings_.limits.streams_of_peer = 2;
  start();
  std::vector<Client> streams;
  for (int i = 0; i < 2; ++i) {
    streams.emplace_back(local());
    streams.back().send(request("GET", "/api/v2/events/stream"));
    EXPECT_THAT(streams.back().read_until("retry:"), StartsWith("HTTP/1.1 200"));
  }
  EXPECT_THAT(get(local(), "/api/v2/events/stream"), StartsWith("HTTP/1.1 429"));
  streams.clear();
  const auto deadline = std::chrono::steady_clock::now() + kLong;
  while (server_->figures().streams > 0 && std::chrono::steady_clock::now() < deadline)
    poll(nullptr, 0, 20);
  EXPECT_EQ(server_->figures().streams, 0U) << "who is gone holds no place";
}

TEST_F(ServerTest, StopsThoughClientsStay) {
  start();
  Client idle(tcp()), stream(local());
  idle.send(request("GET", "/healthz"));
  idle.read_until("\r\n\r\nok");
  stream.send(request("GET", "/api/v2/events/stream"));
  stream.read_until("retry:");
  const std::string path = local().path;
  const ListenAddress was = tcp();
  auto stopped = std::async(std::launch::async, [&] { server_->stop(); });
  ASSERT_EQ(stopped.wait_for(kLong), std::future_status::ready);
  EXPECT_EQ(idle.read_all(), "");
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_LT(connect_to(was), 0);
}

TEST_F(ServerTest, ASocketLeftBehindIsReplacedAndAServedOneIsNot) {
  start();
  EXPECT_THROW(listen_on(local()), std::runtime_error);
  const ListenAddress left{"", 0, folder_ + "/left"};
  { const Descriptor gone = listen_on(left); }
  EXPECT_TRUE(std::filesystem::exists(left.path));
  EXPECT_NO_THROW(listen_on(left));
  std::ofstream(folder_ + "/file") << "kept";
  EXPECT_THROW(listen_on({"", 0, folder_ + "/file"}), std::runtime_error);
  EXPECT_EQ(std::filesystem::file_size(folder_ + "/file"), 4U);
}

TEST_F(ServerTest, BeyondThisMachineOnlyWithACertificate) {
  settings_.addresses = {parse_listen_address("0.0.0.0:0")};
  EXPECT_THROW(start(), std::runtime_error);
  settings_.tls_certificate_file = folder_ + "/cert.pem";
  EXPECT_THROW(start(), std::runtime_error) << "a certificate without its key";
  settings_.tls_key_file = folder_ + "/key.pem";
  EXPECT_THROW(start(), std::runtime_error) << "files that aren't there";
  const std::string command =
      "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=vgpu -keyout " +
      settings_.tls_key_file + " -out " + settings_.tls_certificate_file + " 2>/dev/null";
  if (std::system(command.c_str()) != 0) GTEST_SKIP() << "no openssl here to make a certificate";
  start();
  ListenAddress address = server_->addresses()[0];
  address.host = "127.0.0.1";
  EXPECT_EQ(once(address, request("GET", "/healthz")).find("200"), std::string::npos)
      << "nothing in the clear";
  SSL_CTX* context = SSL_CTX_new(TLS_client_method());
  SSL* tls = SSL_new(context);
  const int file = connect_to(address);
  SSL_set_fd(tls, file);
  ASSERT_EQ(SSL_connect(tls), 1);
  const std::string text = request("GET", "/healthz", "", "Connection: close\r\n");
  SSL_write(tls, text.data(), static_cast<int>(text.size()));
  std::string answer(8192, '\0');
  std::size_t size = 0;
  for (int got = 1;
       got > 0 && size<answer.size(); size += got> 0 ? static_cast<std::size_t>(got) : 0)
    got = SSL_read(tls, answer.data() + size, static_cast<int>(answer.size() - size));
  EXPECT_THAT(answer.substr(0, size), AllOf(StartsWith("HTTP/1.1 200"), EndsWith("ok")));
  SSL_free(tls);
  SSL_CTX_free(context);
  close(file);
  server_->reload_tls();
}

}  // namespace
}  // namespace vgpu::hypervisor::http
