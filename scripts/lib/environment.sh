# Sourced by scripts/test and scripts/demo, which have moved to the top of the checkout.
#
#   prepare_environment NAME EXTRA
#
# makes sure that .venv/NAME holds this project, editable, with that extra, and sets $python to its interpreter.
# The stamp inside is written last: an installation that was interrupted is done again. PYTHON names the
# interpreter to use; without it the newest that works is taken.

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# A candidate counts only when it runs: a version manager's shim may be there and only print an error.
is_usable() {
    "$1" -c 'import sys, venv, ensurepip; assert sys.version_info >= (3, 11)' >/dev/null 2>&1
}

find_interpreter() {
    local name candidate
    if [[ -n "${PYTHON:-}" ]]; then
        is_usable "$PYTHON" && { printf '%s\n' "$PYTHON"; return; }
        say "PYTHON=$PYTHON is not a Python 3.11 or newer with the venv and ensurepip modules."
        return 1
    fi
    for name in python3.13 python3.12 python3.11 python3; do
        while IFS= read -r candidate; do
            is_usable "$candidate" && { printf '%s\n' "$candidate"; return; }
        done < <(type -aP "$name")
    done
    say "no Python 3.11 or newer with the venv and ensurepip modules was found;" \
        "install one, or name it: PYTHON=/path/to/python scripts/${0##*/}"
    return 1
}

prepare_environment() {
    local venv=".venv/$1" extra="$2" interpreter version identity wanted output
    interpreter="$(find_interpreter)" || exit 2
    # The one below an active environment, which may be the very one that is made anew here.
    interpreter="$("$interpreter" -c 'import sys; print(sys._base_executable)')"
    version="$("$interpreter" -c 'import platform; print(platform.python_version())')"
    identity="$interpreter $version in $PWD" # an environment does not survive a move
    wanted="$identity, [$extra], pyproject.toml $(cksum <pyproject.toml)"
    python="$PWD/$venv/bin/python"

    if [[ "$(cat "$venv/stamp" 2>/dev/null)" == "$wanted" ]] && is_usable "$python"; then
        return
    fi
    if [[ "$(cat "$venv/interpreter" 2>/dev/null)" != "$identity" ]] || ! is_usable "$python"; then
        say "making $venv with Python $version ($interpreter)"
        output="$("$interpreter" -m venv --clear "$venv" 2>&1)" || {
            printf '%s\n' "$output" >&2
            say "could not make $venv; see above."
            exit 2
        }
        printf '%s\n' "$identity" >"$venv/interpreter"
    fi
    rm -f "$venv/stamp"
    say "installing the project and what it needs into $venv (a minute or two the first time)"
    "$python" -m pip install --disable-pip-version-check -qq --upgrade --editable ".[$extra]" ||
        { say "the installation failed; see above, and run it again when the cause is gone."; exit 2; }
    printf '%s\n' "$wanted" >"$venv/stamp"
}
