# What the tests need beside Rust: Python with venv, Node.js with npm, Go, Ruby, Chromium, openssl, PostgreSQL, Redis, and from their
# registries the pinned clients, an S3-compatible server, s2-lite and ClickHouse.
# Sourced by tests/run.

# The SDK asks for this much.
NODE_MAJOR_MIN=18
S3S_FS_VERSION=0.14.1
S2_LITE_VERSION=0.43.4
CHDB_VERSION=26.9.0
# Programs that take minutes to build are kept here for other clones. Nothing depends on it.
TOOL_CACHE=${CONTINUO_TOOL_CACHE:-${HOME:-/tmp}/.cache/continuo}

install_everything() {
    need_rust
    local packages=()
    has_python || packages+=(python3 python3-venv)
    has_node || packages+=(nodejs npm)
    command -v cc >/dev/null || packages+=(gcc libc6-dev)
    command -v openssl >/dev/null || packages+=(openssl)
    has_chromium || packages+=(chromium)
    has_postgres || packages+=(postgresql)
    command -v redis-server >/dev/null || packages+=(redis-server)
    command -v curl >/dev/null || packages+=(curl)
    has_go || packages+=(golang-go golang-google-grpc-dev golang-github-golang-protobuf-1-5-dev protoc-gen-go-1-5 protoc-gen-go-grpc)
    has_ruby || packages+=(ruby ruby-grpc ruby-grpc-tools ruby-googleapis-common-protos-types)
    if [[ ${#packages[@]} -gt 0 ]]; then install_packages "${packages[@]}"; fi
    has_python || give_up "python3, 3.11 or newer, with the module venv is needed"
    has_node || give_up "Node.js $NODE_MAJOR_MIN or newer with npm is needed; here is $(node --version 2>/dev/null || echo none)"
    has_chromium || give_up "Chromium is needed; set CHROMIUM_BIN if it is not /usr/bin/chromium"
    has_postgres || give_up "a PostgreSQL server with its client psql is needed"
    has_go || give_up "Go with Debian's packages of grpc and protobuf is needed, as sources under /usr/share/gocode"
    has_ruby || give_up "Ruby at /usr/bin/ruby with the gems grpc, grpc-tools and googleapis-common-protos-types is needed"
    install_python_clients
    install_node_packages tests/clients/node
    # The SDK's command line tool is larger than the other packages together, so it has a folder of its own.
    install_node_packages tests/clients/mcp
    install_node_packages tests/clients/browser
    install_node_packages tests/clients/languages
    install_node_packages tests/clients/console
    # What the console is built with. Nobody needs it to build or run the server.
    install_node_packages gateway/console
    # Real servers of what the cluster uses, without optimisation: one minute for the first, about three for the second.
    install_program s3s-fs "$S3S_FS_VERSION" s3s-fs "$WORK/s3" --features binary
    install_program s2-lite "$S2_LITE_VERSION" server "$WORK/s2"
    install_clickhouse
}

has_python() { python3 -c 'import ensurepip, sys, venv; assert sys.version_info >= (3, 11)' >/dev/null 2>&1; }
has_node() {
    command -v npm >/dev/null && node -e "process.exit(+(parseInt(process.versions.node) < $NODE_MAJOR_MIN))" 2>/dev/null
}

# Debian keeps the server's programs out of PATH.
has_postgres() {
    command -v psql >/dev/null && { command -v initdb >/dev/null || compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null; }
}
has_go() {
    command -v go >/dev/null && command -v protoc-gen-go >/dev/null && command -v protoc-gen-go-grpc >/dev/null &&
        [[ -d /usr/share/gocode/src/google.golang.org/grpc && -d /usr/share/gocode/src/google.golang.org/protobuf ]]
}
has_ruby() {
    command -v grpc_tools_ruby_protoc >/dev/null && /usr/bin/ruby -e 'require "grpc"; require "google/rpc/error_details_pb"' >/dev/null 2>&1
}
has_chromium() { command -v "${CHROMIUM_BIN:-/usr/bin/chromium}" >/dev/null; }

need_rust() {
    command -v cargo >/dev/null || give_up "cargo is missing; install Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or newer"
    cargo fmt --version >/dev/null 2>&1 || give_up "rustfmt is missing; try: rustup component add rustfmt"
    cargo clippy --version >/dev/null 2>&1 || give_up "clippy is missing; try: rustup component add clippy"
}

install_packages() {
    if ! command -v apt-get >/dev/null; then give_up "install these with your package manager: $*"; fi
    if [[ $(id -u) -ne 0 ]]; then give_up "not allowed to install; run as root: apt-get install $*"; fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

# Once per state of the requirements; a stamp is written when all of it is there.
install_python_clients() {
    local wanted=tests/clients/python/requirements.txt stamp=$VENV/installed
    if [[ -x $VENV/bin/python ]] && cmp -s "$wanted" "$stamp"; then return; fi
    rm -rf "$VENV"
    python3 -m venv "$VENV"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$wanted"
    cp "$wanted" "$stamp"
}

install_node_packages() {
    local folder=$1
    local stamp=$folder/node_modules/.installed
    if grep -q '"resolved"' $folder/package-lock.json; then give_up "$folder/package-lock.json names registry hosts; see $folder/.npmrc"; fi
    if cmp -s $folder/package-lock.json "$stamp"; then return; fi
    (cd $folder && npm ci --no-audit --no-fund --loglevel=error)
    cp $folder/package-lock.json "$stamp"
}

# A program from the registry, or the one that an earlier build left in the cache. It knows its version.
install_program() {
    local crate=$1 version=$2 bin=$3 root=$4 kept=$TOOL_CACHE/$1-$2/$3
    shift 4
    local wanted="$crate $version"
    if [[ $("$root/bin/$bin" --version 2>/dev/null) == "$wanted" ]]; then return; fi
    if [[ $("$kept" --version 2>/dev/null) == "$wanted" ]]; then
        mkdir -p "$root/bin"
        cp "$kept" "$root/bin/$bin"
        return
    fi
    CARGO_PROFILE_DEV_DEBUG=0 cargo install "$crate" --version "$version" --bin "$bin" "$@" --locked --debug --quiet --force \
        --root "$root" --target-dir "$root-build"
    rm -rf "$root-build"
    # Under its name only once it is whole; where the cache cannot be written, the next clone builds again.
    mkdir -p "$(dirname "$kept")" && cp "$root/bin/$bin" "$kept.$$" && mv "$kept.$$" "$kept" || true
}

# The engine without the Python libraries that its package asks for: they serve queries in process, and half a gigabyte is enough.
install_clickhouse() {
    local wanted="chdb-core==$CHDB_VERSION" folder=$WORK/clickhouse kept=$TOOL_CACHE/chdb-core-$CHDB_VERSION
    if [[ $(cat "$folder/installed" 2>/dev/null) == "$wanted" ]]; then return; fi
    rm -rf "$folder"
    if [[ $(cat "$kept/installed" 2>/dev/null) == "$wanted" ]]; then
        cp -r "$kept" "$folder"
        return
    fi
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$folder" "$wanted"
    echo "$wanted" >"$folder/installed"
    mkdir -p "$TOOL_CACHE" && cp -r "$folder" "$kept.$$" && rm -rf "$kept" && mv "$kept.$$" "$kept" || true
}

give_up() {
    printf 'tests/run: %s\n' "$*" >&2
    exit 1
}
