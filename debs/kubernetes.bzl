"""The packages that change with the release of Kubernetes, laid out as upstream's (pkgs.k8s.io) are."""

load("//rules:deb.bzl", "deb")
load("//rules:program.bzl", "go_program")

CNI_PLUGINS = [
    "ipam/dhcp",
    "ipam/host-local",
    "ipam/static",
    "main/bridge",
    "main/dummy",
    "main/host-device",
    "main/ipvlan",
    "main/loopback",
    "main/macvlan",
    "main/ptp",
    "main/tap",
    "main/vlan",
    "meta/bandwidth",
    "meta/firewall",
    "meta/portmap",
    "meta/sbr",
    "meta/tuning",
    "meta/vrf",
]

def kubernetes_debs(name, release):
    """Makes the packages kubelet, kubeadm, kubectl and kubernetes-cni of a release, and their programs.

    Args:
      name: all four.
      release: one of //kubernetes:releases.bzl. Its suffix ends the names of the targets.
    """
    suffix = release.suffix
    for program in ["kubeadm", "kubectl", "kubelet"]:
        go_program(
            name = program + "_program" + suffix,
            binary = "@{}__io_k8s_kubernetes//cmd/{}".format(release.kubernetes, program),
            go = release.go,
            gotags = release.tags,
            program = program,
            tags = release.target_tags,
        )
    cni_programs = {}
    for plugin in CNI_PLUGINS:
        program = plugin.split("/")[1]
        cni_programs[program] = "cni_{}_program{}".format(program, suffix)
        go_program(
            name = cni_programs[program],
            binary = "@{}__com_github_containernetworking_plugins//plugins/{}".format(release.cni_plugins, plugin),
            go = release.go,
            godebug = release.godebug.get(release.cni_plugins, ""),
            program = program,
            tags = release.target_tags,
        )

    deb(
        name = "kubelet" + suffix,
        conffiles = ["/etc/default/kubelet"],
        copyright = "copyright/kubernetes",
        depends = [
            "iptables (>= 1.4.21)",
            "kubernetes-cni (>= 1.2.0)",
            "mount",
            # Essential, which policy wants named only with a version.
            "util-linux (>= 2.38)",
        ],
        description = """Node agent for Kubernetes clusters
 The kubelet runs on every node of a Kubernetes cluster. It starts the pods
 that are assigned to the node through a container runtime, and reports their
 state.""",
        directories = [
            "/etc/kubernetes/manifests",
            "/var/lib/kubelet",
        ],
        files = {
            "/etc/default/kubelet": "kubelet/kubelet.default",
            "/usr/lib/systemd/system/kubelet.service": "kubelet/kubelet.service",
        },
        homepage = "https://kubernetes.io",
        lintian_overrides = "lintian/program",
        package = "kubelet",
        postinst = "kubelet/postinst",
        postrm = "kubelet/postrm",
        prerm = "kubelet/prerm",
        program = ":kubelet_program" + suffix,
        programs = {"/usr/bin/kubelet": ":kubelet_program" + suffix},
        section = "net",
        tags = release.target_tags,
    )

    deb(
        name = "kubeadm" + suffix,
        copyright = "copyright/kubernetes",
        description = """Command-line utility for administering a Kubernetes cluster
 kubeadm sets up the control plane of a Kubernetes cluster and lets further
 nodes join it.""",
        files = {"/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf": "kubeadm/10-kubeadm.conf"},
        homepage = "https://kubernetes.io",
        lintian_overrides = "lintian/program",
        package = "kubeadm",
        program = ":kubeadm_program" + suffix,
        programs = {"/usr/bin/kubeadm": ":kubeadm_program" + suffix},
        tags = release.target_tags,
    )

    deb(
        name = "kubectl" + suffix,
        copyright = "copyright/kubernetes",
        description = """Command-line utility for interacting with a Kubernetes cluster
 kubectl shows and changes the objects of a Kubernetes cluster through its
 API.""",
        homepage = "https://kubernetes.io",
        lintian_overrides = "lintian/program",
        package = "kubectl",
        program = ":kubectl_program" + suffix,
        programs = {"/usr/bin/kubectl": ":kubectl_program" + suffix},
        tags = release.target_tags,
    )

    deb(
        name = "kubernetes-cni" + suffix,
        copyright = "copyright/cni-plugins",
        description = """Programs required to provision Kubernetes container networking
 The reference plugins of the Container Network Interface: they connect a
 container to a network and assign its addresses.""",
        directories = ["/etc/cni/net.d"],
        homepage = "https://www.cni.dev",
        lintian_overrides = "lintian/kubernetes-cni",
        package = "kubernetes-cni",
        program = ":cni_bridge_program" + suffix,
        programs = {
            "/opt/cni/bin/" + program: ":" + target
            for program, target in cni_programs.items()
        },
        section = "net",
        tags = release.target_tags,
    )

    native.filegroup(
        name = name,
        srcs = [deb + suffix for deb in [
            "kubeadm",
            "kubectl",
            "kubelet",
            "kubernetes-cni",
        ]],
        tags = release.target_tags,
    )
