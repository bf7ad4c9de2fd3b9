#!/usr/bin/env bash
# Make .venv from a lock: the CPU environment, or with AGENTARK_EXTRA=cuda the CUDA one; then .venv-lm-eval over it.
#
# Repeats are instant: the stamp holds a hash of everything that decides the environment and is written last. After an
# interruption the next call reuses what is complete. PYTHON names another interpreter (3.11 or newer).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() { echo "install: $*" >&2; exit 1; }

extra="${AGENTARK_EXTRA:-cpu}"
lock="infra/locks/$extra.txt"
[ -f "$lock" ] || die "AGENTARK_EXTRA=$extra: no such lock; use cpu or cuda"

# Ray starts its workers through a shell without quoting Python's path (2.60, runtime_env/context.py): where this path
# has a space, the environment lies in the user's data folder and .venv points to it.
venv="$PWD/.venv"
case "$PWD" in
*[[:space:]]*)
    venv="${XDG_DATA_HOME:-$HOME/.local/share}/agentark/venv-$(printf %s "$PWD" | sha256sum | cut -c1-12)"
    mkdir -p "$venv"
    if [ -e .venv ] && [ ! -L .venv ]; then die ".venv holds an environment of another place: remove it first"; fi
    ln -sfn "$venv" .venv
    ;;
esac

stamp="$venv/agentark.stamp"
kind="$venv/agentark.kind"
kind_wanted="$extra $venv"
stamp_wanted="$kind_wanted $(cat "$lock" pyproject.toml infra/install.sh | sha256sum | cut -d' ' -f1)"

if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$stamp_wanted" ]; then
    exit 0
fi
[ "$(uname -s) $(uname -m)" = "Linux x86_64" ] || die "the locks are for Linux x86-64, this is $(uname -s) $(uname -m)"

# The scripts of an environment hold its path, and both builds of vLLM own the folder vllm/. Nothing is removed here:
# somebody may be running from it.
if [ -f "$kind" ] && [ "$(cat "$kind")" != "$kind_wanted" ]; then
    die ".venv was made for '$(cat "$kind")', not for '$kind_wanted': run 'make clean', then this again"
fi

if ! "$venv/bin/python" -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    found=""
    for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3.13 python3; do
        if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            found="$candidate"
            break
        fi
    done
    [ -n "$found" ] || die "no Python 3.11 or newer with venv found; install one (Debian: python3-venv) or set PYTHON"
    echo "install: making $venv with $("$found" --version)"
    "$found" -m venv --clear "$venv"
fi
printf '%s\n' "$kind_wanted" >"$kind"

# pip writes INSTALLER when all files of a package are there: without it the package is a remnant of an interruption.
for info in "$venv"/lib/python3.*/site-packages/*.dist-info; do
    if [ -d "$info" ] && [ ! -f "$info/INSTALLER" ]; then rm -rf "$info"; fi
done

# -qq: errors only.
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }
# pip would compile 36,000 files on one core: that comes last, on all.
pip_install() { pip install -qq --no-deps --no-compile "$@"; }

echo "install: $extra environment, about 5 GB and three minutes when nothing is there yet"
if [ "$extra" = cpu ]; then
    # Some machines are set up to find the CPU build; elsewhere it is in PyTorch's own index only.
    torch="$(grep '^torch==' "$lock")"
    pip_install "$torch" 2>/dev/null ||
        pip_install "$torch" --index-url https://download.pytorch.org/whl/cpu
fi
pip_install -r "$lock"
pip_install --no-build-isolation --editable .
"$venv/bin/python" -m compileall -qq -j 0 "$venv/lib" || true  # some packages bring files that are no Python 3
"$venv/bin/python" -m agentark_core.harness.environment ||
    echo "install: lm-evaluation-harness is missing; 'agentark lm-eval' will try again" >&2
printf '%s\n' "$stamp_wanted" >"$stamp"
echo "install: done"
