// SPDX-License-Identifier: Apache-2.0
// Requests and answers as the handlers know them, and the one table of what is served. A route that
// isn't in the table isn't reachable; who may use it stands in its row.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "auth.h"
#include "vgpu/platform/file.h"

namespace vgpu::hypervisor::http {

enum class Access : unsigned char {
  open,   // anybody who can connect
  read,   // whoever may read
  write,  // whoever may change
  self,   // a pod about itself: the handler looks at the caller's pod
  join,   // a process about itself: the handler looks at what the kernel says of it
};

struct Ask {
  std::string method;
  std::string path;                          // as it came, without the query
  std::map<std::string, std::string> parts;  // what stood for {name} in the route's path
  std::map<std::string, std::string> query;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  Caller caller;
  Peer peer;
  // For an answer that comes late: is the peer still there; is the server about to stop?
  std::function<bool()> is_there;
  std::function<bool()> is_ending;
  // A place to wait in, until it is let go; null: as many wait as may.
  std::function<std::shared_ptr<void>()> wait_place;

  std::string part(const std::string& name) const;
  std::optional<std::string> parameter(const std::string& name) const;
  std::string header(const std::string& name) const;
};

// What a stream sends next: waits for it, but not beyond a second or so. nullopt: that was all.
using NextChunk = std::function<std::optional<std::string>()>;

struct Answer {
  int status = 200;
  std::string type = "application/json";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
  NextChunk stream;  // instead of a body
  // Go along with it; over a Unix socket only.
  std::vector<std::shared_ptr<const platform::File>> files{};
};

struct Route {
  std::string method;
  std::string path;  // "/api/v2/tenants/{tenant}"
  Access access = Access::read;
  std::function<Answer(const Ask&)> handle;
};

// {"error": {"kind": "not_found", "message": "...", ...}}: what is said when it isn't done.
Answer problem(int status, std::string_view kind, std::string_view message);

class Router {
 public:
  void add(Route route) { routes_.push_back(std::move(route)); }
  const std::vector<Route>& routes() const { return routes_; }

  struct Match {
    const Route* route = nullptr;
    std::map<std::string, std::string> parts;
    std::vector<std::string> allowed;  // methods of this path, where the asked one isn't among them
  };
  Match find(std::string_view method, std::string_view raw_path) const;

 private:
  std::vector<Route> routes_;
};

// Percent-decoded; false: malformed, or a byte that has no place in a name (0).
bool decode_percent(std::string_view text, std::string& out);
// "a=1&b=x%20y". Later ones of the same name don't count.
bool parse_query(std::string_view text, std::map<std::string, std::string>& out);

// Is it served where pods ask in the clear?
constexpr bool is_for_pods(Access access) {
  return access == Access::open || access == Access::self;
}

// May this caller use a route of that access? Nothing: yes. Else the 401 or 403.
std::optional<Answer> refusal(Access access, const Caller& caller);

}  // namespace vgpu::hypervisor::http
