// SPDX-License-Identifier: Apache-2.0
// Listens on any number of addresses and answers from a Router. HTTP is cpp-httplib's; sockets,
// TLS, limits and time are ours: one thread accepts, each connection has a thread of its own, and
// both their number and their time are bounded (limits.h). A connection's thread reads a request's
// header whole, judges it, and only then hands it on.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "auth.h"
#include "limits.h"
#include "listener.h"
#include "router.h"
#include "wire.h"

namespace vgpu::hypervisor::http {

struct ServerSettings {
  std::vector<ListenAddress> addresses;
  std::vector<int> sockets;  // that listen already (socket activation); the server owns them
  std::string tls_certificate_file, tls_key_file;  // needed for what isn't loopback
  Limits limits;
  std::function<void(const std::string&)> log;  // of what went wrong in here; may be empty
};

// What the server counted since it started.
struct ServerFigures {
  std::uint64_t requests = 0, refused_rate = 0, refused_connections = 0, refused_size = 0,
                timed_out = 0, unauthorized = 0;
  std::size_t connections = 0, streams = 0;
};

class Server {
 public:
  using IdentifyCaller = std::function<Caller(const Peer&, const Credentials&)>;

  // Listens, but doesn't answer yet. Throws std::runtime_error with one line that says what is
  // wrong.
  Server(ServerSettings settings, Router router, IdentifyCaller identify);
  // stop().
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  void start();
  // No new connections and no new requests; those that are being answered have `grace`, then they
  // are cut. Streams end at once. Idempotent.
  void stop(std::chrono::milliseconds grace = std::chrono::seconds(3));
  bool stopping() const { return stopping_.load(std::memory_order_relaxed); }

  // Reads certificate and key again, for connections from now on. Throws std::runtime_error; the
  // old ones stay then.
  void reload_tls();

  const std::vector<ListenAddress>& addresses() const { return addresses_; }
  const Router& router() const { return router_; }
  ServerFigures figures() const;

 private:
  struct Listening {
    Descriptor socket;
    bool tls = false;
    bool for_pods = false;
  };
  struct Connection;
  void accept_loop();
  void accept_from(const Listening& listening);
  void open_connection(Descriptor socket, const Listening& listening);
  void serve(Connection& connection);
  void reap();
  Answer answer(const Ask& ask);

  const ServerSettings settings_;
  const Router router_;
  const IdentifyCaller identify_;
  PeerLimits limits_;
  std::vector<Listening> listening_;
  std::vector<ListenAddress> addresses_;
  Descriptor stop_event_;
  std::atomic<bool> stopping_ = false;  // relaxed: stop_event_ is what wakes
  std::mutex tls_mutex_;
  std::optional<TlsContext> tls_;  // guarded by tls_mutex_
  std::thread acceptor_;
  std::mutex connections_mutex_;
  std::condition_variable connection_ended_;
  std::list<std::unique_ptr<Connection>> connections_;  // guarded by connections_mutex_
  // Counters: relaxed, they order nothing.
  std::atomic<std::uint64_t> requests_ = 0, refused_rate_ = 0, refused_connections_ = 0,
                             refused_size_ = 0, timed_out_ = 0, unauthorized_ = 0;

  friend class Conversation;
};

}  // namespace vgpu::hypervisor::http
