"""The universes of the releases of Kubernetes."""

load("//rules:go.bzl", "go_universe")

# As upstream's hack/lib/version.sh sets them. A module does not tell its commit; its time stands
# for the build date.
_LINK_VALUES = [
    "gitVersion={version}",
    "gitMajor={major}",
    "gitMinor={minor}",
    "gitTreeState=clean",
    "gitCommit=",
    "buildDate={time}",
]

def kubernetes_universe(minor):
    """Declares the universe of a release of Kubernetes: kubernetes_1_37.

    Args:
      minor: 1.37. The lock is in //kubernetes/MINOR.
    """
    go_universe(
        name = "kubernetes_" + minor.replace(".", "_"),
        # As upstream's hack/lib/golang.sh sets them. Without grpcnotrace the linker keeps a third of
        # dead code.
        build_tags = [
            "grpcnotrace",
            "notest",
            "selinux",
        ],
        # e2e.test is a test.
        directives = {"k8s.io/kubernetes": []},
        link_values = {
            "k8s.io/client-go/pkg/version": _LINK_VALUES,
            "k8s.io/component-base/version": _LINK_VALUES,
        },
        lock = "//kubernetes/" + minor,
        patch_commands = {
            "k8s.io/kubernetes": [
                # e2e.test is a program that we ship.
                "sed -i 's|^    name = \"e2e_test\",$|&\\n    testonly = False,\\n    visibility = [\"//visibility:public\"],|' test/e2e/BUILD.bazel && grep -q 'testonly = False' test/e2e/BUILD.bazel",
                "echo 'exports_files([\"build/pause/linux/pause.c\"])' >> BUILD.bazel",
                "echo 'exports_files([\"localhost.crt\", \"localhost.key\"])' >> test/images/agnhost/porter/BUILD.bazel",
                "for pet in kitten nautilus; do echo 'exports_files(glob([\"*.jpg\", \"*.json\"]))' > test/images/$pet/html/BUILD.bazel; done",
                # A test reads from them which images specs need.
                "tar --create --file=e2e_sources.tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --exclude=BUILD.bazel --exclude='test/integration/*_test.go' test/conformance test/e2e test/fixtures test/integration test/utils && echo 'exports_files([\"e2e_sources.tar\"])' >> BUILD.bazel",
            ],
        },
        upstreams = ["k8s.io/kubernetes"],
    )

def etcd_universe(name, lock):
    """Declares a universe of etcd.

    Args:
      name: its name.
      lock: the package of its lock.
    """
    go_universe(
        name = name,
        lock = lock,
        upstreams = [
            "go.etcd.io/etcd/etcdctl/v3",
            "go.etcd.io/etcd/etcdutl/v3",
            "go.etcd.io/etcd/server/v3",
        ],
    )

def coredns_universe(name, lock):
    """Declares a universe of CoreDNS.

    Args:
      name: its name.
      lock: the package of its lock.
    """
    go_universe(
        name = name,
        # As upstream's Makefile sets them.
        build_tags = ["grpcnotrace"],
        lock = lock,
        upstreams = ["github.com/coredns/coredns"],
    )

def cni_plugins_universe(name, lock):
    """Declares a universe of the reference CNI plugins.

    Args:
      name: its name.
      lock: the package of its lock.
    """
    go_universe(
        name = name,
        link_values = {"github.com/containernetworking/plugins/pkg/utils/buildversion": ["BuildVersion={version}"]},
        lock = lock,
        upstreams = ["github.com/containernetworking/plugins"],
    )
