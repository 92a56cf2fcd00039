#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Builds Weir and boots it on the emulated lab box. See usage().

set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly TOP
readonly BARE=x86_64-unknown-none
# Where everything of a run is left, wherever cargo builds.
readonly OUTPUT=$TOP/target/weir
# Descriptors of a soak for each round of the adversary's attacks beside it.
readonly SOAK_ROUND=100000

usage() {
    cat <<'END'
usage: ./run-qemu.sh [OPTIONS] [-- QEMU ARGUMENTS]

Builds Weir, its guests and (once) the emulated lab box, boots them, and judges the
run. Without options: two guests that work a file through one DSA, and one that tries
to get at theirs. The report is left in target/weir/report.json; the exit status is 0
only if every guest finished as it should.

  --input FILE    the file that the guests work (LICENSE-APACHE)
  --config FILE   another configuration than guests/weir.toml; what it names is
                  looked for beside it (docs/configuration.md); vmlinuz and initrd
                  are Debian's, by emulator/linux/build, if they are not there
  --bench         counts instructions instead, and prints the figures
  --soak N        N descriptors from three guests, beside the one that attacks
  --interactive   stays in the monitor when the guests have ended: 'help' lists its
                  commands, Ctrl-] leaves a guest's console, 'quit' ends the machine,
                  and Ctrl-A x ends QEMU whatever happens (docs/monitor.md)
  --cpus N        processors of the box (2)
  --memory SIZE   RAM of the box (1G)
  --box OPTION    an option of emulator/labbox; several times for several
  --timeout SEC   how long the guests may take (300, longer for a soak and for Linux; no
                  limit with --interactive)
  --help          this text

Exit status: 0 all is as it should be (nobody judges that with --interactive), 1 it is
not, 2 the command line is wrong.
END
}

say() { echo "run-qemu.sh: $*" >&2; }
refuse() { say "$*"; exit 2; }
fail() { say "$*"; exit 1; }

input=$TOP/LICENSE-APACHE
config=
mode=run
soak=0
interactive=no
cpus=2
memory=1G
timeout=
box=()
qemu=()

choose_mode() {
    [[ $mode == run || $mode == "$1" ]] || refuse "--bench and --soak exclude each other"
    mode=$1
}

parse_options() {
    while [[ $# -gt 0 ]]; do
        case $1 in
        --input | --config | --soak | --cpus | --memory | --box | --timeout)
            [[ $# -ge 2 && $2 != -- ]] || refuse "$1 needs a value"
            ;;&
        --input) input=$2; shift ;;
        --config) config=$2; shift ;;
        --soak) choose_mode soak; soak=$2; shift ;;
        --bench) choose_mode bench ;;
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

# A whole number that shell arithmetic can take.
is_number() { [[ $1 =~ ^[1-9][0-9]{0,8}$ ]]; }

check_options() {
    [[ -z $config || $mode == run ]] || refuse "--$mode has a configuration of its own"
    [[ $interactive == no || $mode == run ]] || refuse "--$mode is not --interactive"
    [[ -f $input && -r $input ]] || refuse "there is no file '$input' to work (--input)"
    config=${config:-$TOP/guests/weir.toml}
    [[ -f $config && -r $config ]] || refuse "there is no configuration '$config' (--config)"
    [[ $mode != soak ]] || is_number "$soak" ||
        refuse "--soak wants a number of descriptors, not '$soak'"
    is_number "$cpus" || refuse "--cpus wants a number, not '$cpus'"
    [[ $memory =~ ^[1-9][0-9]*[MG]$ ]] || refuse "--memory wants a size like 1G, not '$memory'"
    [[ -z $timeout ]] || is_number "$timeout" || refuse "--timeout wants seconds, not '$timeout'"
    command -v cargo >/dev/null ||
        fail "cargo is missing; install Rust by rustup (https://rustup.rs)"
    command -v python3 >/dev/null ||
        fail "python3 is missing; install it (Debian: apt-get install python3)"
}

# ---- What is started ----

# cargo and labbox say what they do, on standard error.
build() {
    say "building the emulated lab box, Weir and its guests"
    "$TOP/emulator/labbox" --build-only "${box[@]}"
    cd_top cargo image
    cd_top cargo guests
    local target
    target=$(cd_top cargo metadata --no-deps --format-version 1 |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
    images=$target/$BARE/release
}

# Runs a command where cargo finds our configuration, with the toolchain that the tree
# names; rustup fetches what is missing of it.
cd_top() {
    (cd "$TOP" && "$@")
}

# Puts numbers into the soak's configuration.
write_soak_config() {
    local each=$(((soak + 2) / 3)) rounds=$(((soak + SOAK_ROUND - 1) / SOAK_ROUND))
    config=$OUTPUT/soak.toml
    sed "s/@DESCRIPTORS@/$each/; s/@ROUNDS@/$rounds/" "$TOP/guests/soak/weir.toml" >"$config"
    : "${timeout:=$((600 + soak / 200))}"
}

# Whether the configuration has a guest with a Linux kernel.
has_linux() { grep -q '^ *kernel *=' "$config"; }

# Whether a kernel or an initial file system that it names is not beside it.
lacks_linux() {
    local name
    while read -r name; do
        [[ -f $(dirname "$config")/$name ]] || return 0
    done < <(sed -nE 's/^ *(kernel|initrd) *= *"([^"]+)".*/\2/p' "$config")
    return 1
}

prepare() {
    mkdir -p "$OUTPUT"
    rm -f "$OUTPUT"/{report.json,console.log,qemu.log,trace,violations}
    case $mode in
    bench)
        config=$TOP/guests/bench/weir.toml
        box+=(--icount)
        ;;
    soak) write_soak_config ;;
    esac
    # A Linux takes its time to boot.
    [[ -n $timeout ]] || ! has_linux || timeout=900
    : "${timeout:=300}"
    # Unless the box is to be something else, its DSA keeps a book of its own.
    if [[ $mode != bench && " ${box[*]} " != *" --dsa "* && " ${box[*]} " != *" --no-dsa "* ]]; then
        box+=(--dsa "trace=$OUTPUT/trace;violations=$OUTPUT/violations")
    fi
    local search=()
    if lacks_linux; then
        # The distribution's kernel and an initramfs instead.
        search=(--search "$(dirname "$config")" --search "$("$TOP/emulator/linux/build")")
    fi
    python3 "$TOP/boot/bundle" -o "$OUTPUT/bundle" "$config" "${search[@]}" \
        demo="$images/guest_demo" adversary="$images/guest_adversary" \
        bench="$images/guest_bench" input="$input"
}

# ---- The box ----

compose_command() {
    [[ $interactive == no ]] || box+=(--all-keys)
    command=("$TOP/emulator/labbox" --cpus "$cpus" --memory "$memory" "${box[@]}" --
        -kernel "$images/weir" -initrd "$OUTPUT/bundle" -serial "file:$OUTPUT/report.json")
    [[ $interactive == no ]] || command+=(-append "interactive=on")
    command+=("${qemu[@]}")
}

# The terminal is the monitor's. QEMU puts it back when it ends, but not if it is killed.
boot_interactive() {
    say "type 'help' for the monitor's commands, and 'quit' to end the machine"
    if [[ -t 0 ]]; then
        local terminal
        terminal=$(stty -g)
        # shellcheck disable=SC2064 # as it is now
        trap "stty '$terminal'" EXIT
    fi
    "${command[@]}" 2>"$OUTPUT/qemu.log" || fail "the box ended badly; see $OUTPUT/qemu.log"
}

# Shows the console, until the machine is off. Weir that cannot run halts with its
# reason on the screen, as it does where no script looks at it.
boot() {
    local machine console line status=0 has_panicked=no
    exec {console}< <(exec timeout "$timeout" "${command[@]}" </dev/null 2>"$OUTPUT/qemu.log")
    machine=$!
    trap 'kill "$machine" 2>/dev/null || true' EXIT
    while IFS= read -r line <&"$console" || [[ -n $line ]]; do
        line=${line%$'\r'}
        printf '%s\n' "$line" >>"$OUTPUT/console.log"
        printf '%s\n' "$line"
        # A panic's reason is in the line behind.
        if [[ $has_panicked == yes || $line == "weir: cannot run here: "* ]]; then
            kill "$machine"
            break
        fi
        [[ $line != "weir: panicked "* ]] || has_panicked=yes
    done
    wait "$machine" || status=$?
    trap - EXIT
    [[ $has_panicked == no ]] ||
        fail "Weir panicked; the lines above say where and why. Please report this"
    case $status in
    0 | 143) ;;
    124) fail "the guests had not ended after $timeout s (--timeout); the console is in $OUTPUT/console.log" ;;
    *) fail "QEMU ended with status $status: $(tail -n 1 "$OUTPUT/qemu.log")" ;;
    esac
}

main() {
    local images
    local -a command
    parse_options "$@"
    check_options
    build
    prepare
    compose_command
    if [[ $interactive == yes ]]; then
        boot_interactive
        exit 0
    fi
    boot
    exec python3 "$TOP/boot/judge" "$OUTPUT" "$config" "$input" "$images/weir" "$mode"
}

main "$@"
