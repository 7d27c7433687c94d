// SPDX-License-Identifier: Apache-2.0
#include "pages.h"

#include <string>

#include "embedded.h"

namespace vgpu::hypervisor::http {
namespace {

// Own files only, nothing inline, nothing sent anywhere else, no frame around it: names of tenants
// and processes are text whatever is in them, and this holds where the page's script would fail.
constexpr const char* kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for "
    "'script'; trusted-types 'none'";

void add_file(Router& router, const char* path, const char* name, const char* type, Access access) {
  router.add({"GET", path, access, [name, type](const Ask&) {
                Answer answer;
                answer.type = type;
                answer.body = embedded(name);
                answer.headers.emplace_back("Content-Security-Policy", kPolicy);
                return answer;
              }});
}

}  // namespace

void add_page_routes(Router& router) {
  // The page is the same for everybody; what it shows it asks the API for, as its reader.
  add_file(router, "/", "index.html", "text/html; charset=utf-8", Access::open);
  add_file(router, "/page.css", "page.css", "text/css; charset=utf-8", Access::open);
  add_file(router, "/page.js", "page.js", "text/javascript; charset=utf-8", Access::open);
  add_file(router, "/openapi.yaml", "openapi.yaml", "application/yaml", Access::open);
}

}  // namespace vgpu::hypervisor::http
