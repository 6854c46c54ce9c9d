"""Debian packages of our own programs: `deb` makes one, `debian_root` a root to test it in."""

load("//rules/private/deb:deb.bzl", _deb = "deb")
load("//rules/private/deb:root.bzl", _debian_root = "debian_root")

deb = _deb
debian_root = _debian_root
