"""dind-cluster: a whole cluster in one container, of one release of Kubernetes."""

load("//images:images.bzl", "annotations")
load("//images/base:config.bzl", "ENV")
load("//rules:image.bzl", "image", "image_layer", "image_sbom", "image_unpacked")
load("//rules:program.bzl", "go_program")

def cluster_image(name, release):
    """Makes dind-cluster and what it consists of. Its layers also hold those of the node image, unpacked.

    Args:
      name: the image.
      release: one of //kubernetes:releases.bzl. Its suffix ends the names of the targets.
    """
    suffix = release.suffix
    tags = release.target_tags

    go_program(
        name = "e2e_test_program" + suffix,
        binary = "@{}__io_k8s_kubernetes//test/e2e:e2e_test".format(release.kubernetes),
        go = release.go,
        gotags = release.tags,
        is_test = True,
        program = "e2e.test",
        tags = tags,
    )

    go_program(
        name = "ginkgo_program" + suffix,
        binary = "@{}__com_github_onsi_ginkgo_v2//ginkgo".format(release.kubernetes),
        go = release.go,
        gotags = release.tags,
        program = "ginkgo",
        tags = tags,
    )

    # What changes with Kubernetes lies together: its programs have much in common, which makes the
    # layer smaller.
    image_layer(
        name = "kubernetes" + suffix,
        base = ":docker",
        # It is compressed together with the node's layer beside it, below.
        compression = "none",
        debs = ["//debs:kubectl" + suffix],
        files = {
            ":e2e_test_program" + suffix: "/usr/bin/e2e.test",
            ":ginkgo_program" + suffix: "/usr/bin/ginkgo",
            "//e2e/images:needs{}.json".format(suffix): "/usr/lib/dind-cluster/e2e/needs.json",
        },
        tags = tags,
    )

    image_layer(
        name = "cluster" + suffix,
        base = ":kubernetes" + suffix,
        compression = "none",
        declarations = ["cluster.yaml"],
        files = {
            "containerd/config.toml": "/etc/containerd/config.toml",
            "docker/daemon.json": "/etc/docker/daemon.json",
            "role": "/usr/lib/dind-cluster/role",
            "systemd/dind-balancer.service": "/usr/lib/systemd/system/dind-balancer.service",
            "systemd/dind-cluster.service": "/usr/lib/systemd/system/dind-cluster.service",
            "systemd/dind-dns.service": "/usr/lib/systemd/system/dind-dns.service",
            "systemd/engine.conf": "/usr/lib/systemd/system/containerd.service.d/dind-cluster.conf",
            "systemd/system.conf": "/etc/systemd/system.conf.d/dind-cluster.conf",
            "//images/base:dind-failed.service": "/usr/lib/systemd/system/dind-failed.service",
            "//tools/e2e": "/usr/bin/e2e",
            "//tools/loader": "/usr/bin/loader",
            "//tools/runner": "/usr/bin/runner",
        },
        symlinks = {
            "/usr/bin/kubeconfig": "runner",
            "/usr/lib/systemd/system/docker.service.d/dind-cluster.conf": "../containerd.service.d/dind-cluster.conf",
        },
        tags = tags,
    )

    # Beside each layer the one of the node image that changes with it.
    image_unpacked(
        name = "layers" + suffix,
        base = "//images/base:dind-base",
        image = "//images/node:dind-node" + suffix,
        namespace = "moby",
        own = {
            ":docker": "",
            ":kubernetes" + suffix: "//images/node:kubernetes" + suffix,
            ":cluster" + suffix: "//images/node:node" + suffix,
        },
        path = "/usr/lib/dind-cluster/store/node",
        tags = tags,
    )

    image(
        name = name,
        annotations = annotations("A whole Kubernetes cluster of several nodes in one container", release.version, "cluster"),
        entrypoint = [
            "/usr/bin/runner",
            "entrypoint",
        ],
        env = ENV,
        exposed_ports = ["6443"],
        # Often while it starts, so that the health status does not lag behind a cluster that is
        # ready. The period of the start ends with the first success; it is as long as TIMEOUT may
        # be, since no cluster is unhealthy only because its user gave it more time.
        health_interval = "10s",
        health_retries = 3,
        health_start_interval = "1s",
        health_start_period = "24h",
        health_timeout = "5s",
        healthcheck = [
            "/usr/bin/runner",
            "health",
        ],
        image_name = "dind-cluster:" + release.version,
        layers = [":layers" + suffix],
        stop_signal = "SIGRTMIN+3",
        tags = tags,
        volumes = ["/var/lib/docker"],
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
            "//tools/e2e",
            "//tools/loader",
            "//tools/runner",
        ],
        tags = tags,
    )
