# Shared by the scripts in this folder; sourced, not run.

# Messages go to stderr: stdout is for results.
note() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

# Runs a command without a terminal and shows what it printed only when it fails.
quietly() {
    local output
    output=$("$@" 2>&1 </dev/null) || {
        local status=$?
        printf '%s\n' "$output" >&2
        return "$status"
    }
}

# Prints how to become root, word by word; fails where that would need a password.
as_root() {
    if ((EUID == 0)); then
        printf 'env\n'
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        printf 'sudo\n-n\nenv\n'
    else
        return 1
    fi
}

can_apt() {
    command -v apt-get >/dev/null && as_root >/dev/null
}

# Installs Debian packages; needs can_apt.
apt_install() {
    local -a apt
    mapfile -t apt < <(as_root)
    apt+=(DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120)
    note "installing $*"
    # A source that cannot be reached need not be the one these packages come from.
    quietly "${apt[@]}" update || note "apt-get update failed; trying to install all the same"
    quietly "${apt[@]}" install --no-install-recommends "$@"
}
