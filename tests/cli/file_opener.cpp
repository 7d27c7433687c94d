// SPDX-License-Identifier: Apache-2.0
// Opens the file that it is told and waits to be killed: a stand-in for a program that uses a GPU's
// device file itself. Built statically, so that nothing can be preloaded into it, and once
// dynamically.
#include <fcntl.h>
#include <unistd.h>

int main(int argc, char** argv) {
  if (argc < 2) return 0;
  const int file = open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) return 1;
  while (true) pause();
}
