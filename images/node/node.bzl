"""dind-node: a node of a cluster, of one release of Kubernetes."""

load("//images:images.bzl", "annotations")
load("//rules:image.bzl", "image", "image_layer", "image_sbom", "image_store")

def node_image(name, release):
    """Makes dind-node and what it consists of, layers in the order of their churn.

    Args:
      name: the image.
      release: one of //kubernetes:releases.bzl. Its suffix ends the names of the targets.
    """
    suffix = release.suffix
    tags = release.target_tags

    # The images that kubeadm asks for, as containerd has them once it has unpacked them. The
    # entrypoint makes containerd's root directory from them.
    image_store(
        name = "third_party_components" + suffix,
        archives = ["//images/components:{}.tar".format(name) for name in [
            "coredns" + suffix,
            "etcd" + suffix,
            "local-path-provisioner",
            "pause" + suffix,
        ]],
        base = "//images/base:dind-base",
        namespace = "k8s.io",
        path = "/usr/lib/dind-cluster/store/third-party",
        tags = tags,
    )

    image_store(
        name = "kubernetes_components" + suffix,
        archives = ["//images/components:{}{}.tar".format(name, suffix) for name in [
            "kube-apiserver",
            "kube-controller-manager",
            "kube-proxy",
            "kube-scheduler",
        ]],
        base = ":third_party_components" + suffix,
        below = ":third_party_components" + suffix,
        databases = True,
        namespace = "k8s.io",
        path = "/usr/lib/dind-cluster/store/kubernetes",
        tags = tags,
    )

    image_layer(
        name = "kubernetes" + suffix,
        base = ":kubernetes_components" + suffix,
        debs = ["//debs:cri-tools"] + ["//debs:{}{}".format(name, suffix) for name in [
            "kubeadm",
            "kubectl",
            "kubelet",
            "kubernetes-cni",
        ]],
        declarations = ["kubernetes.yaml"],
        tags = tags,
    )

    image_layer(
        name = "node" + suffix,
        base = ":kubernetes" + suffix,
        declarations = ["node.yaml"],
        files = {
            "containerd/config.toml": "/usr/lib/dind-cluster/containerd/config.toml",
            "crictl.yaml": "/etc/crictl.yaml",
            "role": "/usr/lib/dind-cluster/role",
            "systemd/devices.conf": "/usr/lib/systemd/system/kubepods-besteffort-devices.slice.d/dind-cluster.conf",
            "systemd/dind-node.service": "/usr/lib/systemd/system/dind-node.service",
            "systemd/kubelet.conf": "/usr/lib/systemd/system/kubelet.service.d/20-dind-cluster.conf",
            "systemd/system.conf": "/etc/systemd/system.conf.d/dind-cluster.conf",
            "//images/base:dind-failed.service": "/usr/lib/systemd/system/dind-failed.service",
            "//tools/loader": "/usr/bin/loader",
            "//tools/runner": "/usr/bin/runner",
        },
        symlinks = {"/usr/lib/systemd/system/kubepods-burstable-devices.slice.d/dind-cluster.conf": "../kubepods-besteffort-devices.slice.d/dind-cluster.conf"},
        tags = tags,
    )

    image(
        name = name,
        annotations = annotations("A node of a Kubernetes cluster in a container", release.version),
        base = "//images/base:dind-base",
        entrypoint = [
            "/usr/bin/runner",
            "entrypoint",
        ],
        image_name = "dind-node:" + release.version,
        layers = [
            ":third_party_components" + suffix,
            ":kubernetes_components" + suffix,
            ":kubernetes" + suffix,
            ":node" + suffix,
        ],
        stop_signal = "SIGRTMIN+3",
        tags = tags,
        # What is written a lot, and what must not be overlay on overlay.
        volumes = [
            "/var/lib/containerd",
            "/var/lib/etcd",
            "/var/lib/kubelet",
        ],
    )

    image_sbom(
        name = name + ".sbom",
        image = name,
        locks = [
            "//third_party/debian:kube-proxy.lock.json",
            "//third_party/debian:trixie.lock.json",
        ],
        programs = [
            "//images/components/iptables-wrapper",
            "//tools/loader",
            "//tools/runner",
        ],
        tags = tags,
    )
