"""What containers of all images have from dind-base."""

ENV = {
    # By this systemd knows what it runs in.
    "container": "docker",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}

# Debian's packages for the top-level container alone: a node has no use for an engine.
DOCKER = [
    "@trixie//:docker-cli",
    "@trixie//:docker.io",
]
