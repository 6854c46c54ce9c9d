"""What the images leave out of Debian packages, once for this build and for dpkg in a container."""

# Patterns as dpkg has them: a star matches slashes too. As Debian's own slim images have it: no
# documentation but the licences, and nothing else that has no use here.
_EXCLUDE = [
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
    "/usr/share/bug/*",
    "/usr/share/initramfs-tools/*",
    "/usr/share/zsh/*",
    "/usr/share/fish/*",
    "/usr/share/bash-completion/*",
    "/usr/share/docker.io/contrib/*",
    "/usr/lib/x86_64-linux-gnu/libcrun.a",
    # Converters of iconv from and to anything but Unicode, which glibc has built in.
    "/usr/lib/x86_64-linux-gnu/gconv/*",
    # Docker gives a container its addresses and routes.
    "/usr/bin/networkctl",
    "/usr/lib/systemd/systemd-networkd*",
    "/usr/lib/systemd/system/systemd-networkd*",
]

_INCLUDE = ["/usr/share/doc/*/copyright"]

# A declaration (see image/declare): the patterns, and dpkg's configuration with them.
PATHS = json.encode_indent({
    "exclude": _EXCLUDE,
    "include": _INCLUDE,
    "files": [{
        "path": "/etc/dpkg/dpkg.cfg.d/dind-base",
        "content": "".join([line + "\n" for line in [
            "# What the image leaves out of packages (see images/base/paths.bzl).",
        ] + ["path-exclude=" + pattern for pattern in _EXCLUDE] + ["path-include=" + pattern for pattern in _INCLUDE]]),
    }],
})
