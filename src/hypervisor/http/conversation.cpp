// SPDX-License-Identifier: Apache-2.0
#include "conversation.h"

#include <fmt/format.h>
#include <httplib.h>

#include <algorithm>
#include <array>

#include "request_head.h"

namespace vgpu::hypervisor::http {
namespace {

const char* reason_of(int status) {
  switch (status) {
    case 400:
      return "Bad Request";
    case 408:
      return "Request Timeout";
    case 411:
      return "Length Required";
    case 413:
      return "Payload Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    default:
      return "Error";
  }
}

// On every answer. What is live isn't kept, what is text isn't guessed to be something else, and no
// other site may frame or embed it.
void set_common_headers(httplib::Response& response) {
  response.set_header("Cache-Control", "no-store");
  response.set_header("X-Content-Type-Options", "nosniff");
  response.set_header("X-Frame-Options", "DENY");
  response.set_header("Referrer-Policy", "no-referrer");
  response.set_header("Cross-Origin-Resource-Policy", "same-origin");
}

std::map<std::string, std::string> lower_names(const httplib::Headers& headers) {
  std::map<std::string, std::string> out;
  for (const auto& [name, value] : headers) {
    std::string lower = name;
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; });
    out.emplace(std::move(lower), value);
  }
  return out;
}

}  // namespace

// The request is in memory already; only the answer goes out.
class Conversation::MemoryStream final : public httplib::Stream {
 public:
  MemoryStream(std::string request, Wire& wire, const Peer& peer,
               std::chrono::milliseconds patience)
      : request_(std::move(request)), wire_(wire), peer_(peer), patience_(patience) {}
  bool is_readable() const override { return at_ < request_.size(); }
  bool is_writable() const override { return wire_.is_open(); }
  ssize_t read(char* to, std::size_t size) override {
    const std::size_t count = std::min(size, request_.size() - at_);
    std::copy_n(request_.data() + at_, count, to);
    at_ += count;
    return static_cast<ssize_t>(count);
  }
  ssize_t write(const char* from, std::size_t size) override {
    return wire_.write({from, size}, patience_) ? static_cast<ssize_t>(size) : -1;
  }
  void get_remote_ip_and_port(std::string& ip, int& port) const override {
    ip = peer_.address;
    port = peer_.port;
  }
  void get_local_ip_and_port(std::string& ip, int& port) const override {
    ip.clear();
    port = peer_.local_port;
  }
  socket_t socket() const override { return wire_.socket(); }

 private:
  const std::string request_;
  std::size_t at_ = 0;
  Wire& wire_;
  const Peer& peer_;
  const std::chrono::milliseconds patience_;
};

// cpp-httplib's parser and writer, for one request that has been read.
class Conversation::Engine final : public httplib::Server {
 public:
  Engine(Conversation& of, const RequestHead& head) : of_(of), head_(head) {
    svr_sock_ = of.wire_.socket();  // without one, it takes itself for shut down
    const Handler handler = [this](const httplib::Request& request, httplib::Response& response) {
      respond(request, response);
    };
    const std::string any = "[\\s\\S]*";
    Get(any, handler).Post(any, handler).Put(any, handler).Patch(any, handler);
    Delete(any, handler).Options(any, handler);
    set_payload_max_length(of.host_.limits.body_bytes);
    set_exception_handler(
        [this](const httplib::Request& request, httplib::Response& response,
               const std::exception_ptr& thrown) { fail(request, response, thrown); });
    set_error_handler([](const httplib::Request&, httplib::Response& response) {
      if (response.body.empty())  // its own refusals
        response.set_content(problem(response.status, "bad_request", "not a request").body,
                             "application/json");
    });
  }
  ~Engine() override { svr_sock_ = INVALID_SOCKET; }

  // False: this was the connection's last request, or none at all.
  bool serve(httplib::Stream& stream, bool last) {
    bool closed = false;
    return process_request(stream, last, closed, nullptr) && understood_ && !closed;
  }

 private:
  Ask to_ask(const httplib::Request& request) const {
    Ask ask;
    ask.method = request.method;
    ask.path = request.target.substr(0, request.target.find('?'));
    ask.headers = lower_names(request.headers);
    ask.body = request.body;
    ask.peer = of_.peer_;
    ask.is_there = [&wire = of_.wire_] { return wire.is_open(); };
    ask.is_ending = of_.host_.stopping;
    ask.wait_place = [&peers = of_.host_.peers, key = of_.key_,
                      by_unix_socket = of_.peer_.by_unix_socket]() -> std::shared_ptr<void> {
      if (!peers.enter_wait(key, by_unix_socket)) return nullptr;
      return {&peers,
              [key, by_unix_socket](PeerLimits* of) { of->leave_wait(key, by_unix_socket); }};
    };
    ask.caller = of_.host_.identify({head_.authorization, head_.host});
    return ask;
  }

  void respond(const httplib::Request& request, httplib::Response& response) {
    understood_ = true;
    set_common_headers(response);
    Ask ask = to_ask(request);
    const auto query = request.target.find('?');
    if (query != std::string::npos &&
        !parse_query(std::string_view(request.target).substr(query + 1), ask.query)) {
      send(problem(400, "bad_query", "the query isn't properly percent-encoded"), response);
      return;
    }
    send(of_.host_.answer(ask), response);
  }

  void send(Answer answer, httplib::Response& response) {
    response.status = answer.status;
    for (const auto& [name, value] : answer.headers) {
      response.headers.erase(name);
      response.set_header(name, value);
    }
    if (!answer.stream) {
      response.set_content(answer.body, answer.type);
      pass(answer.files);
      return;
    }
    PeerLimits& peers = of_.host_.peers;
    const std::string key = of_.key_;
    if (!peers.enter_stream(key)) {
      send(problem(429, "too_many_streams", "as many streams as a peer may have are open"),
           response);
      return;
    }
    const auto stopping = of_.host_.stopping;
    response.set_chunked_content_provider(
        answer.type,
        [next = std::move(answer.stream), stopping](std::size_t, httplib::DataSink& sink) {
          const auto chunk = stopping() ? std::nullopt : next();
          if (!chunk) {
            sink.done();
            return true;
          }
          return chunk->empty() ? sink.is_writable() : sink.write(chunk->data(), chunk->size());
        },
        [&peers, key](bool) { peers.leave_stream(key); });
  }

  // With the answer's first bytes; until then it keeps them open.
  void pass(std::vector<std::shared_ptr<const platform::File>> files) {
    if (!of_.peer_.by_unix_socket || files.empty()) return;
    passed_ = std::move(files);
    std::vector<int> descriptors;
    for (const auto& file : passed_) descriptors.push_back(file->fd());
    of_.wire_.pass(std::move(descriptors));
  }

  void fail(const httplib::Request& request, httplib::Response& response,
            const std::exception_ptr& thrown) {
    std::string what = "unknown";
    try {
      std::rethrow_exception(thrown);
    } catch (const std::exception& exception) {
      what = exception.what();
    } catch (...) {
    }
    if (of_.host_.log) of_.host_.log(fmt::format("{} {}: {}", request.method, request.path, what));
    set_common_headers(response);
    send(problem(500, "internal", "this request failed here; the daemon's log says why"), response);
  }

  Conversation& of_;
  const RequestHead& head_;
  bool understood_ = false;  // it was a request
  std::vector<std::shared_ptr<const platform::File>> passed_;
};

void Conversation::say_no(int status, std::string_view kind, std::string_view message) {
  const std::string body = problem(status, kind, message).body;
  wire_.write(fmt::format("HTTP/1.1 {} {}\r\nContent-Type: application/json\r\n"
                          "Content-Length: {}\r\n{}Connection: close\r\n\r\n{}",
                          status, reason_of(status), body.size(),
                          status == 429 ? "Retry-After: 1\r\n" : "", body),
              host_.limits.write_time);
  wire_.finish();
}

int Conversation::read_head(std::size_t& head_bytes) {
  const Wire::Clock::time_point deadline = Wire::Clock::now() + host_.limits.header_time;
  while (true) {
    // Empty lines before a request are allowed to be there.
    received_.erase(0, std::min(received_.find_first_not_of("\r\n"), received_.size()));
    const auto end = received_.find("\r\n\r\n");
    if (end != std::string::npos) head_bytes = end + 4;
    if (end != std::string::npos && head_bytes <= host_.limits.header_bytes) return 0;
    if (received_.size() > host_.limits.header_bytes) return 431;
    std::array<char, 4096> chunk{};
    const long got = wire_.read(chunk.data(), chunk.size(), deadline);
    if (got <= 0) return got == 0 || received_.empty() ? -1 : 408;
    received_.append(chunk.data(), static_cast<std::size_t>(got));
    if (Wire::Clock::now() >= deadline) return 408;  // a byte now and then is no request
  }
}

int Conversation::read_body(std::size_t bytes, std::string& body) {
  const auto deadline = Wire::Clock::now() + host_.limits.body_time;
  while (received_.size() < bytes) {
    std::array<char, 16 * 1024> chunk{};
    const long got = wire_.read(chunk.data(), chunk.size(), deadline);
    if (got == 0) return -1;
    if (got < 0 || Wire::Clock::now() >= deadline) return 408;
    received_.append(chunk.data(), static_cast<std::size_t>(got));
  }
  body = received_.substr(0, bytes);
  received_.erase(0, bytes);
  return 0;
}

Conversation::Step Conversation::one_request() {
  using Count = ConversationHost::Count;
  std::size_t head_bytes = 0;
  int trouble = read_head(head_bytes);
  if (trouble < 0) return Step::end;
  if (trouble != 0) {
    host_.count(trouble == 408 ? Count::timed_out : Count::refused_size);
    say_no(trouble, trouble == 408 ? "timeout" : "too_large", reason_of(trouble));
    return Step::end;
  }
  host_.count(Count::request);
  if (!host_.peers.admit_request(key_, Wire::Clock::now())) {
    host_.count(Count::refused_rate);
    say_no(429, "too_many_requests", "more requests than one peer may make; try again in a second");
    return Step::end;
  }
  const RequestHead head =
      judge_head(std::string_view(received_).substr(0, head_bytes), host_.limits.body_bytes);
  received_.erase(0, head_bytes);
  if (head.refused != 0) {
    if (head.refused == 413 || head.refused == 414 || head.refused == 431)
      host_.count(Count::refused_size);
    say_no(head.refused, "bad_request", head.why);
    return Step::end;
  }
  if (head.expects_continue && head.body_bytes > received_.size() &&
      !wire_.write("HTTP/1.1 100 Continue\r\n\r\n", host_.limits.write_time))
    return Step::end;
  std::string body;
  trouble = read_body(head.body_bytes, body);
  if (trouble != 0) {
    if (trouble == 408) {
      host_.count(Count::timed_out);
      say_no(408, "timeout", "the body didn't come");
    }
    return Step::end;
  }
  MemoryStream stream(head.text + body, wire_, peer_, host_.limits.write_time);
  Engine engine(*this, head);
  return engine.serve(stream, host_.stopping()) && !host_.stopping() ? Step::next : Step::end;
}

void Conversation::run() {
  while (true) {
    if (received_.empty() && !wire_.wait_readable(Wire::Clock::now() + host_.limits.idle_time))
      break;
    if (one_request() == Step::end) break;
  }
  wire_.finish();
}

}  // namespace vgpu::hypervisor::http
