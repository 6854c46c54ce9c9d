"""Tags of the test images."""

# By name, the tags that e2e.test of the locked Kubernetes asks for; //e2e/images:images_test holds them against it.
#
# The images of a name differ in their label only. Programs come from the tree of the locked Kubernetes, also where
# upstream's tree is already at a later version than the tag, and where e2e.test asks for an image of an older tree.
TAGS = {
    "agnhost": ["2.66.1", "2.55"],
    "busybox": ["1.37.0-2", "1.36.1-1"],
    "distroless-iptables": ["v0.9.9"],
    "glibc-dns-testing": ["2.1.1"],
    "ipc-utils": ["1.4"],
    "kitten": ["1.8"],
    "nautilus": ["1.8"],
    "nginx": ["1.28.0-2", "1.27.0-2"],
    "nonewprivs": ["1.4"],
    "nonroot": ["1.5"],
    "regression-issue-74839": ["1.5"],
    "resource-consumer": ["1.14"],
    "sample-apiserver": ["1.29.2"],
    "sample-device-plugin": ["1.7"],
}

# By name, where images come from that are not test images only.
_REGISTRIES = {
    "distroless-iptables": "registry.k8s.io/build-image",
}

def full_name(name, tag):
    """The full name of a test image: registry/name:tag."""
    return "{}/{}:{}".format(_REGISTRIES.get(name, "registry.k8s.io/e2e-test-images"), name, tag)
