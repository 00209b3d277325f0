# Steps, their durations and their counts. Sourced by tests/run.

# Process groups of the steps under way, by name.
declare -A RUNNING=()
PASSED=0
FAILED=0
TABLE=()
ONLY=("$@")

wanted() {
    local name=$1 only
    [[ ${#ONLY[@]} -eq 0 || $name == install ]] && return 0
    for only in "${ONLY[@]}"; do [[ $name == "$only"* ]] && return 0; done
    return 1
}

# Runs a function as a step. What it prints decides its counts; a step that counts nothing is one check.
step() {
    wanted "$1" || return 0
    printf '\n== %s\n' "$1"
    launch "$@"
    conclude "$1"
}

# Begins a step that mostly waits, beside those that follow.
begin() {
    wanted "$1" || return 0
    printf '\n== %s begins, and is told when it is joined\n' "$1"
    launch "$@"
}

# Shows what a step that was begun has printed, and waits for it.
join() {
    wanted "$1" || return 0
    printf '\n== %s\n' "$1"
    conclude "$1"
}

log_of() { printf '%s/%s.log' "$WORK" "${1//[^a-z0-9]/-}"; }

# In a subshell with its own `set -e`, which an `if` or `||` would switch off, and in a process group of its own, so that an
# interrupted run takes with it what it started.
launch() {
    local name=$1 function=$2 began=$SECONDS log
    log=$(log_of "$name")
    : >"$log"
    set -m
    { set +e; (set -e; "$function") >"$log" 2>&1; echo "$? $((SECONDS - began))" >"$log.code"; } &
    set +m
    RUNNING[$name]=$!
}

conclude() {
    local name=$1 log code took passed failed
    log=$(log_of "$name")
    # Waited for, not run: a signal to the run counts at once.
    tail --lines +1 --follow --sleep-interval 0.2 --pid "${RUNNING[$name]}" "$log" &
    wait $!
    wait "${RUNNING[$name]}"
    unset "RUNNING[$name]"
    read -r code took <"$log.code"
    LAST_CODE=$code
    read -r passed failed < <(counts "$log")
    if [[ $((passed + failed)) -eq 0 ]]; then
        passed=$((code == 0)) failed=$((code != 0))
    elif [[ $code -ne 0 && $failed -eq 0 ]]; then
        failed=1 # something beside the tests failed, the compiler for example
    fi
    PASSED=$((PASSED + passed)) FAILED=$((FAILED + failed))
    TABLE+=("$(printf '%-20s %7d %7d %6ds' "$name" "$passed" "$failed" "$took")")
    printf '== %s: %d passed, %d failed, %d s\n' "$name" "$passed" "$failed" "$took"
    if [[ $name == install && $code -ne 0 ]]; then exit 1; fi
}

# Passed and failed of a log: cargo-nextest, cargo test, and our own suites each have their last line.
counts() {
    sed 's/\x1b\[[0-9;]*m//g' "$1" | awk '
        /^ *Summary \[/ {
            # a test that ran out of time or was not run at all has not passed
            for (i = 1; i < NF; i++) {
                if ($(i + 1) ~ /^tests?$/) { split($i, n, "/"); total = n[length(n)] }
                if ($(i + 1) ~ /^passed/) ok = $i
            }
            passed += ok; failed += total - ok
        }
        /^test result: / { for (i = 1; i < NF; i++) { if ($(i + 1) ~ /^passed/) passed += $i; if ($(i + 1) ~ /^failed/) failed += $i } }
        /^[0-9]+ passed, [0-9]+ failed$/ { passed += $1; failed += $3 }
        END { print passed + 0, failed + 0 }'
}

interrupted() { exit 143; }

report() {
    local code=$? group
    # Whatever ended the run, nothing that it began goes on.
    for group in "${RUNNING[@]}"; do kill -TERM -- "-$group" 2>/dev/null || true; done
    # Ended before the last step: that is a failure too.
    if [[ $code -ne 0 && $FAILED -eq 0 ]]; then FAILED=1; fi
    printf '\n%-20s %7s %7s %7s\n' step passed failed time
    if [[ ${#TABLE[@]} -gt 0 ]]; then printf '%s\n' "${TABLE[@]}"; fi
    printf '%d passed, %d failed\n' "$PASSED" "$FAILED"
    if [[ $FAILED -ne 0 || $PASSED -eq 0 ]]; then exit 1; fi
    exit 0
}
