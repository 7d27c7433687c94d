// SPDX-License-Identifier: Apache-2.0
// A program that looks at its environment in every way there is, then changes it as programs do:
// prints what getenv, `environ` and the third argument of main say of the variable named by its
// argument, and what setenv leaves of it.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

void print(const char* way, const char* value) {
  std::printf("%s=%s\n", way, value != nullptr ? value : "(unset)");
}

const char* value_in(char** environment, const std::string& name) {
  for (; *environment != nullptr; ++environment) {
    if (std::strncmp(*environment, (name + "=").c_str(), name.size() + 1) == 0) {
      return *environment + name.size() + 1;
    }
  }
  return nullptr;
}

}  // namespace

int main(int argc, char** argv, char** envp) {
  if (argc != 2) return 2;
  const std::string name = argv[1];
  print("getenv", std::getenv(name.c_str()));
  print("environ", value_in(environ, name));
  print("main", value_in(envp, name));
  for (int i = 0; i < 500; ++i) setenv(("OBSERVER_" + std::to_string(i)).c_str(), "x", 1);
  unsetenv("OBSERVER_7");
  print("later", std::getenv(name.c_str()));
  setenv(name.c_str(), "own", 1);
  print("own", std::getenv(name.c_str()));
  return 0;
}
