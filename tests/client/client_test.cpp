// SPDX-License-Identifier: Apache-2.0
// The client of the daemon's API, against a server that answers with bytes that the test wrote.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <thread>

#include "vgpu/client/address.h"
#include "vgpu/client/daemon.h"
#include "vgpu/client/http.h"
#include "vgpu/survey/problem.h"

namespace vgpu::client {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

constexpr milliseconds kLong{20'000};

// Answers each connection with the texts of one list: one for each request that comes on it, then
// it closes. An empty text: it answers nothing and waits for the other end to go; kHangsUp: it
// answers nothing and closes.
constexpr const char* kHangsUp = "hangs up";
class Scripted {
 public:
  explicit Scripted(std::vector<std::vector<std::string>> connections)
      : connections_(std::move(connections)) {
    std::string pattern = (std::filesystem::temp_directory_path() / "client-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
    listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un where{};
    where.sun_family = AF_UNIX;
    path().copy(where.sun_path, sizeof where.sun_path - 1);
    bound_ = bind(listener_, reinterpret_cast<sockaddr*>(&where), sizeof where) == 0 &&
             listen(listener_, 8) == 0;
    thread_ = std::thread([this] { serve(); });
  }
  ~Scripted() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
    std::filesystem::remove_all(folder_);
  }
  Scripted(const Scripted&) = delete;
  Scripted& operator=(const Scripted&) = delete;

  std::string path() const { return folder_ + "/socket"; }
  Address address() const { return parse_address(path()); }
  std::vector<std::string> requests() {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  void serve() {
    for (const auto& answers : connections_) {
      const int connection = accept(listener_, nullptr, nullptr);
      if (connection < 0) return;
      for (const auto& answer : answers) {
        if (!take_request(connection)) break;
        if (answer == kHangsUp) break;
        if (answer.empty()) take_request(connection);
        (void)!send(connection, answer.data(), answer.size(), MSG_NOSIGNAL);
      }
      close(connection);
    }
  }
  bool take_request(int connection) {
    std::string text;
    std::size_t wanted = std::string::npos;
    while (text.size() < wanted) {
      char chunk[4096];
      const ssize_t got = recv(connection, chunk, sizeof chunk, 0);
      if (got <= 0) return false;
      text.append(chunk, static_cast<std::size_t>(got));
      const auto end = text.find("\r\n\r\n");
      if (end == std::string::npos) continue;
      const auto length = text.find("Content-Length: ");
      wanted = end + 4 + (length < end ? std::stoul(text.substr(length + 16)) : 0);
    }
    const std::lock_guard lock(mutex_);
    requests_.push_back(text);
    return true;
  }

  const std::vector<std::vector<std::string>> connections_;
  std::string folder_;
  int listener_ = -1;
  bool bound_ = false;
  std::mutex mutex_;
  std::vector<std::string> requests_;
  std::thread thread_;
};

std::string with_length(const std::string& body, const std::string& more = "") {
  return "HTTP/1.1 200 OK\r\n" + more + "Content-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + body;
}

TEST(ClientAddress, IsReadAsPeopleWriteIt) {
  EXPECT_EQ(parse_address("/run/x.sock").text(), "unix:/run/x.sock");
  EXPECT_EQ(parse_address("unix:/run/x.sock").path, "/run/x.sock");
  EXPECT_EQ(parse_address("http://localhost").text(), "http://localhost:8001");
  EXPECT_EQ(parse_address("http://127.0.0.1:9/").text(), "http://127.0.0.1:9");
  EXPECT_EQ(parse_address("http://[::1]:9").text(), "http://[::1]:9");
  EXPECT_EQ(parse_address("node-1:80").text(), "http://node-1:80");
  for (const char* typed : {"", "unix:x", "http://", "http://a:b", "http://a:70000", "http://a/b",
                            "https://a", "ftp://a", "http://[::1", "http://a:", "http://u@a"})
    EXPECT_THROW(parse_address(typed), survey::Problem) << typed;
  EXPECT_THROW(parse_address("/" + std::string(200, 'x')), survey::Problem);
}

TEST(ClientAddress, OfTheDaemonIsTheVariablesElseTheUsersElseTheMachines) {
  const auto texts = [] {
    std::vector<std::string> all;
    for (const auto& address : usual_addresses()) all.push_back(address.text());
    return all;
  };
  const std::string folder = testing::TempDir() + "client-state";
  setenv("VGPU_STATE_DIR", folder.c_str(), 1);
  unsetenv("VGPU_SOCKET");
  EXPECT_THAT(texts(),
              ElementsAre("unix:" + folder + "/hypervisor.sock", "unix:/run/vgpu/hypervisor.sock"));
  setenv("VGPU_SOCKET", "/run/other.sock", 1);
  EXPECT_THAT(texts(), ElementsAre("unix:/run/other.sock"));
  setenv("VGPU_SOCKET", "none", 1);
  EXPECT_THAT(texts(), ElementsAre());
  unsetenv("VGPU_SOCKET");
  unsetenv("VGPU_STATE_DIR");
  std::filesystem::remove_all(folder);
}

TEST(ClientConnection, ReadsBodiesByLengthInChunksAndToTheEnd) {
  Scripted server({{with_length("{\"a\": 1}"),
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n4;x=y\r\nabcd\r\n"
                    "B\r\nefghijklmno\r\n0\r\nTrailer: 1\r\n\r\n",
                    "HTTP/1.1 404 Not Found\r\n\r\nto the end"}});
  Connection connection(server.address(), kLong);
  EXPECT_EQ(connection.ask("GET", "/one").body, "{\"a\": 1}");
  EXPECT_EQ(connection.ask("GET", "/two").body, "abcdefghijklmno");
  const Answer last = connection.ask("GET", "/three");
  EXPECT_EQ(last.status, 404);
  EXPECT_EQ(last.body, "to the end");
  EXPECT_THAT(server.requests(), ElementsAre(StartsWith("GET /one HTTP/1.1\r\nHost: localhost\r\n"),
                                             StartsWith("GET /two "), StartsWith("GET /three ")));
}

TEST(ClientConnection, AsksAgainWhereTheServerHasClosedMeanwhile) {
  Scripted server({{with_length("one")},
                   {with_length("two", "Connection: close\r\n")},
                   {with_length("three")}});
  Connection connection(server.address(), kLong);
  EXPECT_EQ(connection.ask("GET", "/").body, "one");
  EXPECT_EQ(connection.ask("GET", "/").body, "two");
  EXPECT_EQ(connection.ask("GET", "/").body, "three");
}

TEST(ClientConnection, SendsAChangeOnce) {
  Scripted server({{with_length("one"), kHangsUp}, {kHangsUp}, {with_length("three")}});
  Connection connection(server.address(), kLong);
  EXPECT_EQ(connection.ask("GET", "/").body, "one");
  EXPECT_THROW(connection.ask("PATCH", "/", "{}"), Unreachable);
  EXPECT_EQ(server.requests().size(), 2U);
  EXPECT_THAT(server.requests().back(), HasSubstr("Content-Length: 2\r\n\r\n{}"));
}

TEST(ClientConnection, ComesAgainWhereItIsTooEarly) {
  const std::string busy =
      "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n"
      "Connection: close\r\n\r\n";
  const std::string broken =
      "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
  Scripted server({{busy}, {busy}, {with_length("made")}, {broken}, {busy}});
  Connection patient(server.address(), kLong);
  EXPECT_EQ(patient.ask("POST", "/", "{}").body, "made");
  EXPECT_EQ(patient.ask("POST", "/", "{}").status, 503) << "no word of coming again";
  EXPECT_EQ(server.requests().size(), 4U);
  Connection hasty(server.address(), milliseconds(1));
  EXPECT_EQ(hasty.ask("GET", "/").status, 503) << "its time is up";
}

TEST(ClientConnection, SaysWhoDoesNotAnswerAndHow) {
  Scripted server({{"220 mail.example ESMTP\r\n\r\n"}, {""}, {"HTTP/1.1 200 OK\r\nConte"}});
  for (const char* what : {"doesn't answer in HTTP", "doesn't answer", "has closed"}) {
    Connection connection(server.address(),
                          std::string_view(what) == "doesn't answer" ? milliseconds(50) : kLong);
    try {
      connection.ask("GET", "/");
      FAIL() << what;
    } catch (const Unreachable& trouble) {
      EXPECT_THAT(trouble.what(), testing::AllOf(HasSubstr(what), HasSubstr(server.path())));
    }
  }
  Connection nobody(parse_address("/nowhere/socket"), kLong);
  EXPECT_THROW(nobody.ask("GET", "/"), Unreachable);
}

TEST(ClientDaemon, TellsRefusalsAsTheyAreMeant) {
  const std::string body =
      R"({"error": {"kind": "no_room", "code": "VG1014", "rule": "share_sum", "message": "30 % is left",
          "hint": "less", "room": [{"uuid": "GPU-1", "index": 2, "memory_bytes": null, "share_percent": 30}]}})";
  Scripted server({{"HTTP/1.1 409 Conflict\r\nContent-Length: " + std::to_string(body.size()) +
                    "\r\n\r\n" + body},
                   {"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\nno"},
                   {with_length("nothing of JSON")}});
  Daemon daemon(server.address(), "t0ken", kLong);
  try {
    daemon.change("a/b", {"", "50", "", "", ""}, "0", true);
    FAIL();
  } catch (const Refused& refused) {
    EXPECT_STREQ(refused.what(), "30 % is left");
    EXPECT_EQ(refused.status, 409);
    EXPECT_EQ(refused.rule, "share_sum");
    ASSERT_EQ(refused.room.size(), 1U);
    EXPECT_EQ(refused.room[0].gpu_index, 2U);
    EXPECT_EQ(refused.room[0].share_percent, 30U);
    EXPECT_FALSE(refused.room[0].memory_bytes);
    EXPECT_EQ(refused.problem().code, "VG1014");
  }
  const std::string request = server.requests().front();
  EXPECT_THAT(request, StartsWith("PATCH /api/v2/tenants/a%2Fb HTTP/1.1\r\n"));
  EXPECT_THAT(request, HasSubstr("Authorization: Bearer t0ken\r\n"));
  EXPECT_THAT(request,
              HasSubstr(R"({"source":"run","gpus":"0","compute":"50","oversubscribe":true})"));
  try {
    daemon.change("a", {"", "50", "", "", ""}, "", false);
    FAIL();
  } catch (const Refused& refused) {
    EXPECT_THAT(refused.what(), HasSubstr("status 502"));
  }
  EXPECT_THROW(daemon.get("/"), Unreachable);
}

TEST(ClientDaemon, IsTheFirstThatAnswersAndSuits) {
  Scripted refuses({{"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n{}"}});
  Scripted other({{with_length(R"({"state_directory": "/nowhere"})")}});
  Scripted answers(
      {{with_length(R"({"state_directory": "", "state_directories": ["/x", "/y"]})")}});
  std::vector<std::string> why_not;
  const auto found = find_daemon(
      {parse_address("/nowhere/socket"), refuses.address(), other.address(), answers.address()}, "",
      &why_not, [](const Json& node) { return looks_after(node, "/y"); });
  ASSERT_TRUE(found);
  EXPECT_EQ(found->address().path, answers.path());
  EXPECT_THAT(why_not, ElementsAre(HasSubstr("403")));
}

}  // namespace
}  // namespace vgpu::client
