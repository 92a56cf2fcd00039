#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Builds Weir and boots it on the emulated lab box. See usage().

set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly TOP
readonly BARE=x86_64-unknown-none

usage() {
    cat <<'END'
usage: ./run-qemu.sh [OPTIONS] [-- QEMU ARGUMENTS]

Builds Weir, its guests and (once) the emulated lab box, boots them, and judges the
run. Without options: two guests that work a file through one DSA, and one that tries
to get at theirs. The report is left in target/weir/report.json; the exit status is 0
only if every guest finished as it should.

  --input FILE    the file that the guests work (LICENSE-APACHE)
  --config FILE   another configuration than guests/weir.toml; what it names is
                  looked for beside it (docs/configuration.md)
  --bench         counts instructions instead, and shows what things cost
  --soak N        N descriptors from the guests of guests/soak/weir.toml
  --interactive   stays in the monitor when the guests have ended ('help' lists its
                  commands, 'quit' ends the machine)
  --cpus N        processors of the box (2)
  --memory SIZE   RAM of the box (1G)
  --box OPTION    an option of emulator/labbox; several times for several
  --timeout SEC   how long the guests may take (300; no limit with --interactive)
  --help          this text
END
}

refuse() {
    echo "run-qemu.sh: $*" >&2
    exit 2
}

input=$TOP/LICENSE-APACHE
config=$TOP/guests/weir.toml
mode=run
soak=0
interactive=no
cpus=2
memory=1G
timeout=300
box=()
qemu=()

parse_options() {
    while [[ $# -gt 0 ]]; do
        case $1 in
        --input | --config | --soak | --cpus | --memory | --box | --timeout)
            [[ $# -ge 2 && $2 != -- ]] || refuse "$1 needs a value"
            ;;&
        --input) input=$2; shift ;;
        --config) config=$2; shift ;;
        --soak) mode=soak; soak=$2; shift ;;
        --bench) mode=bench ;;
        --interactive) interactive=yes ;;
        --cpus) cpus=$2; shift ;;
        --memory) memory=$2; shift ;;
        --box) box+=("$2"); shift ;;
        --timeout) timeout=$2; shift ;;
        --help | -h) usage; exit 0 ;;
        --) shift; qemu=("$@"); return ;;
        *) refuse "unknown option '$1' (QEMU's own arguments follow --); try --help" ;;
        esac
        shift
    done
}

check_options() {
    [[ -f $input ]] || refuse "there is no file '$input' to work (--input)"
    [[ -f $config ]] || refuse "there is no configuration '$config' (--config)"
    [[ $soak =~ ^[0-9]+$ ]] || refuse "--soak wants a number of descriptors, not '$soak'"
    [[ $cpus =~ ^[1-9][0-9]*$ ]] || refuse "--cpus wants a number, not '$cpus'"
    [[ $timeout =~ ^[1-9][0-9]*$ ]] || refuse "--timeout wants seconds, not '$timeout'"
    command -v cargo >/dev/null ||
        refuse "cargo is missing; install Rust by rustup (https://rustup.rs)"
    command -v python3 >/dev/null ||
        refuse "python3 is missing; install it (Debian: apt-get install python3)"
}

# Everything that is started, and the directory that it is started from.
build() {
    echo "run-qemu.sh: building" >&2
    if command -v rustup >/dev/null; then
        (cd "$TOP" && rustup target add "$BARE" >/dev/null 2>&1) || true
    fi
    "$TOP/emulator/labbox" --build-only >/dev/null
    (cd "$TOP" && cargo image --quiet && cargo guests --quiet)
    local target
    target=$(cd "$TOP" && cargo metadata --no-deps --format-version 1 |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
    images=$target/$BARE/release
    output=$target/weir
    mkdir -p "$output"
    rm -f "$output/report.json"
}

choose_mode() {
    case $mode in
    bench)
        config=$TOP/guests/bench/weir.toml
        box+=(--icount)
        ;;
    soak) soak_config ;;
    esac
}

# The soak's configuration, with the number of descriptors that each guest is to work.
soak_config() {
    local each=$(((soak + 2) / 3))
    sed "s/@DESCRIPTORS@/$each/" "$TOP/guests/soak/weir.toml" >"$output/soak.toml"
    config=$output/soak.toml
    timeout=$((timeout + soak / 100))
}

pack() {
    python3 "$TOP/boot/bundle" -o "$output/bundle" "$config" \
        demo="$images/guest_demo" adversary="$images/guest_adversary" \
        bench="$images/guest_bench" input="$input"
}

boot() {
    local words=()
    [[ $interactive == no ]] || words=(-append "interactive=on")
    local command=("$TOP/emulator/labbox" --cpus "$cpus" --memory "$memory" "${box[@]}" --
        -kernel "$images/weir" -initrd "$output/bundle" "${words[@]}"
        -serial "file:$output/report.json" "${qemu[@]}")
    if [[ $interactive == yes ]]; then
        "${command[@]}" || true
        return
    fi
    # Weir that refuses to run halts with its reason on the screen, as it does on a
    # machine without a script to look at it.
    timeout --foreground "$timeout" "${command[@]}" </dev/null 2>"$output/qemu.log" |
        tee "$output/console.log" |
        while IFS= read -r line; do
            printf '%s\n' "$line"
            if [[ $line == "weir: cannot run here:"* || $line == "weir: panicked"* ]]; then
                pkill -P $$ -f "$output/bundle" || true
            fi
        done || true
}

main() {
    local images output
    parse_options "$@"
    check_options
    build
    choose_mode
    pack
    boot
    exec python3 "$TOP/boot/judge" "$output" "$input" "$mode"
}

main "$@"
