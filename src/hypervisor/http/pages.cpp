// SPDX-License-Identifier: Apache-2.0
#include "pages.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string>
#include <utility>

#include "embedded.h"
#include "node_state.h"

namespace vgpu::hypervisor::http {
namespace {

// Own files only, nothing inline, nothing sent anywhere else, no frame around it: names of tenants
// and processes are text whatever is in them, and this holds where the page's script would fail.
constexpr const char* kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for "
    "'script'; trusted-types 'none'";

void add_file(Router& router, const char* path, const char* type, std::string text) {
  router.add({"GET", path, Access::open, [type, text = std::move(text)](const Ask&) {
                Answer answer;
                answer.type = type;
                answer.body = text;
                answer.headers.emplace_back("Content-Security-Policy", kPolicy);
                return answer;
              }});
}

// A browser hears only those kinds of a stream's events that the script names.
std::string script() {
  constexpr std::string_view kPlace = "@EVENT_KINDS@";
  std::string text(embedded("page.js"));
  if (const auto at = text.find(kPlace); at != std::string::npos)
    text.replace(at, kPlace.size(), fmt::format("{}", fmt::join(event_names(), " ")));
  return text;
}

}  // namespace

void add_page_routes(Router& router) {
  // The page is the same for everybody; what it shows it asks the API for, as its reader.
  const auto file = [](const char* name) { return std::string(embedded(name)); };
  add_file(router, "/", "text/html; charset=utf-8", file("index.html"));
  add_file(router, "/page.css", "text/css; charset=utf-8", file("page.css"));
  add_file(router, "/page.js", "text/javascript; charset=utf-8", script());
  add_file(router, "/openapi.yaml", "application/yaml", file("openapi.yaml"));
}

}  // namespace vgpu::hypervisor::http
