# Paths and messages that the scripts beside this file share. Bash scripts source it.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/spore"

# One target directory for running and testing, outside the checkout: the dependencies take over half an hour to build on
# two cores, and a new clone can use the build of an older one.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$CACHE/target}"
SPORE="$CARGO_TARGET_DIR/release/spore"

# Tools that scripts/setup may have installed beside those of the system.
PATH="$CACHE/node/node_modules/node/bin:$PATH"
if ! command -v cargo >/dev/null && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
    PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
fi
export PATH

# find_browser: the browser that the explorer is tested in. `scripts/setup` calls it again after it installed packages.
find_browser() {
    local candidate
    for candidate in /usr/bin/chromium /usr/bin/google-chrome \
        "$HOME"/.cache/ms-playwright/chromium_headless_shell-*/chrome-*/*headless*shell; do
        [ -x "$candidate" ] && export CHROMIUM="${CHROMIUM:-$candidate}"
    done
    [ -n "${CHROMIUM:-}" ]
}
find_browser || true

# The Python that runs the reference in the interop tests.
[ -x "$CACHE/reference/bin/python" ] && export SPORE_REFERENCE="${SPORE_REFERENCE:-$CACHE/reference/bin/python}"

say() { printf '==> %s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# build_page: builds the explorer, which the binary embeds. Does nothing when the page is newer than its sources.
build_page() {
    local dist="$ROOT/explorer-ui/dist/index.html"
    if [ -e "$dist" ] && [ -z "$(find "$ROOT/explorer-ui" -path '*/node_modules' -prune -o -path '*/dist' -prune \
        -o -type f -newer "$dist" -print -quit)" ]; then
        return
    fi
    say "building the explorer page"
    (cd "$ROOT/explorer-ui" && npm run --silent build)
}

# build_binary [ARGUMENT ...]: builds `spore` with exactly the packages and features that the tests use. The arguments go
# to cargo.
build_binary() {
    say "building spore into $CARGO_TARGET_DIR (the first time takes over half an hour on two cores)"
    (cd "$ROOT" && cargo build --release --workspace --bins --locked "$@")
}
