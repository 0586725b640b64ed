#!/bin/sh
# Makes sure that OpenSSH's server is installed: it plays the receivers' SFTP servers, as the current user, on loopback.
# A service of the system's own is neither wanted nor started.
set -eu
PATH="$PATH:/usr/sbin:/usr/local/sbin"

has() { command -v "$1" >/dev/null 2>&1; }

has sshd && has ssh-keygen && exit 0

if [ "$(id -u)" -eq 0 ]; then
    as_root=""
elif has sudo && sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    echo "OpenSSH's server is missing and this user may not install it: install the package openssh-server" >&2
    exit 1
fi

echo "  openssh-server"
if has apt-get; then
    # Debian's package would start a server on port 22. This policy, the documented way to forbid it, is removed after.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
        $as_root chmod 755 $policy
        trap '$as_root rm -f $policy' EXIT
    fi
    install="$as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends openssh-server"
    $install >/dev/null 2>&1 || { $as_root apt-get -qq update >/dev/null && $install >/dev/null; }
elif has dnf; then
    $as_root dnf -q -y install openssh-server >/dev/null
elif has apk; then
    $as_root apk add -q openssh-server openssh-keygen openssh-sftp-server
fi

if ! has sshd || ! has ssh-keygen; then
    echo "OpenSSH's server could not be installed: install the package openssh-server" >&2
    exit 1
fi
