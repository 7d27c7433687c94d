// SPDX-License-Identifier: Apache-2.0
#include "server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <stdexcept>

#include "conversation.h"

namespace vgpu::hypervisor::http {

struct Server::Connection {
  Connection(Descriptor socket, int stop, Peer peer_in, bool tls_in)
      : wire(std::move(socket), stop), peer(std::move(peer_in)), tls(tls_in) {}
  Wire wire;
  const Peer peer;
  const bool tls;
  bool done = false;  // guarded by connections_mutex_
  std::thread thread;
};

Server::Server(ServerSettings settings, Router router, IdentifyCaller identify)
    : settings_(std::move(settings)),
      router_(std::move(router)),
      identify_(std::move(identify)),
      limits_(settings_.limits),
      stop_event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  std::vector<Descriptor> given;
  for (const int socket : settings_.sockets) given.emplace_back(socket);
  if (!stop_event_) throw std::runtime_error("no more descriptors");
  if (settings_.tls_certificate_file.empty() != settings_.tls_key_file.empty())
    throw std::runtime_error("TLS needs both a certificate and its key");
  reload_tls();
  const auto refuse_in_the_clear = [&](const ListenAddress& address) {
    if (address.is_loopback() || address.for_pods || tls_) return;
    throw std::runtime_error(fmt::format(
        "{} can be reached from other machines, and no certificate is given: set one, or listen "
        "on 127.0.0.1",
        address.text()));
  };
  const auto add = [&](Descriptor socket, bool for_pods) {
    ListenAddress address = address_of(socket.get());
    address.for_pods = for_pods;
    refuse_in_the_clear(address);
    const bool by_unix_socket = address.host.empty();
    addresses_.push_back(address);
    listening_.push_back(
        {std::move(socket), !by_unix_socket && !for_pods && tls_.has_value(), for_pods});
  };
  for (const auto& address : settings_.addresses) {
    refuse_in_the_clear(address);
    add(listen_on(address), address.for_pods);
  }
  for (auto& socket : given) {
    fcntl(socket.get(), F_SETFL, fcntl(socket.get(), F_GETFL) | O_NONBLOCK);
    fcntl(socket.get(), F_SETFD, FD_CLOEXEC);
    add(std::move(socket), false);
  }
}

Server::~Server() { stop(); }

void Server::reload_tls() {
  if (settings_.tls_certificate_file.empty()) return;
  TlsContext fresh(settings_.tls_certificate_file, settings_.tls_key_file);
  const std::lock_guard lock(tls_mutex_);
  tls_ = std::move(fresh);
}

void Server::start() {
  signal(SIGPIPE, SIG_IGN);  // a peer that went away is an error of write, not our end
  acceptor_ = std::thread([this] { accept_loop(); });
}

void Server::accept_loop() {
  constexpr int kBreath_ms = 50;  // out of descriptors: connections have to end first
  std::vector<pollfd> files{{stop_event_.get(), POLLIN, 0}};
  for (const auto& listening : listening_) files.push_back({listening.socket.get(), POLLIN, 0});
  while (!stopping()) {
    if (poll(files.data(), files.size(), -1) < 0 && errno != EINTR) return;
    for (std::size_t i = 1; i < files.size(); ++i) {
      if (files[i].revents == 0) continue;
      errno = 0;
      accept_from(listening_[i - 1]);
      if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) poll(files.data(), 1, kBreath_ms);
    }
    reap();
  }
}

void Server::accept_from(const Listening& listening) {
  constexpr int kAtOnce = 16;  // of one listener, before the others have their turn
  for (int i = 0; i < kAtOnce; ++i) {
    Descriptor socket(
        accept4(listening.socket.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) return;
    open_connection(std::move(socket), listening);
  }
}

void Server::open_connection(Descriptor socket, const Listening& listening) {
  auto peer = peer_of(socket.get());
  if (!peer) return;
  peer->for_pods = listening.for_pods;
  const std::string key = peer->limit_key();
  if (!limits_.enter_connection(key, peer->by_unix_socket, Wire::Clock::now())) {
    refused_connections_.fetch_add(1, std::memory_order_relaxed);
    constexpr std::string_view kBusy =
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n"
        "Connection: close\r\n\r\n";
    if (!listening.tls) send(socket.get(), kBusy.data(), kBusy.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    return;
  }
  auto connection =
      std::make_unique<Connection>(std::move(socket), stop_event_.get(), *peer, listening.tls);
  const std::lock_guard lock(connections_mutex_);
  Connection& kept = *connections_.emplace_back(std::move(connection));
  try {
    kept.thread = std::thread([this, &kept] { serve(kept); });
  } catch (const std::system_error&) {  // no more threads: as if there were no place
    connections_.pop_back();
    limits_.leave_connection(key, peer->by_unix_socket);
    refused_connections_.fetch_add(1, std::memory_order_relaxed);
  }
}

void Server::serve(Connection& connection) {
  bool open = true;
  if (connection.tls) {
    std::optional<TlsContext> context;
    {
      const std::lock_guard lock(tls_mutex_);
      context = tls_;
    }
    open = connection.wire.start_tls(*context, Wire::Clock::now() + settings_.limits.header_time);
  }
  using Count = ConversationHost::Count;
  const ConversationHost host{
      settings_.limits,
      limits_,
      [&](const Credentials& credentials) { return identify_(connection.peer, credentials); },
      [&](const Ask& ask) { return answer(ask); },
      [&] { return stopping(); },
      settings_.log,
      [&](Count what) {
        auto& counter = what == Count::request        ? requests_
                        : what == Count::refused_rate ? refused_rate_
                        : what == Count::refused_size ? refused_size_
                                                      : timed_out_;
        counter.fetch_add(1, std::memory_order_relaxed);
      }};
  if (open) {
    try {
      Conversation(connection.wire, connection.peer, host).run();
    } catch (const std::exception& exception) {
      if (settings_.log) settings_.log(fmt::format("a connection failed: {}", exception.what()));
    }
  }
  limits_.leave_connection(connection.peer.limit_key(), connection.peer.by_unix_socket);
  const std::lock_guard lock(connections_mutex_);
  connection.done = true;
  shutdown(connection.wire.socket(), SHUT_RDWR);
  connection_ended_.notify_all();
}

Answer Server::answer(const Ask& ask) {
  const Router::Match match = router_.find(ask.method, ask.path);
  if (match.route == nullptr) {
    if (match.allowed.empty()) return problem(404, "not_found", "nothing is served here");
    Answer answer = problem(405, "method_not_allowed", "not by this method");
    std::string allowed;
    for (const auto& method : match.allowed) allowed += (allowed.empty() ? "" : ", ") + method;
    answer.headers.emplace_back("Allow", allowed);
    return answer;
  }
  if (ask.peer.for_pods && !is_for_pods(match.route->access))
    return problem(403, "forbidden", "this address answers what a pod asks about itself, no more");
  if (auto refused = refusal(match.route->access, ask.caller)) {
    unauthorized_.fetch_add(1, std::memory_order_relaxed);
    return *refused;
  }
  Ask complete = ask;
  complete.parts = match.parts;
  return match.route->handle(complete);
}

// Joins and drops the connections that have ended.
void Server::reap() {
  std::list<std::unique_ptr<Connection>> ended;
  {
    const std::lock_guard lock(connections_mutex_);
    for (auto at = connections_.begin(); at != connections_.end();) {
      const auto next = std::next(at);
      if ((*at)->done) ended.splice(ended.end(), connections_, at);
      at = next;
    }
  }
  for (auto& connection : ended) connection->thread.join();
}

void Server::stop(std::chrono::milliseconds grace) {
  if (!stopping_.exchange(true, std::memory_order_relaxed)) eventfd_write(stop_event_.get(), 1);
  if (acceptor_.joinable()) acceptor_.join();
  {
    std::unique_lock lock(connections_mutex_);
    const auto all_done = [&] {
      for (const auto& connection : connections_) {
        if (!connection->done) return false;
      }
      return true;
    };
    if (!connection_ended_.wait_for(lock, grace, all_done)) {
      for (const auto& connection : connections_) shutdown(connection->wire.socket(), SHUT_RDWR);
      connection_ended_.wait(lock, all_done);
    }
  }
  reap();
  for (std::size_t i = 0; i < listening_.size(); ++i) {
    if (addresses_[i].host.empty() && !addresses_[i].path.empty() && i < settings_.addresses.size())
      unlink(addresses_[i].path.c_str());
  }
  listening_.clear();
}

ServerFigures Server::figures() const {
  ServerFigures figures;
  figures.requests = requests_.load(std::memory_order_relaxed);
  figures.refused_rate = refused_rate_.load(std::memory_order_relaxed);
  figures.refused_connections = refused_connections_.load(std::memory_order_relaxed);
  figures.refused_size = refused_size_.load(std::memory_order_relaxed);
  figures.timed_out = timed_out_.load(std::memory_order_relaxed);
  figures.unauthorized = unauthorized_.load(std::memory_order_relaxed);
  figures.connections = limits_.connections();
  figures.streams = limits_.streams();
  return figures;
}

}  // namespace vgpu::hypervisor::http
