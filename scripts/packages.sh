# SPDX-License-Identifier: Apache-2.0
# What the scripts share: the packages that the build needs, how progress is shown, how many jobs to run.
# Sourced by demo, test, test-gpu and lint; never run by itself.

readonly vgpu_packages=(build-essential cmake ninja-build ccache libgtest-dev libgmock-dev libbenchmark-dev
                        libcli11-dev libncurses-dev libtomlplusplus-dev nlohmann-json3-dev libfmt-dev python3 pkg-config
                        libcpp-httplib-dev prometheus-cpp-dev libjwt-dev libssl-dev libyaml-cpp-dev)

vgpu_bold='' vgpu_red='' vgpu_green='' vgpu_plain=''
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
  vgpu_bold=$'\e[1m' vgpu_red=$'\e[31m' vgpu_green=$'\e[32m' vgpu_plain=$'\e[0m'
fi

step() { printf '%s==> %s%s (%d s)\n' "$vgpu_bold" "$*" "$vgpu_plain" "$SECONDS"; }
fail() { printf '%s%s%s\n' "$vgpu_red" "$*" "$vgpu_plain" >&2; exit 1; }

# Debian and Ubuntu: installs what is missing, as root or by sudo. Elsewhere: names it and stops.
install_packages() {
  local wanted=("${vgpu_packages[@]}" "$@") missing=() name as_root=()
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    local tool
    for tool in cmake ninja g++ python3; do command -v "$tool" >/dev/null || missing+=("$tool"); done
    [[ ${#missing[@]} -eq 0 ]] && return 0
    fail "missing here: ${missing[*]}; on Debian 12 the packages are: ${wanted[*]}"
  fi
  for name in "${wanted[@]}"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || missing+=("$name")
  done
  [[ ${#missing[@]} -eq 0 ]] && return 0
  if [[ $(id -u) -ne 0 ]]; then
    command -v sudo >/dev/null || fail "missing: ${missing[*]}; as root: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  step "installing ${missing[*]}"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
    { "${as_root[@]}" apt-get update -q >/dev/null &&
      "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null; } ||
    fail "apt-get could not install: ${missing[*]}"
}

# What some tests want and skip without: a failure to install it is said and isn't one of the run.
install_if_possible() {
  local wanted
  for wanted; do
    (install_packages "$wanted") || echo "not installed: $wanted; its tests are skipped"
  done
}

# From here on this shell and what it starts run only while nothing else wants the processor.
in_idle_time() { chrt --idle --pid 0 "$BASHPID" 2>/dev/null || renice -n 19 -p "$BASHPID" >/dev/null; }

vgpu_jobs() { nproc 2>/dev/null || echo 2; }

# configure PRESET [cmake argument...]: with ccache where it is installed.
configure() {
  local preset=$1; shift
  local launcher=()
  if command -v ccache >/dev/null; then
    launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DCMAKE_C_COMPILER_LAUNCHER=ccache)
  fi
  cmake --preset "$preset" "${launcher[@]}" "$@" >"$vgpu_root/build/$preset.configure.log" 2>&1 ||
    { cat "$vgpu_root/build/$preset.configure.log" >&2; fail "cmake --preset $preset failed"; }
}

# Ninja's lines: one in ten of its steps, and all that isn't a step (what compilers say).
every_tenth_step() {
  local line last='' count=0
  while IFS= read -r line; do
    if [[ $line == \[*/*\]* ]]; then
      last=$line
      ((count++ % 10 == 0)) || continue
      last=''
    fi
    printf '%s\n' "$line"
  done
  if [[ -n $last ]]; then printf '%s\n' "$last"; fi
}

# build PRESET [target...]: ninja's own progress on a terminal, one line in ten elsewhere.
build() {
  local preset=$1; shift
  local targets=()
  [[ $# -gt 0 ]] && targets=(--target "$@")
  if [[ -t 1 ]]; then
    cmake --build --preset "$preset" --parallel "$(vgpu_jobs)" "${targets[@]}" || fail "the $preset build failed"
  else
    cmake --build --preset "$preset" --parallel "$(vgpu_jobs)" "${targets[@]}" | every_tenth_step ||
      fail "the $preset build failed"
  fi
}
