"""The channel of locked Debian packages.

* `debian_packages` declares every package of a lock; `@NAME//:PACKAGE` is its .deb file.
* `debian_archive` lays out a part of one package's files as a repository: a ruleset.

Locks are written by `scripts/lock debian`. They hold pool paths and hashes but no host: packages
come from the mirror that `DEBIAN_MIRROR` names, else from the one in the machine's own apt sources.
"""

load("//rules/private/debian:archive.bzl", _debian_archive = "debian_archive")
load("//rules/private/debian:packages.bzl", _debian_package = "debian_package", _debian_packages = "debian_packages")

debian_archive = _debian_archive
debian_package = _debian_package
debian_packages = _debian_packages
