"""The images that kubeadm asks for: those of one release of Kubernetes."""

load("//rules:component_image.bzl", "component_base", "component_image", "component_layer")
load("//rules:program.bzl", "go_program")

# Kubernetes' own.
KUBERNETES = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
]

# Each has a tarball NAME.tar, and NAME-1.36.tar and so on of other releases.
COMPONENTS = [
    "coredns",
    "etcd",
] + KUBERNETES + ["pause"]

def kubernetes_components(name, release):
    """Makes the images of a release, and their programs and layers.

    Args:
      name: the tarballs of all.
      release: one of //kubernetes:releases.bzl. Its suffix ends the names of the targets.
    """
    suffix = release.suffix
    tags = release.target_tags

    programs = {
        name: ("@{}__io_k8s_kubernetes//cmd/{}".format(release.kubernetes, name), release.kubernetes, release.tags)
        for name in KUBERNETES
    } | {
        "go-runner": ("@{}__io_k8s_component_base//logs/kube-log-runner".format(release.kubernetes), release.kubernetes, release.tags),
        "coredns": ("@{}__com_github_coredns_coredns//:coredns".format(release.coredns), release.coredns, release.coredns_tags),
    } | {
        name: ("@{}__io_etcd_go_etcd_{}_v3//:v3".format(release.etcd, module), release.etcd, [])
        for name, module in {
            "etcd": "server",
            "etcdctl": "etcdctl",
            "etcdutl": "etcdutl",
        }.items()
    }
    for program, (binary, universe, gotags) in programs.items():
        go_program(
            name = program + "_program" + suffix,
            binary = binary,
            go = release.go,
            godebug = release.godebug.get(universe, ""),
            gotags = gotags,
            program = program,
            tags = tags,
        )

    # go-runner sends a program's output to files, for clusters that kubeadm does not set up.
    component_layer(
        name = "kubernetes_layer" + suffix,
        files = {":go-runner_program" + suffix: "/go-runner"},
        tags = tags,
    )
    component_base(
        name = "kubernetes" + suffix,
        base = ":static",
        entrypoint = ["/go-runner"],
        layer = ":kubernetes_layer" + suffix,
        tags = tags,
    )
    component_base(
        name = "kube-proxy_tools" + suffix,
        base = ":kubernetes" + suffix,
        layer = ":kube-proxy_tools_layer",
        tags = tags,
    )
    for component in KUBERNETES:
        component_layer(
            name = component + "_layer" + suffix,
            # It may serve on a port below 1024 as a user other than root.
            capabilities = {"/usr/local/bin/kube-apiserver": "cap_net_bind_service=ep"} if component == "kube-apiserver" else {},
            files = {":{}_program{}".format(component, suffix): "/usr/local/bin/" + component},
            tags = tags,
        )
        component_image(
            name = component + suffix,
            base = (":kube-proxy_tools" if component == "kube-proxy" else ":kubernetes") + suffix,
            layer = component + "_layer" + suffix,
            program = ":{}_program{}".format(component, suffix),
            repository = "registry.k8s.io/" + component,
            tag = "$(VERSION)",
            tags = tags,
        )

    # CoreDNS, which runs as an ordinary user and serves port 53.
    component_layer(
        name = "coredns_layer" + suffix,
        capabilities = {"/coredns": "cap_net_bind_service=ep"},
        files = {":coredns_program" + suffix: "/coredns"},
        tags = tags,
    )
    component_image(
        name = "coredns" + suffix,
        base = ":static",
        entrypoint = ["/coredns"],
        layer = ":coredns_layer" + suffix,
        ports = [
            "53",
            "53/udp",
        ],
        program = ":coredns_program" + suffix,
        repository = "registry.k8s.io/coredns/coredns",
        tag = "$(VERSION)",
        tags = tags,
        user = "nonroot:nonroot",
    )

    # etcd. Upstream's image also holds old versions of it and a migration program; kubeadm uses
    # neither.
    component_layer(
        name = "etcd_layer" + suffix,
        files = {
            ":etcd_program" + suffix: "/usr/local/bin/etcd",
            ":etcdctl_program" + suffix: "/usr/local/bin/etcdctl",
            ":etcdutl_program" + suffix: "/usr/local/bin/etcdutl",
        },
        tags = tags,
    )
    component_image(
        name = "etcd" + suffix,
        base = ":static",
        layer = ":etcd_layer" + suffix,
        ports = [
            "2379",
            "2380",
            "4001",
            "7001",
        ],
        program = ":etcd_program" + suffix,
        repository = "registry.k8s.io/etcd",
        # The revision of the image, as kubeadm has it.
        tag = "$(BARE_VERSION)-0",
        tags = tags,
    )

    # pause, which holds a pod's namespaces.
    component_layer(
        name = "pause_layer" + suffix,
        files = {"//images/components/pause:pause" + suffix: "/pause"},
        tags = tags,
    )
    component_image(
        name = "pause" + suffix,
        entrypoint = ["/pause"],
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        layer = ":pause_layer" + suffix,
        repository = "registry.k8s.io/pause",
        tag = release.pause,
        tags = tags,
        user = "65535:65535",
    )

    native.filegroup(
        name = name,
        srcs = ["{}{}.tar".format(component, suffix) for component in COMPONENTS],
        tags = tags,
    )
