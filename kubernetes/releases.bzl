"""The releases of Kubernetes that are built, and what belongs to each."""

load("@coredns//:modules.bzl", COREDNS_TAGS = "TAGS")
load("@kubernetes_1_34//:modules.bzl", TAGS_1_34 = "TAGS", VERSION_1_34 = "VERSION")
load("@kubernetes_1_35//:modules.bzl", TAGS_1_35 = "TAGS", VERSION_1_35 = "VERSION")
load("@kubernetes_1_36//:modules.bzl", TAGS_1_36 = "TAGS", VERSION_1_36 = "VERSION")
load("@kubernetes_1_37//:modules.bzl", TAGS_1_37 = "TAGS", VERSION_1_37 = "VERSION")

# The minor that targets without a minor in their names are of.
_DEFAULT = "1.37"

def _release(minor, version, tags, pause, go = "", etcd = None, coredns = None, cni_plugins = "cni_plugins", godebug = {}):
    """Returns a release.

    Args:
      minor: 1.37.
      version: v1.37.2.
      tags: build tags of Kubernetes' programs.
      pause: TAG in build/pause/Makefile: the version of the pause image.
      go: the Go SDK that all its programs are compiled and linked with, as upstream's .go-version
        has it; that of everything else here unless given.
      etcd: the universe of its etcd, whose version kubeadm's constants name.
      coredns: that of its CoreDNS.
      cni_plugins: that of its CNI plugins.
      godebug: default of GODEBUG by universe, where its go.mod has an earlier go line than the SDK.

    Returns:
      struct(minor, version, suffix, tags, …). `suffix` ends the names of its targets.
    """
    underscored = minor.replace(".", "_")
    return struct(
        minor = minor,
        version = version,
        suffix = "" if minor == _DEFAULT else "-" + minor,
        # Whoever builds everything builds the default release alone.
        target_tags = [] if minor == _DEFAULT else ["manual"],
        kubernetes = "kubernetes_" + underscored,
        tags = tags,
        go = go,
        etcd = etcd or "etcd_" + underscored,
        coredns = coredns or "coredns_" + underscored,
        coredns_tags = COREDNS_TAGS,
        cni_plugins = cni_plugins,
        godebug = godebug,
        pause = pause,
    )

# Settings of GODEBUG whose default a release of Go has changed, and their value before
# (src/internal/godebugs/table.go).
_CHANGED = {
    24: {
        "gotestjsonbuildtext": "1",
        "httpcookiemaxnum": "0",
        "multipathtcp": "0",
        "randseednop": "0",
        "rsa1024min": "0",
        "tlsmlkem": "0",
        "urlmaxqueryparams": "0",
        "x509rsacrt": "0",
        "x509usepolicies": "0",
    },
    25: {
        "containermaxprocs": "0",
        "decoratemappings": "0",
        "tlssha1": "1",
        "updatemaxprocs": "0",
        "x509sha256skid": "0",
    },
    26: {
        "cryptocustomrand": "1",
        "tlssecpmlkem": "0",
        "urlstrictcolons": "0",
    },
}

def godebug(line, sdk):
    """Returns the default of GODEBUG that the go command derives from the go line of a go.mod.

    Args:
      line: 24 for a line `go 1.24.0`.
      sdk: 26 for Go 1.26.10.

    Returns:
      The settings, sorted: NAME=VALUE,…
    """
    settings = {}
    for changed, values in _CHANGED.items():
        if line < changed and changed <= sdk:
            settings |= values
    return ",".join(["{}={}".format(name, settings[name]) for name in sorted(settings)])

# The newest first.
RELEASES = [
    _release(
        minor = "1.37",
        version = VERSION_1_37,
        tags = TAGS_1_37,
        pause = "3.10.2",
        etcd = "etcd",
        coredns = "coredns",
        godebug = {
            "cni_plugins": godebug(24, 26),
            "coredns": godebug(25, 26),
        },
    ),
    _release(
        minor = "1.36",
        version = VERSION_1_36,
        tags = TAGS_1_36,
        pause = "3.10.2",
        go = "1.26.5",
        godebug = {
            "cni_plugins": godebug(24, 26),
            "coredns_1_36": godebug(25, 26),
            "etcd_1_36": godebug(24, 26),
        },
    ),
    _release(
        minor = "1.35",
        version = VERSION_1_35,
        tags = TAGS_1_35,
        pause = "3.10.1",
        go = "1.25.9",
        cni_plugins = "cni_plugins_1_35",
        godebug = {
            "cni_plugins_1_35": godebug(24, 25),
            "coredns_1_35": godebug(24, 25),
            "etcd_1_35": godebug(24, 25),
        },
    ),
    _release(
        minor = "1.34",
        version = VERSION_1_34,
        tags = TAGS_1_34,
        pause = "3.10.1",
        go = "1.24.12",
        cni_plugins = "cni_plugins_1_34",
        godebug = {
            "cni_plugins_1_34": godebug(23, 24),
            "coredns_1_34": godebug(23, 24),
        },
    ),
]

DEFAULT = [release for release in RELEASES if release.minor == _DEFAULT][0]
